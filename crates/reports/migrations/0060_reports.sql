-- What became known on a day (UTC, whole days since 1970) of the commissions of a campaign, a partner, a currency and a
-- state. The sums over all days are how things stand now. Built from events; may be emptied and built again.
CREATE TABLE report_summary (
    day            {int} NOT NULL,
    campaign_id    {id} NOT NULL,
    partner_id     {id} NOT NULL,
    currency       {word} NOT NULL,
    state          {word} NOT NULL,
    commissions    {int} NOT NULL,
    accrued_minor  {int} NOT NULL,
    reversed_minor {int} NOT NULL,
    PRIMARY KEY (day, campaign_id, partner_id, currency, state)
) {clustered};
