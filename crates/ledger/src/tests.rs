use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{CampaignId, Currency, IdSource, ManualClock, NewEvent, PartnerId, Result, Timestamp};
use platform::{Db, DbOptions, Lane, Tx};
use proptest::prelude::*;

use super::*;
use crate::roll_up::roll_up_at;

fn db() -> Db {
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(1_767_225_600_000_000)));
    let migrations = vec![platform::MIGRATIONS, MIGRATIONS];
    Db::for_test(DbOptions { clock, ids: IdSource::from_number(1), hook: None, migrations }).unwrap()
}

fn write<T>(db: &Db, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> T {
    db.write("test", Lane::Back, "tester", work).unwrap()
}

const EUR: &str = "EUR";

fn partner(n: u8) -> PartnerId {
    PartnerId::from_bytes([n; 16])
}

fn entry(kind: EntryKind, partner_number: u8, amount_minor: i64, currency: &str) -> Entry {
    let (debit, credit) = kind.sides();
    let touches = |account| debit == account || credit == account;
    Entry {
        kind,
        partner_id: partner(partner_number),
        campaign_id: touches(Account::CommissionExpense).then(|| CampaignId::from_bytes([200; 16])),
        gateway: touches(Account::Cash).then(|| "sandbox".to_owned()),
        source_id: [7; 16],
        amount_minor,
        currency: currency.parse().unwrap(),
    }
}

/// An event that tells `entries`, as commissions and payments do.
fn telling(entries: &[Entry]) -> NewEvent {
    let notes: Vec<String> = entries
        .iter()
        .map(|e| {
            format!("{{\"kind\":\"{}\",\"amount_minor\":{},\"digest\":\"{}\"}}", e.kind, e.amount_minor, e.digest())
        })
        .collect();
    NewEvent {
        event_type: "commissions.accrued.v1",
        aggregate: "commission",
        subject: "com_1".to_owned(),
        payload: format!("{{\"inputs_digest\":\"00\",\"entries\":[{}]}}", notes.join(",")),
        causation_id: None,
        correlation_id: None,
    }
}

/// Publishes one event per group and posts its entries; answers the last position.
fn record(db: &Db, groups: &[Vec<Entry>]) -> i64 {
    let events: Vec<NewEvent> = groups.iter().map(|group| telling(group)).collect();
    write(db, |tx| {
        let first = tx.publish(&events)?;
        let entries: Vec<(i64, i64, Entry)> = (first..)
            .zip(groups)
            .flat_map(|(position, group)| (0..).zip(group).map(move |(line, entry)| (position, line, entry.clone())))
            .collect();
        post(tx, &entries)
    });
    db.head()
}

type Fold = BTreeMap<(PartnerId, Currency), Balance>;

/// The rules of section 8, a second time and by hand.
fn naive(fold: &mut Fold, entry: &Entry) {
    use EntryKind as K;
    let b = fold.entry((entry.partner_id, entry.currency)).or_default();
    let x = entry.amount_minor;
    let (accrued, reversed, adjusted, written_off, pending, payable, in_payout, paid) = match entry.kind {
        K::Accrued => (x, 0, 0, 0, x, 0, 0, 0),
        K::Undone | K::Rejected => (-x, 0, 0, 0, -x, 0, 0, 0),
        K::ReversedPending => (0, x, 0, 0, -x, 0, 0, 0),
        K::RestoredPending => (0, -x, 0, 0, x, 0, 0, 0),
        K::Approved => (0, 0, 0, 0, -x, x, 0, 0),
        K::Reversed => (0, x, 0, 0, 0, -x, 0, 0),
        K::Restored => (0, -x, 0, 0, 0, x, 0, 0),
        K::AdjustedUp => (0, 0, x, 0, 0, x, 0, 0),
        K::AdjustedDown => (0, 0, -x, 0, 0, -x, 0, 0),
        K::WrittenOff => (0, 0, 0, x, 0, x, 0, 0),
        K::PayoutCreated => (0, 0, 0, 0, 0, -x, x, 0),
        K::PayoutReleased => (0, 0, 0, 0, 0, x, -x, 0),
        K::Settled => (0, 0, 0, 0, 0, 0, -x, x),
        K::Returned => (0, 0, 0, 0, 0, x, 0, -x),
    };
    b.accrued_minor += accrued;
    b.reversed_minor += reversed;
    b.adjusted_minor += adjusted;
    b.written_off_minor += written_off;
    b.pending_minor += pending;
    b.payable_minor += payable;
    b.in_payout_minor += in_payout;
    b.paid_minor += paid;
}

fn shown(db: &Db, position: i64, only: Option<PartnerId>) -> Fold {
    let found = db.read(|reader| balances(reader, position, only)).unwrap();
    found.into_iter().map(|one| ((one.partner_id, one.currency), one.balance)).collect()
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let kinds = prop::sample::select(EntryKind::ALL);
    (kinds, 1_u8..4, 1_i64..1_000_000, prop::bool::ANY)
        .prop_map(|(kind, partner, amount, euro)| entry(kind, partner, amount, if euro { EUR } else { "USD" }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any entries in any grouping, rolled up at any moments: at every position the balances are a plain fold.
    #[test]
    fn balances_at_every_position_are_a_plain_fold(
        batches in prop::collection::vec((prop::collection::vec(prop::collection::vec(any_entry(), 0..4), 1..5), prop::bool::ANY), 1..12)
    ) {
        let db = db();
        let (mut fold, mut known) = (Fold::new(), vec![Fold::new()]);
        for (groups, rolls_up) in &batches {
            for group in groups {
                group.iter().for_each(|entry| naive(&mut fold, entry));
                known.push(fold.clone());
            }
            let head = record(&db, groups);
            if *rolls_up {
                write(&db, |tx| roll_up_at(tx, head));
            }
        }
        for (position, expected) in (0..).zip(&known) {
            prop_assert_eq!(&shown(&db, position, None), expected);
            let own: Fold = expected.iter().filter(|(key, _)| key.0 == partner(2)).map(|(k, v)| (*k, *v)).collect();
            prop_assert_eq!(shown(&db, position, Some(partner(2))), own);
            prop_assert!(expected.values().all(Balance::is_balanced), "every kind of entry keeps the equation");
            check_trial_balance(&db, position, expected)?;
        }
        let (entries, differences) = db.read(check).unwrap();
        let posted: usize = batches.iter().flat_map(|(groups, _)| groups).map(Vec::len).sum();
        prop_assert_eq!((usize::try_from(entries), differences), (Ok(posted), Vec::new()));
        prop_assert_eq!(usize::try_from(db.head()), Ok(known.len() - 1));
    }
}

fn check_trial_balance(db: &Db, position: i64, expected: &Fold) -> std::result::Result<(), TestCaseError> {
    let lines = db.read(|reader| trial_balance(reader, position)).unwrap();
    for currency in ["USD", EUR] {
        let currency: Currency = currency.parse().unwrap();
        let sum: i64 = lines.iter().filter(|line| line.currency == currency).map(|line| line.balance_minor).sum();
        prop_assert_eq!(sum, 0);
        let of = |account: String| -> i64 {
            lines
                .iter()
                .filter(|line| line.currency == currency && line.account == account)
                .map(|line| -line.balance_minor)
                .sum()
        };
        for n in 1..4 {
            let balance = expected.get(&(partner(n), currency)).copied().unwrap_or_default();
            let of = |account: Account| of(format!("{account}:{}", partner(n)));
            prop_assert_eq!(of(Account::PartnerPending), balance.pending_minor);
            prop_assert_eq!(of(Account::PartnerPayable), balance.payable_minor);
            prop_assert_eq!(of(Account::PartnerInPayout), balance.in_payout_minor);
        }
        let paid: i64 =
            expected.iter().filter(|(key, _)| key.1 == currency).map(|(_, balance)| balance.paid_minor).sum();
        prop_assert_eq!(of("cash:sandbox".to_owned()), paid);
    }
    Ok(())
}

/// One commission's way: accrued 10.00, 4.00 refunded before and 1.00 after approval, paid, returned, written off.
#[test]
fn a_commission_goes_its_way() {
    use EntryKind as K;
    let db = db();
    let steps: [(K, i64, [i64; 8]); 9] = [
        (K::Accrued, 1_000, [1_000, 0, 0, 0, 1_000, 0, 0, 0]),
        (K::ReversedPending, 400, [1_000, 400, 0, 0, 600, 0, 0, 0]),
        (K::Approved, 600, [1_000, 400, 0, 0, 0, 600, 0, 0]),
        (K::PayoutCreated, 600, [1_000, 400, 0, 0, 0, 0, 600, 0]),
        (K::Settled, 600, [1_000, 400, 0, 0, 0, 0, 0, 600]),
        (K::Reversed, 100, [1_000, 500, 0, 0, 0, -100, 0, 600]),
        (K::WrittenOff, 30, [1_000, 500, 0, 30, 0, -70, 0, 600]),
        (K::Returned, 600, [1_000, 500, 0, 30, 0, 530, 0, 0]),
        (K::AdjustedDown, 530, [1_000, 500, -530, 30, 0, 0, 0, 0]),
    ];
    for (kind, amount, expected) in steps {
        let position = record(&db, &[vec![entry(kind, 1, amount, "USD")]]);
        let balance = shown(&db, position, None)[&(partner(1), Currency::USD)];
        let found = [
            balance.accrued_minor,
            balance.reversed_minor,
            balance.adjusted_minor,
            balance.written_off_minor,
            balance.pending_minor,
            balance.payable_minor,
            balance.in_payout_minor,
            balance.paid_minor,
        ];
        assert_eq!(found, expected, "{kind}");
        assert!(balance.is_balanced());
    }
    let lines = db.read(|reader| trial_balance(reader, db.head())).unwrap();
    let of = |name: &str| lines.iter().find(|line| line.account.starts_with(name)).map(|line| line.balance_minor);
    assert_eq!((of("commission_expense:cmp_"), of("cash:sandbox")), (Some(500), Some(0)));
    assert_eq!((of("write_off"), of("adjustment_expense")), (Some(30), Some(-530)));
    let listed = db.read(|reader| entries(reader, (4, 0), Some(partner(1)), 2)).unwrap();
    assert_eq!(listed.iter().map(|posted| posted.position).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(db.read(|reader| entries_at(reader, &[9, 1])).unwrap().len(), 2);
}

#[test]
fn an_amount_of_zero_or_less_is_refused() {
    let db = db();
    for amount in [0, -1, i64::MIN] {
        let outcome = db
            .write("test", Lane::Back, "tester", |tx| post(tx, &[(1, 0, entry(EntryKind::Accrued, 1, amount, "USD"))]));
        assert_eq!(outcome.unwrap_err().code(), "internal");
    }
}

#[test]
fn sums_beyond_64_bits_are_a_fault_and_no_wrong_balance() {
    let db = db();
    let big = || vec![entry(EntryKind::Accrued, 1, i64::MAX, "USD")];
    record(&db, &[big()]);
    assert_eq!(shown(&db, 1, None)[&(partner(1), Currency::USD)].pending_minor, i64::MAX);
    assert_eq!(db.read(check).unwrap(), (1, Vec::new()));
    record(&db, &[big()]);
    assert_eq!(db.read(|reader| balances(reader, 2, None)).unwrap_err().code(), "amount_overflow");
    assert_eq!(shown(&db, 1, None).len(), 1, "what was known before stays known");
}

#[test]
fn a_roll_up_is_due_by_positions_and_by_the_number_of_totals() {
    let db = db();
    let many = |count: i64| (0..count).map(|_| vec![entry(EntryKind::Accrued, 1, 1, "USD")]).collect::<Vec<_>>();
    record(&db, &many(ROLL_UP_ENTRIES - 1));
    assert!(!write(&db, roll_up));
    record(&db, &many(1));
    assert!(write(&db, roll_up));
    assert!(!write(&db, roll_up));
    write(&db, |tx| tx.execute("UPDATE ledger_roll_up SET totals = 3000", &[]));
    record(&db, &many(ROLL_UP_ENTRIES));
    assert!(!write(&db, roll_up), "3,000 totals: every 12,000 positions");
    record(&db, &many(12_000 - ROLL_UP_ENTRIES));
    assert!(write(&db, roll_up));
    let balance = shown(&db, db.head(), None)[&(partner(1), Currency::USD)];
    assert_eq!(balance.accrued_minor, ROLL_UP_ENTRIES + 12_000);
}

/// As many statements for two entries as for 512.
#[test]
fn posting_is_set_based() {
    let used = |count: usize| {
        let db = db();
        let groups = vec![vec![entry(EntryKind::Accrued, 1, 5, "USD")]; count];
        record(&db, &groups);
        db.stats().statements.load(std::sync::atomic::Ordering::Relaxed)
    };
    assert_eq!(used(2), used(512));
}

#[test]
fn check_finds_what_was_tampered_with() {
    let db = db();
    for n in 0..30 {
        let amount = 100 + n;
        let position = record(
            &db,
            &[
                vec![entry(EntryKind::Accrued, 1, amount, "USD"), entry(EntryKind::Accrued, 1, amount, "USD")],
                vec![entry(EntryKind::Approved, 1, amount, "USD")],
            ],
        );
        if n == 10 || n == 20 {
            write(&db, |tx| roll_up_at(tx, position));
        }
    }
    assert_eq!(db.read(check).unwrap(), (90, Vec::new()));
    let found = |sql: &str| {
        let mut differences = Vec::new();
        let _ = db.write("test", Lane::Back, "nobody", |tx| {
            assert_eq!(tx.execute(sql, &[])?, 1, "{sql}");
            differences = check(tx)?.1;
            Err::<(), _>(kernel::Fault::internal("undone"))
        });
        differences
    };
    let told = |position: i64| format!("the entries at position {position} are not those that its event tells");
    // Position 3 is before the first roll-up (at 22), position 59 after the last (at 42).
    for (position, rolled_up) in [(3, vec![22, 42]), (59, vec![])] {
        for change in [
            format!("UPDATE ledger_entry SET amount_minor = amount_minor + 1 WHERE position = {position} AND line = 1"),
            format!("UPDATE ledger_entry SET kind = 'restored_pending' WHERE position = {position} AND line = 1"),
            format!("UPDATE ledger_entry SET currency = 'EUR' WHERE position = {position} AND line = 0"),
            format!(
                "UPDATE ledger_entry SET partner_id = {} WHERE position = {position} AND line = 0",
                db.bytes_literal("09090909090909090909090909090909")
            ),
            format!("DELETE FROM ledger_entry WHERE position = {position} AND line = 1"),
            format!(
                "INSERT INTO ledger_entry SELECT position, 9, kind, partner_id, campaign_id, gateway, source_id, amount_minor, \
                 currency, posted_at FROM ledger_entry WHERE position = {position} AND line = 1"
            ),
        ] {
            let differences = found(&change);
            assert!(differences.contains(&told(position)), "{change}: {differences:?}");
            for at in &rolled_up {
                assert!(
                    differences.iter().any(|d| d.contains(&format!("position {at} differ"))),
                    "{change}: {differences:?}"
                );
            }
        }
    }
    for (change, words) in [
        (
            "UPDATE ledger_total SET amount_minor = amount_minor + 1 WHERE position = 22 AND kind = 'accrued'",
            "position 22 differ",
        ),
        (
            "UPDATE ledger_total SET entries = entries + 1 WHERE position = 42 AND kind = 'approved'",
            "position 42 differ",
        ),
        ("DELETE FROM ledger_total WHERE position = 42 AND kind = 'approved'", "position 42 differ"),
        ("UPDATE ledger_entry SET position = 61 WHERE position = 60 AND line = 0", "1 entries are at positions"),
        ("UPDATE outbox_event SET type = 'other.v1' WHERE position = 59", "no event tells the entries at position 59"),
    ] {
        let differences = found(change);
        assert!(differences.iter().any(|difference| difference.contains(words)), "{change}: {differences:?}");
    }
    assert_eq!(db.read(check).unwrap(), (90, Vec::new()), "undone each time");
}

#[test]
fn digests_tell_entries_apart_and_are_stable() {
    let one = entry(EntryKind::Accrued, 1, 244, "USD");
    assert_eq!(one.digest(), one.clone().digest());
    let others = [
        Entry { kind: EntryKind::RestoredPending, ..one.clone() },
        Entry { partner_id: partner(2), ..one.clone() },
        Entry { campaign_id: None, ..one.clone() },
        Entry { gateway: Some("x".to_owned()), ..one.clone() },
        Entry { source_id: [8; 16], ..one.clone() },
        Entry { amount_minor: 245, ..one.clone() },
        Entry { currency: EUR.parse().unwrap(), ..one.clone() },
    ];
    assert!(others.iter().all(|other| other.digest() != one.digest()));
    assert_eq!(one.digest().len(), 32);
}
