//! Hashes and their keyed form, by the names that definitions use.

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HashName {
    /// Only as HMAC, where it still holds, and only for senders that offer nothing else.
    Sha1,
    Sha256,
    Sha512,
}

/// HMAC (RFC 2104). `None` never happens for these hashes: they take keys of any length.
/// HMAC-SHA256 (RFC 2104).
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    mac(HashName::Sha256, key, message)
}

pub fn mac(hash: HashName, key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    fn run<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Option<Vec<u8>> {
        let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
        mac.update(message);
        Some(mac.finalize().into_bytes().to_vec())
    }
    match hash {
        HashName::Sha1 => run::<Hmac<Sha1>>(key, message),
        HashName::Sha256 => run::<Hmac<Sha256>>(key, message),
        HashName::Sha512 => run::<Hmac<Sha512>>(key, message),
    }
}

pub fn digest(hash: HashName, message: &[u8]) -> Vec<u8> {
    match hash {
        HashName::Sha1 => Sha1::digest(message).to_vec(),
        HashName::Sha256 => Sha256::digest(message).to_vec(),
        HashName::Sha512 => Sha512::digest(message).to_vec(),
    }
}

/// Compares in a time that depends on the lengths alone, which are public for digests.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Compares two texts of secret length in a time that tells nothing about either.
pub fn same_secret(a: &[u8], b: &[u8]) -> bool {
    same(&Sha256::digest(a), &Sha256::digest(b))
}
