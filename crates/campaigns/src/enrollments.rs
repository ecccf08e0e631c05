//! Reads and writes enrolments: the rows, and with them what is published about them.

use events::campaigns::{CodeOwner, EnrollmentSpan, Enrollments};
use kernel::{CampaignId, PartnerId, Result};
use platform::{OnDuplicate, Reader, Tx, published};

use crate::views::{self, EnrollmentView};

/// A partner's enrolments in a campaign, in the order of their opening.
pub(crate) fn of_partner(
    reader: &Reader<'_>,
    campaign_id: CampaignId,
    partner_id: PartnerId,
) -> Result<Vec<EnrollmentView>> {
    let columns = views::ENROLLMENT_COLUMNS;
    let sql = format!("SELECT {columns} FROM enrollment WHERE campaign_id = ? AND partner_id = ? ORDER BY id");
    reader.query(&sql, &[(&campaign_id).into(), (&partner_id).into()], views::enrollment)
}

/// Writes a new enrolment.
pub(crate) fn insert(tx: &mut Tx<'_>, enrollment: &EnrollmentView) -> Result<()> {
    let row = [
        (&enrollment.id).into(),
        (&enrollment.campaign_id).into(),
        (&enrollment.partner_id).into(),
        enrollment.state.as_str().into(),
        enrollment.code.as_ref().map(kernel::Key::as_str).into(),
        enrollment.from.into(),
        enrollment.planned_to.into(),
        enrollment.to.into(),
        enrollment.opened_at.into(),
        enrollment.closed_at.into(),
    ];
    let columns = [
        "id",
        "campaign_id",
        "partner_id",
        "state",
        "code",
        "from_at",
        "planned_to",
        "to_at",
        "opened_at",
        "closed_at",
    ];
    tx.insert("enrollment", columns, &[row], OnDuplicate::Fail)?;
    if let Some(code) = &enrollment.code {
        published::put(tx, &[(code.as_str().as_bytes(), &code_owner(enrollment))])?;
    }
    publish(tx, enrollment)
}

/// Writes the end of an enrolment.
pub(crate) fn save(tx: &mut Tx<'_>, enrollment: &EnrollmentView) -> Result<()> {
    let row =
        [enrollment.state.as_str().into(), enrollment.to.into(), enrollment.closed_at.into(), (&enrollment.id).into()];
    tx.update_many("enrollment", &["state", "to_at", "closed_at"], &["id"], &[row])?;
    publish(tx, enrollment)
}

fn publish(tx: &mut Tx<'_>, changed: &EnrollmentView) -> Result<()> {
    let all = of_partner(tx, changed.campaign_id, changed.partner_id)?;
    let spans = Enrollments(all.iter().map(span).collect());
    published::put(tx, &[(&Enrollments::key(changed.campaign_id, changed.partner_id)[..], &spans)])
}

/// What is published of an enrolment. An end that was known from the beginning has no later instant at which it became
/// known.
pub(crate) fn span(enrollment: &EnrollmentView) -> EnrollmentSpan {
    EnrollmentSpan {
        enrollment_id: enrollment.id,
        opened_at: enrollment.opened_at,
        from: enrollment.from,
        to: enrollment.to,
        closed_at: enrollment.closed_at.filter(|_| enrollment.to != enrollment.planned_to),
    }
}

pub(crate) fn code_owner(enrollment: &EnrollmentView) -> CodeOwner {
    CodeOwner {
        enrollment_id: enrollment.id,
        campaign_id: enrollment.campaign_id,
        partner_id: enrollment.partner_id,
        opened_at: enrollment.opened_at,
    }
}
