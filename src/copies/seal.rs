//! How content becomes an object: packed by lz4, and sealed to the operator's age key where one is set.
//!
//! `SHC` and a version, one byte of flags, then the payload. An object is named by what is stored, so anyone can check a
//! copy without the key, and names tell nothing about sealed content. Sealing is not repeatable: what was stored before
//! is found through the manifest before, not by its name.

use std::str::FromStr as _;

use age::secrecy::ExposeSecret as _;
use bytes::Bytes;

use super::{OBJECT_BYTES_MAX, ObjectId, damaged};
use crate::error::{Code, Error, Result};
use crate::model::digest::Digest;

const MAGIC: &[u8] = b"SHC1";
const PLAIN: u8 = 0;
const SEALED: u8 = 1;

/// The operator's age key: it seals and opens. It is never shown.
#[derive(Clone)]
pub struct Key(age::x25519::Identity);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// Reads a key file as `age-keygen` writes it, or its one line.
    ///
    /// # Errors
    /// SH0913; the text is not shown.
    pub fn parse(text: &str) -> Result<Self> {
        let line = text.lines().map(str::trim).find(|line| line.starts_with("AGE-SECRET-KEY-"));
        let identity = line.and_then(|line| age::x25519::Identity::from_str(line).ok());
        identity.map(Self).ok_or_else(|| {
            Error::new(Code::CopyKey, "the age key for copies is none")
                .hint("`age-keygen` makes one: a line that begins with `AGE-SECRET-KEY-1`")
        })
    }

    /// A fresh key.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// The key itself, for whoever keeps it.
    pub fn reveal(&self) -> String {
        self.0.to_string().expose_secret().to_owned()
    }
}

/// Packs and seals.
///
/// # Errors
/// SH0999 when sealing fails.
pub fn seal(plain: &[u8], key: Option<&Key>) -> Result<(ObjectId, Bytes)> {
    let packed = lz4_flex::block::compress_prepend_size(plain);
    let mut stored = MAGIC.to_vec();
    match key {
        None => {
            stored.push(PLAIN);
            stored.extend_from_slice(&packed);
        }
        Some(key) => {
            stored.push(SEALED);
            let sealed = age::encrypt(&key.0.to_public(), &packed)
                .map_err(|error| Error::new(Code::Bug, "an object cannot be sealed").detail(error))?;
            stored.extend_from_slice(&sealed);
        }
    }
    Ok((Digest::of(&stored), Bytes::from(stored)))
}

/// The other way.
///
/// # Errors
/// SH0912 when it is no object, SH0913 when it is sealed and the key does not fit.
pub fn open(stored: &[u8], key: Option<&Key>) -> Result<Vec<u8>> {
    let rest = stored.strip_prefix(MAGIC).and_then(|rest| rest.split_first());
    match rest {
        Some((&PLAIN, packed)) => unpack(packed),
        Some((&SEALED, sealed)) => {
            let key = key.ok_or_else(|| {
                Error::new(Code::CopyKey, "the copy is sealed, and no key is given")
                    .hint("give the age key with `--age-key-file`")
            })?;
            let packed = age::decrypt(&key.0, sealed)
                .map_err(|error| Error::new(Code::CopyKey, "the copy is sealed to another key").detail(error))?;
            unpack(&packed)
        }
        _ => Err(damaged("an object has a form that is not known".to_owned())),
    }
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let broken = || damaged("an object cannot be unpacked".to_owned());
    let (length, packed) = packed.split_first_chunk().ok_or_else(broken)?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > OBJECT_BYTES_MAX {
        return Err(broken());
    }
    lz4_flex::block::decompress(packed, length).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_with_the_same_key_alone() {
        let key = Key::generate();
        let plain = b"what a skill says ".repeat(100);
        let (id, stored) = seal(&plain, Some(&key)).unwrap();
        assert_eq!(Digest::of(&stored), id);
        assert!(!stored.windows(12).any(|window| window == b"what a skill"));
        assert_eq!(open(&stored, Some(&key)).unwrap(), plain);
        assert_eq!(open(&stored, None).unwrap_err().code(), Code::CopyKey);
        assert_eq!(open(&stored, Some(&Key::generate())).unwrap_err().code(), Code::CopyKey);
        let text = format!("# created: today\n{}\n", key.reveal());
        assert_eq!(open(&stored, Some(&Key::parse(&text).unwrap())).unwrap(), plain);
        assert_eq!(Key::parse("age1notsecret").unwrap_err().code(), Code::CopyKey);
    }

    #[test]
    fn objects_without_a_key_are_equal_for_equal_content_and_hostile_ones_are_refused() {
        assert_eq!(seal(b"a", None).unwrap(), seal(b"a", None).unwrap());
        let (_, stored) = seal(&[7; 1000], None).unwrap();
        assert_eq!(open(&stored, None).unwrap(), [7; 1000]);
        let mut huge = MAGIC.to_vec();
        huge.push(PLAIN);
        huge.extend_from_slice(&u32::MAX.to_le_bytes());
        for bad in [b"".as_slice(), b"SHC1", b"SHC2\0\0\0\0\0", &huge, &stored[..stored.len() - 1]] {
            assert_eq!(open(bad, None).unwrap_err().code(), Code::CopyDamaged);
        }
    }
}
