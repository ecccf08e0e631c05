//! Life cycles as tables: which action leads from which state to which. One interpreter for every aggregate, so that an
//! illegal change is refused in the same words everywhere and the tables can be printed and checked.

use crate::fault::{Fault, problems};

/// A state or an action that has a stable name in JSON, SQL and events.
pub trait StateName: Copy + Eq + 'static {
    /// The stable snake_case name.
    fn as_str(self) -> &'static str;
}

/// Defines an enum of names: its variants, their snake_case text, serde, `FromStr` and API schema.
#[macro_export]
macro_rules! names {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
        }
        impl $name {
            /// Every value, in the order of definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The stable snake_case name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
        impl $crate::StateName for $name {
            fn as_str(self) -> &'static str {
                Self::as_str(self)
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(format!("expected one of: {}", [$($text),*].join(", "))),
                }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

/// The table of one aggregate: rows of (from, action, to).
#[derive(Debug, Clone, Copy)]
pub struct Lifecycle<S: 'static, A: 'static> {
    /// What it is the life of, for messages: `partner`.
    pub aggregate: &'static str,
    /// (from, action, to).
    pub rows: &'static [(S, A, S)],
}

/// What an action does to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move<S> {
    /// The state changes.
    To(S),
    /// It was already so: nothing happens, and that is no error.
    Already,
}

impl<S: StateName, A: StateName> Lifecycle<S, A> {
    /// Where `action` leads from `from`. Fault: `illegal_transition`, naming the actions that are allowed.
    pub fn act(&self, from: S, action: A) -> Result<Move<S>, Fault> {
        if let Some((_, _, to)) = self.rows.iter().find(|(f, a, _)| *f == from && *a == action) {
            return Ok(Move::To(*to));
        }
        if self.rows.iter().any(|(_, a, to)| *a == action && *to == from) {
            return Ok(Move::Already);
        }
        let allowed: Vec<&str> = self.rows.iter().filter(|(f, _, _)| *f == from).map(|(_, a, _)| a.as_str()).collect();
        let allowed = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
        let detail =
            format!("a {} that is {} cannot {}; allowed: {allowed}", self.aggregate, from.as_str(), action.as_str());
        Err(Fault::new(&problems::ILLEGAL_TRANSITION, detail))
    }

    /// Whether some action leads from `from` to `to`: the check of `verify` over the event history.
    pub fn allows(&self, from: S, to: S) -> bool {
        self.rows.iter().any(|(f, _, t)| *f == from && *t == to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::names! {
        /// A door.
        pub enum Door { Open = "open", Shut = "shut", Bricked = "bricked" }
    }
    crate::names! {
        /// What people do to it.
        pub enum Act { Open = "open", Close = "close", Brick = "brick" }
    }
    const DOOR: Lifecycle<Door, Act> = Lifecycle {
        aggregate: "door",
        rows: &[
            (Door::Open, Act::Close, Door::Shut),
            (Door::Shut, Act::Open, Door::Open),
            (Door::Shut, Act::Brick, Door::Bricked),
        ],
    };

    #[test]
    fn moves_repeats_and_refuses() {
        assert_eq!(DOOR.act(Door::Open, Act::Close).unwrap(), Move::To(Door::Shut));
        assert_eq!(DOOR.act(Door::Shut, Act::Close).unwrap(), Move::Already);
        let fault = DOOR.act(Door::Open, Act::Brick).unwrap_err();
        assert_eq!(fault.code(), "illegal_transition");
        assert!(fault.detail().contains("allowed: close"), "{}", fault.detail());
        assert!(DOOR.allows(Door::Shut, Door::Bricked) && !DOOR.allows(Door::Bricked, Door::Shut));
    }
}
