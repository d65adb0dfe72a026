//! Secret values while they are in use: wiped when dropped, never shown, never written down.
//!
//! Where secrets come from is decided elsewhere; this module only carries them to verification and to outgoing
//! calls. It deliberately has no way to serialise a value, to compare two values, or to print one.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

/// The bytes of one secret.
#[derive(Clone)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// For computing with it; do not keep, log or send what this answers.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text, for a header or a form field; `None` when it is not UTF-8.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// A blank secret is no secret: whoever knows nothing knows it.
    pub fn is_blank(&self) -> bool {
        self.0.iter().all(u8::is_ascii_whitespace)
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// The secrets of one webhook by slot of its provider definition. Several values in a slot: a rotation is under way,
/// any of them verifies, the first one signs.
#[derive(Clone, Debug, Default)]
pub struct SecretSet(BTreeMap<String, Vec<SecretValue>>);

impl SecretSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value to a slot; a blank one is left out, so that the slot stays empty.
    pub fn insert(&mut self, slot: impl Into<String>, value: SecretValue) {
        if !value.is_blank() {
            self.0.entry(slot.into()).or_default().push(value);
        }
    }

    /// Puts a value into a slot in place of what was there.
    pub fn replace(&mut self, slot: impl Into<String>, value: SecretValue) {
        self.0.insert(slot.into(), vec![value]);
    }

    /// The same as [`SecretSet::insert`], for chains.
    #[must_use]
    pub fn with(mut self, slot: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.insert(slot, SecretValue::new(value));
        self
    }

    /// All values of a slot, newest first as they were inserted; empty when there is none.
    pub fn get(&self, slot: &str) -> &[SecretValue] {
        self.0.get(slot).map_or(&[], Vec::as_slice)
    }

    /// The value that signs and authenticates.
    pub fn first(&self, slot: &str) -> Option<&SecretValue> {
        self.get(slot).first()
    }

    /// The names of the slots that hold something.
    pub fn slots(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        let set = SecretSet::new().with("webhook_secret", "hunter2");
        assert!(!format!("{set:?}").contains("hunter2"));
        assert_eq!(set.first("webhook_secret").unwrap().expose(), b"hunter2");
    }

    #[test]
    fn blank_secret_leaves_the_slot_empty() {
        let set = SecretSet::new().with("a", "").with("a", " \n");
        assert!(set.get("a").is_empty());
    }
}
