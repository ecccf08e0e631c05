//! The life cycles of a payout batch and of its items.

use events::payments::{PayoutItemState as Item, PayoutState as Payout};
use kernel::Lifecycle;

kernel::names! {
    /// What happens to a payout batch.
    pub enum PayoutAction {
        /// A person agrees with the frozen content.
        Approve = "approve",
        /// The items go to the gateway.
        Submit = "submit",
        /// Every item has its outcome.
        Complete = "complete",
        /// It is given up.
        Cancel = "cancel",
    }
}

kernel::names! {
    /// What happens to a payout item.
    pub enum ItemAction {
        /// It is handed to the gateway.
        Submit = "submit",
        /// The gateway does not answer.
        LoseSight = "lose_sight",
        /// It is paid.
        Settle = "settle",
        /// It is refused.
        Fail = "fail",
        /// The money comes back.
        Return = "return",
        /// Its batch is given up.
        Cancel = "cancel",
    }
}

/// A batch.
pub(crate) const PAYOUT: Lifecycle<Payout, PayoutAction> = Lifecycle {
    aggregate: "payout",
    rows: &[
        (Payout::Draft, PayoutAction::Approve, Payout::Approved),
        (Payout::Draft, PayoutAction::Cancel, Payout::Cancelled),
        (Payout::Approved, PayoutAction::Submit, Payout::Submitted),
        (Payout::Approved, PayoutAction::Cancel, Payout::Cancelled),
        (Payout::Submitted, PayoutAction::Complete, Payout::Completed),
    ],
};

/// An item.
pub(crate) const PAYOUT_ITEM: Lifecycle<Item, ItemAction> = Lifecycle {
    aggregate: "payout item",
    rows: &[
        (Item::Pending, ItemAction::Submit, Item::Submitted),
        (Item::Pending, ItemAction::Cancel, Item::Cancelled),
        (Item::Submitted, ItemAction::LoseSight, Item::Unknown),
        (Item::Submitted, ItemAction::Settle, Item::Settled),
        (Item::Submitted, ItemAction::Fail, Item::Failed),
        (Item::Unknown, ItemAction::Settle, Item::Settled),
        (Item::Unknown, ItemAction::Fail, Item::Failed),
        (Item::Settled, ItemAction::Return, Item::Returned),
    ],
};
