//! From a configured secret to the key that a scheme computes with.

use zeroize::Zeroizing;

use super::encoded::decode_key;
use crate::model::provider::schema::verify::{Encoding, Key, KeyDecode};
use crate::model::secret::SecretSet;

/// The keys of a slot that can be computed with. One that is empty after its prefix is cut off, or that is not
/// written as the scheme demands, is as if it were not configured.
pub fn usable(key: &Key, secrets: &SecretSet) -> Vec<Zeroizing<Vec<u8>>> {
    let stripped = secrets.get(&key.secret).iter().map(|secret| {
        let bytes = secret.expose();
        let prefix = key.strip_prefix.as_deref().unwrap_or_default().as_bytes();
        bytes.strip_prefix(prefix).unwrap_or(bytes)
    });
    let decoded = stripped.filter_map(|bytes| match key.decode {
        KeyDecode::Utf8 => Some(bytes.to_vec()),
        KeyDecode::Hex => decode_key(Encoding::Hex, bytes),
        KeyDecode::Base64 => decode_key(Encoding::Base64, bytes),
    });
    decoded.filter(|bytes| !bytes.trim_ascii().is_empty()).map(Zeroizing::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_only_its_prefix_is_none() {
        let key = Key { secret: "s".to_owned(), strip_prefix: Some("whsec_".to_owned()), decode: KeyDecode::Base64 };
        let count = |secret: &str| usable(&key, &SecretSet::new().with("s", secret)).len();
        assert_eq!(count("whsec_MDEyMw=="), 1);
        assert_eq!(count("MDEyMw"), 1);
        assert_eq!(count("whsec_"), 0);
        assert_eq!(count("whsec_not base64"), 0);
    }
}
