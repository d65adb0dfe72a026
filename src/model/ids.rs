//! Identities as types that cannot be wrong: parsed once at the edge, carried as themselves inside.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest name of anything in characters (the agent-skills rule for skills, kept for all names).
pub const NAME_CHARS_MAX: usize = 64;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident: $what:literal, $extra:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Lower-case letters, digits and the separators of this kind of name; begins with a letter or digit.
            pub fn parse(text: &str) -> Result<Self, String> {
                check_name($what, text, $extra).map(|()| Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.into()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    )*};
}

names! {
    /// A webhook; a built-in one is called as its provider.
    WebhookId: "webhook id", "-_";
    /// A sender in the catalogue, for example `github`.
    ProviderName: "provider", "_";
    /// A command of a webhook.
    CommandName: "command name", "-_";
    /// The name of an agent: the stem of `.claude/agents/NAME.md`.
    AgentName: "agent name", "-_";
    /// The name of a skill: its directory below `.claude/skills`.
    SkillName: "skill name", "-";
}

fn check_name(what: &str, text: &str, separators: &str) -> Result<(), String> {
    let ends_well = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !ends_well(text.chars().next()) || !ends_well(text.chars().last()) {
        return Err(format!("`{text}` is no {what}: it must begin and end with a lower-case letter or a digit"));
    }
    if let Some(odd) = text.chars().find(|c| !ends_well(Some(*c)) && !separators.contains(*c)) {
        return Err(format!("`{text}` is no {what}: `{}` is not allowed in it", odd.escape_default()));
    }
    if text.chars().count() > NAME_CHARS_MAX {
        return Err(format!("the {what} is longer than {NAME_CHARS_MAX} characters"));
    }
    Ok(())
}

macro_rules! uuids {
    ($($(#[$doc:meta])* $name:ident: $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub Uuid);

        impl $name {
            /// With or without its prefix.
            pub fn parse(text: &str) -> Result<Self, String> {
                Uuid::parse_str(text.strip_prefix($prefix).unwrap_or(text))
                    .map(Self)
                    .map_err(|_| format!("`{text}` is no id of the form `{}…`", $prefix))
            }

            /// Whether `text` begins as an id of this kind does.
            pub fn looks_like(text: &str) -> bool {
                text.starts_with($prefix)
            }

            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

uuids! {
    /// One accepted POST.
    DeliveryId: "dlv_";
    /// One piece of work that a delivery (or a person) asked for.
    TaskId: "tsk_";
    /// One call to a provider that waits in the outbox.
    OutboxId: "out_";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["a", "github-pr-review", "a1_b"] {
            WebhookId::parse(good).unwrap();
        }
        for bad in ["", "-a", "a-", "A", "a/b", "a..b", "ä", "a b", &"x".repeat(65)] {
            WebhookId::parse(bad).unwrap_err();
        }
    }

    #[test]
    fn ids_round_trip_with_and_without_prefix() {
        let id = TaskId(Uuid::from_u128(7));
        assert_eq!(TaskId::parse(&id.to_string()), Ok(id));
        assert_eq!(TaskId::parse(&id.0.to_string()), Ok(id));
        assert!(DeliveryId::parse("tsk_00000000000000000000000000000007").is_err());
    }
}
