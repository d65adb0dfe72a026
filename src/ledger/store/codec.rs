//! How a row lies in the file: one version byte, a checksum, then its content as JSON (packed with lz4 where rows are big).
//!
//! The checksum covers the table's name, the key, the version and the content, so that a row that a damaged page puts
//! under the wrong key or into the wrong table is found out too. Reading never panics: a damaged row is SH0602, one of
//! a newer version SH0603, and both concern that row alone.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Code, Error, Result};

/// Version byte and CRC-32.
const FRAME_BYTES: usize = 5;
/// Largest content of one row in bytes, unpacked.
pub const ROW_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A kind of row, which knows its table.
pub trait Row: Sized {
    /// Name of the table in the file. Never renamed, never reused.
    const TABLE: &'static str;
    /// The version that is written. Older ones are upcast in [`Row::from_content`].
    const VERSION: u8 = 1;

    fn to_content(&self) -> Result<Vec<u8>>;

    /// `version` is at most [`Row::VERSION`].
    fn from_content(version: u8, content: &[u8]) -> Result<Self>;
}

/// The row as it is stored under `key`.
pub fn encode<R: Row>(key: &[u8], row: &R) -> Result<Vec<u8>> {
    let content = row.to_content()?;
    if content.len() > ROW_BYTES_MAX {
        return Err(Error::new(Code::LedgerUnavailable, "the row is too large for the ledger"));
    }
    let mut bytes = Vec::with_capacity(FRAME_BYTES + content.len());
    bytes.push(R::VERSION);
    bytes.extend_from_slice(&checksum(R::TABLE, key, R::VERSION, &content).to_le_bytes());
    bytes.extend_from_slice(&content);
    Ok(bytes)
}

/// The row that was stored under `key`.
pub fn decode<R: Row>(key: &[u8], bytes: &[u8]) -> Result<R> {
    let Some((frame, content)) = bytes.split_first_chunk::<FRAME_BYTES>() else {
        return Err(damaged::<R>(key, "it is cut off"));
    };
    let [version, sum @ ..] = *frame;
    if checksum(R::TABLE, key, version, content) != u32::from_le_bytes(sum) {
        return Err(damaged::<R>(key, "its checksum does not fit"));
    }
    if version > R::VERSION {
        return Err(newer(R::TABLE));
    }
    R::from_content(version, content).map_err(|error| damaged::<R>(key, &error.internal()))
}

fn damaged<R: Row>(key: &[u8], why: &str) -> Error {
    let key = &key[..key.len().min(32)];
    Error::new(Code::LedgerDamaged, format!("a row of the ledger's `{}` is damaged", R::TABLE))
        .detail(format!("row {}: {why}", hex::encode(key)))
}

/// Something in the file that only a newer skillhook understands.
pub fn newer(what: &str) -> Error {
    Error::new(Code::LedgerNewer, format!("the ledger's `{what}` was written by a newer version of skillhook"))
        .hint("start the newer version again, or restore the ledger that belongs to this one")
}

fn checksum(table: &str, key: &[u8], version: u8, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.as_bytes());
    hasher.update(&[0]);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(&[version]);
    hasher.update(content);
    hasher.finalize()
}

pub fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::new(Code::Bug, "a row cannot be written as JSON").detail(error))
}

pub fn from_json<T: DeserializeOwned>(content: &[u8]) -> Result<T> {
    serde_json::from_slice(content).map_err(unreadable)
}

pub fn pack(content: &[u8]) -> Vec<u8> {
    lz4_flex::block::compress_prepend_size(content)
}

pub fn unpack(content: &[u8]) -> Result<Vec<u8>> {
    let (length, packed) = lz4_flex::block::uncompressed_size(content).map_err(unreadable)?;
    if length > ROW_BYTES_MAX {
        return Err(unreadable("it says that it is too large"));
    }
    lz4_flex::block::decompress(packed, length).map_err(unreadable)
}

pub fn unreadable(why: impl std::fmt::Display) -> Error {
    Error::new(Code::LedgerDamaged, "a row of the ledger is damaged").detail(why)
}

/// Implements [`Row`] as JSON, or as JSON packed with lz4.
macro_rules! json_rows {
    ($($row:ty: $table:literal;)*) => {$(
        impl $crate::ledger::store::codec::Row for $row {
            const TABLE: &'static str = $table;
            fn to_content(&self) -> $crate::error::Result<Vec<u8>> {
                $crate::ledger::store::codec::to_json(self)
            }
            fn from_content(_version: u8, content: &[u8]) -> $crate::error::Result<Self> {
                $crate::ledger::store::codec::from_json(content)
            }
        }
    )*};
}

macro_rules! packed_rows {
    ($($row:ty: $table:literal;)*) => {$(
        impl $crate::ledger::store::codec::Row for $row {
            const TABLE: &'static str = $table;
            fn to_content(&self) -> $crate::error::Result<Vec<u8>> {
                $crate::ledger::store::codec::to_json(self).map(|json| $crate::ledger::store::codec::pack(&json))
            }
            fn from_content(_version: u8, content: &[u8]) -> $crate::error::Result<Self> {
                $crate::ledger::store::codec::from_json(&$crate::ledger::store::codec::unpack(content)?)
            }
        }
    )*};
}

pub(super) use {json_rows, packed_rows};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Note {
        text: String,
    }
    packed_rows! { Note: "note-of-a-test"; }

    /// The same table after a release that renamed `text` to `words`.
    #[derive(Debug, PartialEq)]
    struct NewerNote {
        words: String,
    }
    impl Row for NewerNote {
        const TABLE: &'static str = Note::TABLE;
        const VERSION: u8 = 2;
        fn to_content(&self) -> Result<Vec<u8>> {
            Ok(self.words.clone().into_bytes())
        }
        fn from_content(version: u8, content: &[u8]) -> Result<Self> {
            match version {
                1 => Note::from_content(1, content).map(|old| Self { words: old.text }),
                _ => Ok(Self { words: String::from_utf8(content.to_vec()).map_err(unreadable)? }),
            }
        }
    }

    fn note() -> Note {
        Note { text: "seen ".repeat(100) }
    }

    #[test]
    fn older_row_is_upcast_and_newer_row_is_refused() {
        let old = encode(b"k", &note()).unwrap();
        assert_eq!(decode::<NewerNote>(b"k", &old).unwrap().words, note().text);
        let new = encode(b"k", &NewerNote { words: "x".into() }).unwrap();
        assert_eq!(decode::<Note>(b"k", &new).unwrap_err().code(), Code::LedgerNewer);
    }

    #[test]
    fn row_under_the_wrong_key_is_damaged() {
        let bytes = encode(b"key", &note()).unwrap();
        assert_eq!(decode::<Note>(b"kez", &bytes).unwrap_err().code(), Code::LedgerDamaged);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let whole = encode(b"key", &note()).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode::<Note>(b"key", &bytes).unwrap_err().code(), Code::LedgerDamaged, "bit {bit}");
        }
        for length in 0..whole.len() {
            assert_eq!(decode::<Note>(b"key", &whole[..length]).unwrap_err().code(), Code::LedgerDamaged);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Note>(b"key", &bytes);
            let _ = unpack(&bytes);
        }
    }
}
