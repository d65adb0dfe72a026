//! What the claims of a verified token must say.

use std::collections::BTreeMap;

use serde_json::Value;

use super::encoded::{decode, encode};
use super::{Refusal, Request};
use crate::model::provider::digests::{HashName, digest, same};
use crate::model::provider::form;
use crate::model::provider::schema::verify::{Claims, Encoding, Expected};

pub(super) fn check(wanted: &Claims, claims: &Value, request: &Request<'_>) -> Result<(), Refusal> {
    let now = request.now.as_second();
    if let Some(expiry) = &wanted.exp {
        match seconds(&claims["exp"]) {
            Some(at) if now > at.saturating_add(expiry.leeway) => return Err(Refusal::TooOld),
            Some(_) => {}
            None if expiry.optional && claims.get("exp").is_none() => {}
            None => return Err(Refusal::Claim),
        }
    }
    if let Some(issued) = &wanted.iat {
        let age = now.saturating_sub(seconds(&claims["iat"]).ok_or(Refusal::Claim)?);
        if age > issued.max_age {
            return Err(Refusal::TooOld);
        }
        if age < -issued.max_age {
            return Err(Refusal::TooNew);
        }
    }
    expect(wanted.aud.as_ref(), &claims["aud"], request)?;
    expect(wanted.iss.as_ref(), &claims["iss"], request)?;
    if wanted.qsh.is_some() {
        let expected = query_hash(request).ok_or(Refusal::Malformed)?;
        let given = claims["qsh"].as_str().ok_or(Refusal::Claim)?;
        if !same(expected.as_bytes(), given.as_bytes()) {
            return Err(Refusal::Claim);
        }
    }
    if let Some(hash) = &wanted.body_hash {
        let given = claims[hash.claim.as_str()].as_str().and_then(|text| decode(hash.encoding, text));
        if !same(&digest(hash.hash, &request.incoming.body), &given.ok_or(Refusal::Claim)?) {
            return Err(Refusal::Claim);
        }
    }
    Ok(())
}

fn seconds(claim: &Value) -> Option<i64> {
    claim.as_i64()
}

/// A claim that must be, or contain, the value of a setting.
fn expect(expected: Option<&Expected>, claim: &Value, request: &Request<'_>) -> Result<(), Refusal> {
    let Some(expected) = expected else { return Ok(()) };
    let Some(wanted) = request.settings.get(&expected.cfg) else {
        return if expected.optional { Ok(()) } else { Err(Refusal::Claim) };
    };
    let said = match claim {
        Value::Array(values) => values.iter().any(|value| value == wanted),
        value => value == wanted,
    };
    if said { Ok(()) } else { Err(Refusal::Claim) }
}

/// Atlassian's hash over method, path and query
/// (<https://developer.atlassian.com/cloud/jira/platform/understanding-jwt-for-connect-apps/#qsh>). The path is
/// relative to the app's base address. Values of a repeated name are sorted before they are escaped, as both of
/// Atlassian's own libraries do.
fn query_hash(request: &Request<'_>) -> Option<String> {
    let incoming = request.incoming;
    let base = request.settings.get("app_base_url").unwrap_or_default();
    let base = base.split_once("://").map_or("", |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    let base = base.trim_end_matches('/');
    let path = match incoming.path.strip_prefix(base) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => &incoming.path,
    };
    let path = path.replace('&', "%26");
    let path = if path.len() > 1 { path.strip_suffix('/').unwrap_or(&path) } else { "/" };

    let mut query: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in form::fields(incoming.query.as_bytes())? {
        if name != "jwt" {
            query.entry(escape(&name)).or_default().push(value);
        }
    }
    let fields = query.into_iter().map(|(name, mut values)| {
        values.sort();
        let values: Vec<String> = values.iter().map(|value| escape(value)).collect();
        format!("{name}={}", values.join(","))
    });
    let canonical = format!("{}&{path}&{}", incoming.method, fields.collect::<Vec<_>>().join("&"));
    Some(encode(Encoding::Hex, &digest(HashName::Sha256, canonical.as_bytes())))
}

/// RFC 3986: everything but the unreserved characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
