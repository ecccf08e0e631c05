#!/usr/bin/env python3
"""Recomputes the demo's figures from the raw purchase log, without any of the product's code.

    tools/recompute_demo.py                        the expected figures, as JSON
    tools/recompute_demo.py --compare demo.json    compare them with what `alpes demo --json` printed; 1 when they differ

Only the standard library, only integers: cents for money, seconds since 1970 for time. There are no states, no events and no
ledger here: every figure is a plain sum over the log, so that it can be checked by reading. The references (R3 …) are the
sections of the rules of the money; "the demo" is the demo's definition.
"""

import argparse
import calendar
import gzip
import json
import pathlib
import sys
from collections import namedtuple

DAY = 86_400  # seconds
PARTNERS = 12
WINDOW = 400 * DAY
CAP = 2_500  # cents per conversion, in both versions of the terms
TERMS_2_FROM = calendar.timegm((1997, 7, 1, 0, 0, 0))
TERMS_1_BASIS_POINTS = 800
TERMS_2_BASIS_POINTS = 600
BONUS = 150
BONUS_MINIMUM = 1_000
AUTOMATIC_LIMIT = 1_000  # kept cents, inclusive
FAILED_PARTNER = 5  # payout 1: the gateway fails this partner's item
RETURNED_PARTNER = 9  # payout 1: settled, and then returned
DEFAULT_LOG = pathlib.Path(__file__).resolve().parent.parent / "crates/server/demo/cdnow_master.txt.gz"

Purchase = namedtuple("Purchase", "line customer day_start occurred_at amount")
Touch = namedtuple("Touch", "occurred_at partner")


def ratio_half_up(amount, numerator, denominator):
    """amount * numerator / denominator, rounded half-up; all arguments are >= 0."""
    return (2 * amount * numerator + denominator) // (2 * denominator)


def read_log(path):
    """The purchases in the log's order. `line` is the data row's number, from 1."""
    opened = gzip.open(path, "rt", encoding="ascii") if str(path).endswith(".gz") else open(path, encoding="ascii")
    purchases = []
    with opened as log:
        next(log)  # the header
        for line, row in enumerate(log, start=1):
            customer, date, _quantity, value = row.split()
            dollars, cents = value.split(".")
            if len(cents) != 2 or len(customer) != 5 or len(date) != 8:
                sys.exit(f"row {line} has another form: {row!r}")
            day_start = calendar.timegm((int(date[:4]), int(date[4:6]), int(date[6:]), 0, 0, 0))
            occurred_at = day_start + line % DAY
            purchases.append(Purchase(line, customer, day_start, occurred_at, int(dollars) * 100 + int(cents)))
    return purchases


def first_purchases(purchases):
    """R5: each customer's first sale by (occurred_at, source, external_id); the source is always `cdnow` and the external id
    is the line's number as text, compared bytewise. What it was worth and who is credited does not matter."""
    first = {}
    for purchase in purchases:
        key = (purchase.occurred_at, str(purchase.line).encode())
        if purchase.customer not in first or key < first[purchase.customer][0]:
            first[purchase.customer] = (key, purchase)
    return {customer: purchase for customer, (_key, purchase) in first.items()}


def touches_of(customer, first_day):
    """The demo: the click touches of one customer; `first_day` is 00:00:00Z of the customer's first date."""
    number = int(customer)
    if number % 5 not in (1, 2, 3):
        return []
    touches = [Touch(first_day - DAY, 1 + number % PARTNERS)]
    if number % 7 == 2:
        touches.append(Touch(first_day + 100 * DAY, 1 + (number + 5) % PARTNERS))
    return touches


def credited_partner(purchase, touches):
    """R4: the number of the partner, or None. All partners are active and enrolled throughout, so nobody falls through."""
    number = int(purchase.customer)
    own_partner = 1 + number % PARTNERS
    if number % 5 == 0:
        return own_partner  # by the code
    if number % 5 == 4:
        return None if number % 50 == 49 else own_partner  # by the partner's id, or nothing at all
    matching = [touch for touch in touches if 0 <= purchase.occurred_at - touch.occurred_at <= WINDOW]
    # Last touch. Two touches of one customer never share their instant here, so the rule for ties has nothing to decide.
    return max(matching).partner if matching else None


