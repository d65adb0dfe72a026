//! Where `forward` commands may post, and how such a post proves where it comes from.
//!
//! A skill names a target; its address is the operator's alone, so no file of the repository and no payload can send a
//! delivery anywhere else. Posts are signed by Standard Webhooks
//! (<https://github.com/standard-webhooks/standard-webhooks>).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use url::Url;

use super::provider::hmac_sha256;

/// Largest text that is forwarded, in bytes.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// With this in front a secret is base64, as Standard Webhooks writes it.
const SECRET_PREFIX: &[u8] = b"whsec_";

/// One address that may be posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: String,
    /// It may lie in a private network, and be called without encryption there.
    pub private: bool,
}

impl Target {
    /// # Errors
    /// Says in words why this is no address to post to.
    pub fn new(url: &str, private: bool) -> Result<Self, String> {
        let parsed = Url::parse(url).map_err(|error| format!("`{url}` is no address: {error}"))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("the address must not hold credentials".to_owned());
        }
        match parsed.scheme() {
            "https" => {}
            "http" if private => {}
            "http" => return Err("the address must begin with `https://`, unless `allow_private` is set".to_owned()),
            scheme => return Err(format!("`{scheme}` is no scheme that can be posted to")),
        }
        if parsed.host().is_none() {
            return Err(format!("`{url}` names no host"));
        }
        Ok(Self { url: parsed.into(), private })
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The operator's targets by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets(BTreeMap<String, Target>);

impl Targets {
    pub fn get(&self, name: &str) -> Option<&Target> {
        self.0.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl FromIterator<(String, Target)> for Targets {
    fn from_iter<I: IntoIterator<Item = (String, Target)>>(targets: I) -> Self {
        Self(targets.into_iter().collect())
    }
}

/// The headers that prove a post: its id, when it is made, and the signature over both and the body.
pub fn signed_headers(secret: &[u8], id: &str, now: Timestamp, body: &[u8]) -> Option<Vec<(String, String)>> {
    let at = now.as_second().to_string();
    let key = match secret.strip_prefix(SECRET_PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).ok()?,
        None => secret.to_vec(),
    };
    if key.is_empty() {
        return None;
    }
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", body].concat();
    let signature = format!("v1,{}", STANDARD.encode(hmac_sha256(&key, &signed)?));
    let headers = [("webhook-id", id.to_owned()), ("webhook-timestamp", at), ("webhook-signature", signature)];
    Some(headers.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::provider::{FetchedKeys, Headers, Incoming, Settings, Verdict, catalog, verify};
    use crate::model::secret::SecretSet;

    #[test]
    fn only_plain_web_addresses_are_targets() {
        assert_eq!(Target::new("https://audit.example/in", false).unwrap().url(), "https://audit.example/in");
        assert!(Target::new("http://127.0.0.1:9/in", true).is_ok());
        for (url, why) in [
            ("http://audit.example/in", "allow_private"),
            ("https://user:pass@audit.example/", "credentials"),
            ("ftp://audit.example/", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("audit", "no address"),
        ] {
            let refused = Target::new(url, false).unwrap_err();
            assert!(refused.contains(why), "{url}: {refused}");
        }
    }

    #[test]
    fn receivers_that_follow_the_standard_believe_a_post() {
        let secret = b"whsec_c2FtcGxlLXNlY3JldC1vZi0yNC1ieXRlcw==";
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let headers: Headers = signed_headers(secret, "out_1", now, b"{}").unwrap().into_iter().collect();
        let catalogue = catalog::builtin().unwrap();
        let definition = catalogue.get("standard_webhooks").unwrap();
        let secrets = SecretSet::new().with(definition.primary_slot().unwrap(), &secret[..]);
        let judged = |body: &str| {
            let incoming = Incoming::new("POST", "https://h.example/", headers.clone(), body.to_owned());
            verify(definition, &incoming, &secrets, &Settings::default(), &FetchedKeys::new(), now)
        };
        assert!(matches!(judged("{}"), Verdict::Verified(_)));
        assert!(matches!(judged("{ }"), Verdict::Refused(_)));
        assert_eq!(signed_headers(b"whsec_", "out_1", now, b""), None, "an empty key signs nothing");
    }
}
