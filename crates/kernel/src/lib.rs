//! The vocabulary that every other crate speaks: typed ids, money, time, text with limits, faults, events, life-cycle
//! tables. It is pure: it must not know databases, HTTP, clocks, threads or any business rule of one context.

mod cloud_event;
mod event;
mod fault;
mod id;
mod lifecycle;
mod money;
mod text;
mod time;

pub use cloud_event::CloudEvent;
pub use event::{Descriptor, Event, EventRecord, NewEvent, PayloadSchema, Published, describe};
pub use fault::{Fault, FieldError, Kind, PROBLEMS, Problem, Result, problems};
pub use id::{
    AdjustmentId, ApiKeyId, CampaignId, CommissionId, ConversionId, DeadLetterId, EnrollmentId, EventId, Id, IdKind,
    IdSource, PartnerId, PayoutId, PayoutItemId, RefundId, TouchId,
};
pub use lifecycle::{Lifecycle, Move, StateName};
pub use money::{Amount, BasisPoints, Currency, Money, ratio_half_up, split};
pub use text::{Email, Key, Label, Reason, Reference, digest16, hex};
pub use time::{Clock, Duration, ManualClock, Timestamp};