def gross_commission(purchase, is_first):
    """R5: (cents, whether the bonus is in it, whether the cap cut it) under the terms in force at the purchase's time."""
    if purchase.occurred_at < TERMS_2_FROM:
        earned = ratio_half_up(purchase.amount, TERMS_1_BASIS_POINTS, 10_000)
        bonus = BONUS if is_first and purchase.amount >= BONUS_MINIMUM else 0
    else:
        earned = ratio_half_up(purchase.amount, TERMS_2_BASIS_POINTS, 10_000)
        bonus = 0
    return min(earned + bonus, CAP), bonus > 0, earned + bonus > CAP


def kept_of(gross, amount, refunded):
    """R6: what is kept of `gross` after refunds that sum to `refunded`. The amount is above zero wherever the demo refunds."""
    if refunded == 0:
        return gross
    return ratio_half_up(gross, amount - min(amount, refunded), amount)


def recompute(purchases):
    """Every figure of the demo, after the chargebacks and before payout 2."""
    first = first_purchases(purchases)
    touches = {customer: touches_of(customer, purchase.day_start) for customer, purchase in first.items()}
    funnel = dict.fromkeys(
        ("delivered", "duplicates", "recorded", "attributed", "unattributed", "rejected", "touches", "refunds", "chargebacks",
         "zero_amount"), 0)
    funnel["touches"] = sum(map(len, touches.values()))
    commissions = dict.fromkeys(
        ("earned", "approved_by_policy", "approved_by_operator", "with_bonus", "capped", "kept_nothing_at_approval", "refunded",
         "charged_back"), 0)
    partners = {number: dict.fromkeys(("conversions", "commissions", "accrued", "refunded", "charged_back"), 0)
                for number in range(1, PARTNERS + 1)}

    for purchase in purchases:
        has_refund = purchase.line % 40 == 7 and purchase.amount > 0
        has_chargeback = purchase.line % 201 == 13 and purchase.amount > 0
        funnel["recorded"] += 1
        funnel["duplicates"] += purchase.line % 19 == 3
        funnel["zero_amount"] += purchase.amount == 0
        funnel["refunds"] += has_refund
        funnel["chargebacks"] += has_chargeback
        number = credited_partner(purchase, touches[purchase.customer])
        if number is None:
            funnel["unattributed"] += 1
            continue
        funnel["attributed"] += 1
        partner = partners[number]
        partner["conversions"] += 1

        gross, with_bonus, capped = gross_commission(purchase, first[purchase.customer] is purchase)
        if gross == 0:
            continue  # R5: zero earns no commission
        refunded = ratio_half_up(purchase.amount, 1, 2) if has_refund else 0
        kept_at_approval = kept_of(gross, purchase.amount, refunded)
        # A chargeback is the whole amount, so R = min(A, sum) is A whatever was refunded before.
        kept = 0 if has_chargeback else kept_at_approval

        partner["commissions"] += 1
        partner["accrued"] += gross
        partner["refunded"] += gross - kept_at_approval
        partner["charged_back"] += kept_at_approval - kept
        commissions["earned"] += 1
        commissions["with_bonus"] += with_bonus
        commissions["capped"] += capped
        commissions["refunded"] += has_refund
        commissions["charged_back"] += has_chargeback
        commissions["kept_nothing_at_approval"] += kept_at_approval == 0
        by = "approved_by_policy" if kept_at_approval <= AUTOMATIC_LIMIT else "approved_by_operator"
        commissions[by] += 1

    funnel["delivered"] = funnel["recorded"] + funnel["duplicates"]
    rows = [partner_row(number, sums) for number, sums in sorted(partners.items())]
    return {
        "input": {
            "rows": len(purchases),
            "customers": len(first),
            "amount_minor": sum(purchase.amount for purchase in purchases),
        },
        "funnel": funnel,
        "commissions": commissions,
        "partners": rows,
        "totals": {key: sum(row[key] for row in rows) for key in rows[0] if key != "number"},
        "payouts": payouts(rows),
    }


