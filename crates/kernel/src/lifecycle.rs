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
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
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
        // By hand, because a derive does not see the names through the macro.
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                use utoipa::openapi::schema::{ObjectBuilder, Type};
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some([$($text),*])).into()
            }
        }
        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
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
#[expect(unreachable_pub, reason = "the macro defines public enums")]
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

    #[test]
    fn names_are_the_same_in_text_and_json() {
        for &door in Door::ALL {
            assert_eq!(door.as_str().parse(), Ok(door));
            assert_eq!(serde_json::to_string(&door).unwrap(), format!("\"{door}\""));
            assert_eq!(serde_json::from_str::<Door>(&format!("\"{door}\"")).unwrap(), door);
        }
        assert_eq!("Open".parse::<Door>(), Err("expected one of: open, shut, bricked".to_owned()));
        assert_eq!(format!("{:>6}", Door::Shut), "  shut");
    }

    #[test]
    fn every_pair_moves_repeats_or_is_refused_with_what_is_allowed() {
        for &from in Door::ALL {
            for &action in Act::ALL {
                let row = DOOR.rows.iter().find(|row| row.0 == from && row.1 == action);
                match DOOR.act(from, action) {
                    Ok(Move::To(to)) => assert_eq!(Some(to), row.map(|row| row.2)),
                    Ok(Move::Already) => {
                        assert!(row.is_none() && DOOR.rows.iter().any(|row| row.1 == action && row.2 == from))
                    }
                    Err(fault) => assert!(row.is_none() && fault.kind() == crate::Kind::Conflict, "{fault}"),
                }
            }
        }
        let end = DOOR.act(Door::Bricked, Act::Open).unwrap_err();
        assert!(end.detail().ends_with("allowed: nothing"), "{}", end.detail());
    }
}
