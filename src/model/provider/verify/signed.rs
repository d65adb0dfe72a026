//! Schemes in which the sender signs what it sends: HMAC, plain digests with a key in them, Ed25519.

use ed25519_dalek::{Signature, VerifyingKey};
use jiff::Timestamp;

use super::encoded::decode;
use super::keys::usable;
use super::{Failure, Proof, Refusal, Request};
use crate::model::provider::digests::{self, mac, same};
use crate::model::provider::schema::verify::{
    BodyDigest, Hashed, SignatureField, Signed, TimeUnit, TimestampField, UrlVariant,
};
use crate::model::provider::selector::Selector;
use crate::model::provider::template::Template;
use crate::model::provider::view::View;

/// Most signatures in one field that are tried.
const CANDIDATES_MAX: usize = 16;

pub(super) fn hmac(scheme: &Hashed, request: &Request<'_>) -> Result<Proof, Failure> {
    let keys = usable(&scheme.key, request.secrets);
    check(&Parts::of_hashed(scheme), request, |signed, signature| {
        // No short cut: every key is tried.
        keys.iter().fold(false, |good, key| {
            good | mac(scheme.hash, key, signed).is_some_and(|expected| same(&expected, signature))
        })
    })
}

pub(super) fn digest(scheme: &Hashed, request: &Request<'_>) -> Result<Proof, Failure> {
    let mut last = Failure::NotConfigured;
    for key in usable(&scheme.key, request.secrets) {
        let parts = Parts { key: Some(&key), ..Parts::of_hashed(scheme) };
        let good = |signed: &[u8], signature: &[u8]| same(&digests::digest(scheme.hash, signed), signature);
        match check(&parts, request, good) {
            Ok(proof) => return Ok(proof),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

pub(super) fn ed25519(scheme: &Signed, request: &Request<'_>) -> Result<Proof, Failure> {
    let keys: Vec<VerifyingKey> = usable(&scheme.key, request.secrets)
        .iter()
        .filter_map(|key| VerifyingKey::from_bytes(key.as_slice().try_into().ok()?).ok())
        .collect();
    if keys.is_empty() {
        return Err(Failure::NotConfigured);
    }
    check(&Parts::of_signed(scheme), request, |signed, signature| {
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        keys.iter().any(|key| key.verify_strict(signed, &signature).is_ok())
    })
}

/// What such schemes have in common.
struct Parts<'a> {
    id: &'a str,
    signature: &'a SignatureField,
    timestamp: Option<&'a TimestampField>,
    signed: &'a Template,
    url_variants: &'a [UrlVariant],
    body_digest: Option<&'a BodyDigest>,
    nonce: Option<&'a Selector>,
    covers_body: Option<bool>,
    key: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn of_hashed(it: &'a Hashed) -> Self {
        Self {
            id: &it.id,
            signature: &it.signature,
            timestamp: it.timestamp.as_ref(),
            signed: &it.signed,
            url_variants: &it.url_variants,
            body_digest: it.body_digest.as_ref(),
            nonce: it.nonce.as_ref(),
            covers_body: it.covers_body,
            key: None,
        }
    }

    fn of_signed(it: &'a Signed) -> Self {
        Self {
            id: &it.id,
            signature: &it.signature,
            timestamp: it.timestamp.as_ref(),
            signed: &it.signed,
            url_variants: &it.url_variants,
            body_digest: it.body_digest.as_ref(),
            nonce: it.nonce.as_ref(),
            covers_body: it.covers_body,
            key: None,
        }
    }

    fn proof(&self, view: &View<'_>) -> Proof {
        let of_body = |it: &Selector| matches!(it, Selector::Raw | Selector::FormSorted | Selector::Form(_));
        let signed_headers = self.signed.selectors().filter_map(|selector| match selector {
            Selector::Header(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        let nonce = self.nonce.and_then(|selector| view.find(selector)?.into_text());
        Proof {
            schemes: vec![self.id.to_owned()],
            covers_body: self
                .covers_body
                .unwrap_or_else(|| self.body_digest.is_some() || self.signed.selectors().any(of_body)),
            covers_url: self.signed.selectors().any(|it| *it == Selector::Url),
            signed_headers: signed_headers.collect(),
            nonce: nonce.map(|nonce| nonce.into_owned()),
        }
    }
}

fn check(parts: &Parts<'_>, request: &Request<'_>, good: impl Fn(&[u8], &[u8]) -> bool) -> Result<Proof, Failure> {
    let times = parts.timestamp.iter().flat_map(|field| field.from.as_slice());
    let deciding: Vec<&Selector> = parts.signed.selectors().chain(times).chain([&parts.signature.from]).collect();
    request.refuse_repeated(&deciding)?;

    let view = View { key: parts.key, ..request.view() };
    let found = view.find(&parts.signature.from).filter(|found| !found.is_blank()).ok_or(Refusal::Missing)?;
    let written = found.into_text().ok_or(Refusal::Malformed)?;
    let fields = fields(parts.signature, &written);
    let candidates = candidates(parts.signature, &written, &fields)?;
    let view = View { signature: &fields, ..view };

    if let Some(field) = parts.timestamp {
        check_time(field, &view, request.now)?;
    }
    if let Some(expected) = parts.body_digest {
        let written = view.find(&expected.from).and_then(|found| found.into_text()).ok_or(Refusal::Missing)?;
        let given = decode(expected.encoding, &written).ok_or(Refusal::Malformed)?;
        if !same(&digests::digest(expected.hash, &request.incoming.body), &given) {
            return Err(Refusal::Mismatch.into());
        }
    }
    let as_is = [UrlVariant::AsIs];
    let variants = if parts.url_variants.is_empty() { &as_is[..] } else { parts.url_variants };
    let mut matched = false;
    for variant in variants {
        let Some(url) = spelled(&request.incoming.url, *variant) else { continue };
        let signed = parts.signed.bytes(&View { url: Some(&url), ..view }).ok_or(Refusal::Missing)?;
        for candidate in &candidates {
            matched |= good(&signed, candidate);
        }
    }
    if matched { Ok(parts.proof(&view)) } else { Err(Refusal::Mismatch.into()) }
}

/// The named elements of a signature field that is a list.
fn fields(field: &SignatureField, written: &str) -> Vec<(String, String)> {
    let (Some(list_sep), Some(kv_sep)) = (&field.list_sep, &field.kv_sep) else { return Vec::new() };
    let trimmed = |text: &str| if field.trim { text.trim().to_owned() } else { text.to_owned() };
    let elements = written.split(list_sep.as_str()).filter_map(|element| element.split_once(kv_sep.as_str()));
    // One more than may be tried, so that too many are noticed.
    elements.map(|(name, value)| (trimmed(name), trimmed(value))).take(4 * CANDIDATES_MAX).collect()
}

fn candidates(field: &SignatureField, written: &str, fields: &[(String, String)]) -> Result<Vec<Vec<u8>>, Refusal> {
    let texts: Vec<&str> = match (&field.key, &field.list_sep) {
        (Some(key), _) => fields.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect(),
        (None, Some(list_sep)) => written.split(list_sep.as_str()).collect(),
        (None, None) => vec![written],
    };
    if texts.is_empty() {
        return Err(Refusal::Missing);
    }
    if texts.len() > CANDIDATES_MAX {
        return Err(Refusal::Malformed);
    }
    let decoded: Vec<Vec<u8>> = texts.into_iter().filter_map(|text| one_candidate(field, text)).collect();
    if decoded.is_empty() { Err(Refusal::Malformed) } else { Ok(decoded) }
}

fn one_candidate(field: &SignatureField, text: &str) -> Option<Vec<u8>> {
    let text = if field.trim { text.trim() } else { text };
    let text = match &field.prefix {
        Some(prefix) => match text.strip_prefix(prefix.as_str()) {
            Some(rest) => rest,
            None if field.prefix_optional => text,
            None => return None,
        },
        None => text,
    };
    decode(field.encoding, text).filter(|bytes| !bytes.is_empty())
}

fn check_time(field: &TimestampField, view: &View<'_>, now: Timestamp) -> Result<(), Refusal> {
    let found = field.from.as_slice().iter().find_map(|it| view.find(it).filter(|found| !found.is_blank()));
    let Some(found) = found else {
        return if field.optional { Ok(()) } else { Err(Refusal::Missing) };
    };
    let text = found.into_text().ok_or(Refusal::Malformed)?;
    let at = whole_number(&text).ok_or(Refusal::Malformed)?;
    let (age, a_second) = match field.unit {
        TimeUnit::Seconds => (now.as_second().saturating_sub(at), 1),
        TimeUnit::Milliseconds => (now.as_millisecond().saturating_sub(at), 1_000),
    };
    if age > field.past.saturating_mul(a_second) {
        return Err(Refusal::TooOld);
    }
    match field.future {
        Some(future) if age < future.saturating_mul(a_second).saturating_neg() => Err(Refusal::TooNew),
        _ => Ok(()),
    }
}

/// Digits and nothing else.
fn whole_number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Another spelling of the address; `None` when it has no such spelling.
fn spelled(url: &str, variant: UrlVariant) -> Option<String> {
    if variant == UrlVariant::AsIs {
        return Some(url.to_owned());
    }
    let (scheme, rest) = url.split_once("://")?;
    let cut = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(cut);
    let port = authority.rfind(':').filter(|at| authority[at + 1..].bytes().all(|byte| byte.is_ascii_digit()));
    match (variant, port) {
        (UrlVariant::AddPort, None) => {
            let usual = if scheme.eq_ignore_ascii_case("http") { 80 } else { 443 };
            Some(format!("{scheme}://{authority}:{usual}{target}"))
        }
        (UrlVariant::RemovePort, Some(at)) => Some(format!("{scheme}://{}{target}", &authority[..at])),
        (UrlVariant::AddPort | UrlVariant::RemovePort | UrlVariant::AsIs, _) => None,
    }
}

/// A signature as the sender would write it into its field.
pub fn write_signature(field: &SignatureField, signature: &[u8], at: &str) -> String {
    let encoded = super::encode_bytes(field.encoding, signature);
    match (&field.key, &field.kv_sep, &field.list_sep) {
        (Some(key), Some(kv_sep), Some(list_sep)) if !at.is_empty() => {
            format!("t{kv_sep}{at}{list_sep}{key}{kv_sep}{encoded}")
        }
        (Some(key), Some(kv_sep), _) => format!("{key}{kv_sep}{encoded}"),
        _ => format!("{}{encoded}", field.prefix.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_spellings_with_and_without_port() {
        let spell = |url: &str, variant| spelled(url, variant);
        assert_eq!(spell("https://a.example/x?y", UrlVariant::AddPort).as_deref(), Some("https://a.example:443/x?y"));
        assert_eq!(spell("http://a.example?y", UrlVariant::AddPort).as_deref(), Some("http://a.example:80?y"));
        assert_eq!(spell("https://a.example:8443/x", UrlVariant::RemovePort).as_deref(), Some("https://a.example/x"));
        assert_eq!(spell("https://a.example/x:1", UrlVariant::RemovePort), None);
        assert_eq!(spell("https://a.example:8443/x", UrlVariant::AddPort), None);
    }

    #[test]
    fn timestamps_are_digits() {
        for bad in ["", "-1", "+1", " 1", "1.0", "1e3", "9999999999999999999"] {
            assert_eq!(whole_number(bad), None, "{bad}");
        }
        assert_eq!(whole_number("1767225600"), Some(1_767_225_600));
    }
}