def partner_row(number, sums):
    """R8, R9: payout 1 pays all that is payable before the chargebacks; a failed or returned item is payable again."""
    payable_at_payout_1 = sums["accrued"] - sums["refunded"]
    paid = 0 if number in (FAILED_PARTNER, RETURNED_PARTNER) else payable_at_payout_1
    reversed_minor = sums["refunded"] + sums["charged_back"]
    return {
        "number": number,
        "conversions": sums["conversions"],
        "commissions": sums["commissions"],
        "accrued_minor": sums["accrued"],
        "refunded_minor": sums["refunded"],
        "charged_back_minor": sums["charged_back"],
        "reversed_minor": reversed_minor,
        "paid_minor": paid,
        "payable_minor": sums["accrued"] - reversed_minor - paid,
    }


def payouts(rows):
    """Payout 1 as it ended, and payout 2 as a dry run: who would be paid, and whose balance is carried (R9)."""
    outcomes = {FAILED_PARTNER: "failed", RETURNED_PARTNER: "returned"}
    first = [{
        "number": row["number"],
        "amount_minor": row["accrued_minor"] - row["refunded_minor"],
        "outcome": outcomes.get(row["number"], "settled"),
    } for row in rows]
    second = [{"number": row["number"], "amount_minor": row["payable_minor"]} for row in rows if row["payable_minor"] > 0]
    carried = [{"number": row["number"], "amount_minor": row["payable_minor"]} for row in rows if row["payable_minor"] <= 0]
    return [
        {"number": 1, "dry_run": False, "total_minor": sum(item["amount_minor"] for item in first),
         "net_paid_minor": sum(row["paid_minor"] for row in rows), "items": first},
        {"number": 2, "dry_run": True, "total_minor": sum(item["amount_minor"] for item in second),
         "items": second, "carried": carried},
    ]


# What the demo's JSON must contain. Everything else that is computed above is compared where the demo gives it too.
REQUIRED = {
    "funnel": ("delivered", "duplicates", "recorded", "attributed", "unattributed", "touches", "refunds", "chargebacks"),
    "partners": ("number", "accrued_minor", "reversed_minor", "paid_minor", "payable_minor"),
}


def differences(expected, actual, where=""):
    """Lines that say where `actual` differs. A key that only one side has is no difference; see `missing`. Rows of a list
    are matched by their `number`, so a row too few or too many is one."""
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return [f"{where}: expected an object, found {actual!r}"]
        shared = [key for key in expected if key in actual]
        return [line for key in shared for line in differences(expected[key], actual[key], f"{where}/{key}")]
    if isinstance(expected, list):
        if not isinstance(actual, list) or not all(isinstance(row, dict) and "number" in row for row in actual):
            return [f"{where}: expected a list of rows with a number, found {actual!r}"]
        numbers = [row["number"] for row in expected], [row["number"] for row in actual]
        if sorted(numbers[0]) != sorted(numbers[1]):
            return [f"{where}: expected the numbers {numbers[0]}, found {numbers[1]}"]
        rows = {row["number"]: row for row in actual}
        return [line for row in expected
                for line in differences(row, rows[row["number"]], f"{where}/{row['number']}")]
    # 1 == True in Python; a figure must be a number of the same type.
    if type(expected) is not type(actual) or expected != actual:
        return [f"{where}: expected {expected!r}, found {actual!r}"]
    return []


def missing(actual):
    """Lines that say which of the required figures the demo does not give."""
    if not isinstance(actual, dict):
        return ["expected an object"]
    lines = []
    for table, keys in REQUIRED.items():
        rows = actual.get(table)
        for row in rows if isinstance(rows, list) else [rows]:
            row = row if isinstance(row, dict) else {}
            lines += [f"/{table}: {key} is missing" for key in keys if key not in row]
    return lines


def main():
    parser = argparse.ArgumentParser(description="Recomputes the demo's figures from the raw purchase log.")
    parser.add_argument("--log", type=pathlib.Path, default=DEFAULT_LOG, help="the purchase log, as text or .gz")
    parser.add_argument("--compare", type=pathlib.Path, metavar="FILE",
                        help="compare with the output of `alpes demo --json` (- is standard input); exit code 1 when it differs")
    arguments = parser.parse_args()
    expected = recompute(read_log(arguments.log))
    if arguments.compare is None:
        print(json.dumps(expected, indent=2))
        return 0
    text = sys.stdin.read() if str(arguments.compare) == "-" else arguments.compare.read_text(encoding="utf-8")
    actual = json.loads(text)
    lines = missing(actual) or differences(expected, actual)
    for line in lines:
        print(line)
    print(f"{len(lines)} differences" if lines else "the demo's figures are those of the raw log")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
