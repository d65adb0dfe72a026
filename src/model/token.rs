//! Tokens of the admin API: how one reads, and what its owner may do.
//!
//! `shk_<id>_<secret><checksum>`: twelve hexadecimal digits that name it, 48 that nobody can guess, and the CRC-32 of all
//! before it, so that a typing error or a cut line is told apart from a token that was revoked. Kept is only its digest.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// What every token begins with; secret scanners look for it.
pub const PREFIX: &str = "shk_";
/// Bytes of the part that names it, and of the part that is secret.
pub const ID_BYTES: usize = 6;
pub const SECRET_BYTES: usize = 24;
/// Longest name of a token in characters.
pub const NAME_CHARS_MAX: usize = 100;

const CHECKSUM_DIGITS: usize = 8;
const LENGTH: usize = PREFIX.len() + 2 * ID_BYTES + 1 + 2 * SECRET_BYTES + CHECKSUM_DIGITS;

/// Names a token in lists, in the log and in the record of what happened.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(Box<str>);

impl TokenId {
    /// # Errors
    /// When it is not twelve hexadecimal digits, with or without the prefix.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix(PREFIX).unwrap_or(text);
        if digits.len() == 2 * ID_BYTES && is_hex(digits) {
            return Ok(Self(digits.into()));
        }
        Err(format!("`{}` is no id of a token", text.chars().take(40).collect::<String>().escape_default()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TokenId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> String {
        id.0.into()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text of a new token; `random` is used for nothing else.
pub fn compose(random: &[u8; ID_BYTES + SECRET_BYTES]) -> (TokenId, String) {
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let (id, secret) = digits.split_at(2 * ID_BYTES);
    let text = format!("{PREFIX}{id}_{secret}");
    let checksum = crc32fast::hash(text.as_bytes());
    (TokenId(id.into()), format!("{text}{checksum:08x}"))
}

/// Which token this claims to be; `None` when it is none, or not a whole one.
pub fn claimed(text: &str) -> Option<TokenId> {
    if text.len() != LENGTH || !text.is_ascii() {
        return None;
    }
    let (body, checksum) = text.split_at(LENGTH - CHECKSUM_DIGITS);
    let (id, secret) = body.strip_prefix(PREFIX)?.split_once('_')?;
    let whole = is_hex(secret) && checksum == format!("{:08x}", crc32fast::hash(body.as_bytes()));
    TokenId::parse(id).ok().filter(|_| whole)
}

/// What is kept of a token. It is random, so that a plain hash cannot be turned back by guessing.
pub fn digest(text: &str) -> Digest {
    Digest::of_parts([b"skillhook token".as_slice(), text.as_bytes()])
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a request needs, and what a token grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See everything but secrets.
    Read,
    /// Change files, steer tasks, send again.
    Write,
    /// Let waiting tasks and changes go on, or refuse them.
    Approve,
    /// Tokens and secrets, and all of the above.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Scope::Read, Scope::Write, Scope::Approve, Scope::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Approve => "approve",
            Scope::Admin => "admin",
        }
    }

    /// # Errors
    /// When there is no such scope.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        known.ok_or_else(|| "the scopes are `read`, `write`, `approve` and `admin`".to_owned())
    }
}

/// Some scopes; each of them includes reading, and `admin` includes all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().collect())
    }

    pub fn allow(&self, needed: Scope) -> bool {
        match needed {
            Scope::Read => !self.0.is_empty(),
            Scope::Write | Scope::Approve | Scope::Admin => self.0.contains(&needed) || self.0.contains(&Scope::Admin),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_recognised_and_every_changed_or_missing_character_is_noticed() {
        let (id, text) = compose(&[0x5a; ID_BYTES + SECRET_BYTES]);
        assert!(text.starts_with("shk_5a5a5a5a5a5a_5a5a"), "{text}");
        assert_eq!(claimed(&text), Some(id));
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(claimed(std::str::from_utf8(&wrong).unwrap()), None, "{at}");
            assert_eq!(claimed(&text[..at]), None);
        }
        for other in ["", "Bearer", "shk_", "shk_abc", &"ä".repeat(LENGTH), &text.to_uppercase()] {
            assert_eq!(claimed(other), None, "{other}");
        }
    }

    #[test]
    fn scopes_include_reading_and_admin_includes_all() {
        let allowed = |scope: Scope| Scope::ALL.map(|needed| Scopes::of([scope]).allow(needed));
        assert_eq!(allowed(Scope::Read), [true, false, false, false]);
        assert_eq!(allowed(Scope::Write), [true, true, false, false]);
        assert_eq!(allowed(Scope::Approve), [true, false, true, false]);
        assert_eq!(allowed(Scope::Admin), [true; 4]);
        assert!(Scope::ALL.iter().all(|needed| !Scopes::default().allow(*needed)));
    }
}
