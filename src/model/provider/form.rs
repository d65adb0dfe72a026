//! Form bodies and query strings (`application/x-www-form-urlencoded`), strictly.

use std::collections::{BTreeMap, BTreeSet};

/// Most fields that a form may have.
const FIELDS_MAX: usize = 2_000;

/// The fields in order; `None` when an escape is broken, a field is not UTF-8, or there are too many of them.
pub fn fields(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        if fields.len() == FIELDS_MAX {
            return None;
        }
        let cut = pair.iter().position(|byte| *byte == b'=');
        let (name, value) = cut.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
        fields.push((unescape(name)?, unescape(value)?));
    }
    Some(fields)
}

/// The value of a field that stands exactly once.
pub fn single(bytes: &[u8], name: &str) -> Option<String> {
    let mut values = fields(bytes)?.into_iter().filter(|(have, _)| have == name);
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}

/// Whether a field stands more than once.
pub fn is_repeated(bytes: &[u8], name: &str) -> bool {
    fields(bytes).is_some_and(|fields| fields.iter().filter(|(have, _)| have == name).nth(1).is_some())
}

/// Names and values run together, sorted by name; a name's equal values count once
/// (<https://www.twilio.com/docs/usage/security>).
pub fn sorted_fields(bytes: &[u8]) -> Option<String> {
    let mut sorted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in fields(bytes)? {
        sorted.entry(name).or_default().insert(value);
    }
    let mut text = String::new();
    for (name, values) in &sorted {
        for value in values {
            text.push_str(name);
            text.push_str(value);
        }
    }
    Some(text)
}

/// Undoes `+` and `%XX`; `None` when an escape is broken or the outcome is not UTF-8.
fn unescape(bytes: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [byte, after @ ..] = rest {
        let (byte, after) = match (*byte, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, after @ ..]) => (hex_digit(*high)? * 16 + hex_digit(*low)?, after),
            (b'%', _) => return None,
            (byte, _) => (byte, after),
        };
        plain.push(byte);
        rest = after;
    }
    String::from_utf8(plain).ok()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_strictly() {
        let read = fields(b"a=1+2&b=%C3%A4&c&=x&a=3").unwrap();
        let wanted = [("a", "1 2"), ("b", "ä"), ("c", ""), ("", "x"), ("a", "3")];
        assert_eq!(read, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        for broken in ["a=%", "a=%4", "a=%zz", "a=%FF"] {
            assert_eq!(fields(broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn a_repeated_field_has_no_single_value() {
        assert_eq!(single(b"a=1&a=1", "a"), None);
        assert!(is_repeated(b"a=1&a=1", "a"));
        assert_eq!(single(b"a=1&b=2", "b").as_deref(), Some("2"));
    }

    #[test]
    fn sorted_fields_count_equal_values_once() {
        assert_eq!(sorted_fields(b"b=2&a=1&a=0&a=1").as_deref(), Some("a0a1b2"));
    }
}
