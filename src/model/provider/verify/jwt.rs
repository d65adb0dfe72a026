//! JSON Web Tokens (RFC 7519) in compact form, checked against one algorithm that the definition names.
//!
//! The token's own `alg` must be that one: it never chooses how it is checked (RFC 8725, section 3.1).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::keys::usable;
use super::{Failure, KeyRequest, Proof, Refusal, Request, claims, token};
use crate::model::provider::call;
use crate::model::provider::digests::{HashName, mac, same};
use crate::model::provider::schema::verify::{Algorithm, Fetch, JwtKey, JwtScheme, KeyFormat};
use crate::model::provider::settings::Settings;
use crate::model::provider::view::View;
use crate::model::secret::SecretSet;

/// Longest token in bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest key id in characters.
const KEY_ID_CHARS_MAX: usize = 128;

/// Whether everything is there that the scheme needs from the operator. A key that anyone's token could name
/// proves nothing without a claim that names us.
pub(super) fn is_configured(scheme: &JwtScheme, secrets: &SecretSet, settings: &Settings) -> bool {
    let expected = scheme.claims.aud.iter().chain(&scheme.claims.iss).filter(|expected| !expected.optional);
    let key = match &scheme.key {
        JwtKey::Secret(key) => !usable(key, secrets).is_empty(),
        JwtKey::Fetched(_) => true,
    };
    key && expected.into_iter().all(|expected| settings.get(&expected.cfg).is_some())
}

/// The header of a token, unverified, for conditions.
pub(super) fn header_of(scheme: &JwtScheme, view: &View<'_>) -> Option<Value> {
    let token = token::read(&scheme.token, view).ok().filter(|token| token.len() <= TOKEN_BYTES_MAX)?;
    let header = token.split('.').next()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()
}

pub(super) fn jwt(scheme: &JwtScheme, request: &Request<'_>) -> Result<Proof, Failure> {
    request.refuse_repeated(&[&scheme.token.from])?;
    let token = token::read(&scheme.token, &request.view())?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refusal::Malformed.into());
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refusal::Malformed)?;
    let header = json_of(header)?;
    let algorithm = match scheme.algs.0 {
        Algorithm::Hs256 => "HS256",
        Algorithm::Rs256 => "RS256",
        Algorithm::Es256 => "ES256",
    };
    if header["alg"] != algorithm || header.get("crit").is_some() {
        return Err(Refusal::Malformed.into());
    }
    let good = match &scheme.key {
        JwtKey::Secret(key) if scheme.algs.0 == Algorithm::Hs256 => {
            usable(key, request.secrets).iter().fold(false, |good, key| {
                let expected = mac(HashName::Sha256, key, signed.as_bytes());
                good | expected.is_some_and(|expected| same(&expected, &signature))
            })
        }
        JwtKey::Secret(_) => false,
        JwtKey::Fetched(key) => {
            let public = fetched(&key.fetch, &header, request)?;
            verifies(scheme.algs.0, &public, signed.as_bytes(), &signature)
        }
    };
    if !good {
        return Err(Refusal::Mismatch.into());
    }
    claims::check(&scheme.claims, &json_of(payload)?, request)?;
    Ok(Proof {
        schemes: vec![scheme.id.clone()],
        covers_body: scheme.claims.body_hash.is_some(),
        covers_url: scheme.claims.qsh.is_some(),
        ..Proof::default()
    })
}

fn json_of(part: &str) -> Result<Value, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| Refusal::Malformed)?;
    if value.is_object() { Ok(value) } else { Err(Refusal::Malformed) }
}

/// A public key in the form that its algorithm wants.
enum PublicKey {
    /// SubjectPublicKeyInfo, or for elliptic curves the uncompressed point.
    Der(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

/// The sender's key from the answers at hand, or the request that gets it.
fn fetched(fetch: &Fetch, header: &Value, request: &Request<'_>) -> Result<PublicKey, Failure> {
    if let Some(id) = header.get("kid") {
        let id = id.as_str().ok_or(Refusal::Malformed)?;
        let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !plain || id.is_empty() || id.len() > KEY_ID_CHARS_MAX {
            return Err(Refusal::Malformed.into());
        }
    }
    let view = View { jwt_header: Some(header), ..request.view() };
    let call = call::prepare_fetch(fetch, &view).ok_or(Refusal::Missing)?;
    let cached_by = fetch.cache_by.as_ref().unwrap_or(&fetch.url).text(&view).ok_or(Refusal::Missing)?;
    let cache_key = format!("{}:{cached_by}", request.definition.name());
    let Some(answer) = request.keys.get(&cache_key) else {
        return Err(Failure::NeedsKey(Box::new(KeyRequest { cache_key, call })));
    };
    match fetch.format {
        KeyFormat::Pem => Ok(PublicKey::Der(der_of_pem(answer).ok_or(Refusal::KeyRejected)?)),
        KeyFormat::Jwk => {
            let answer: Value = serde_json::from_str(answer).map_err(|_| Refusal::KeyRejected)?;
            let withdrawn = fetch.reject_if.as_ref().and_then(|pointer| pointer.find(&answer));
            if withdrawn.is_some_and(|value| !value.is_null()) {
                return Err(Refusal::KeyRejected.into());
            }
            let key = fetch.take.as_ref().map_or(Some(&answer), |pointer| pointer.find(&answer));
            Ok(key.and_then(of_jwk).ok_or(Refusal::KeyRejected)?)
        }
    }
}

fn der_of_pem(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let text: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok()
}

/// RFC 7517 and 7518.
fn of_jwk(jwk: &Value) -> Option<PublicKey> {
    let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
    match jwk["kty"].as_str()? {
        "EC" if jwk["crv"] == "P-256" => {
            let (x, y) = (number("x")?, number("y")?);
            (x.len() == 32 && y.len() == 32).then(|| PublicKey::Der([vec![4], x, y].concat()))
        }
        "RSA" => Some(PublicKey::Rsa { n: number("n")?, e: number("e")? }),
        _ => None,
    }
}

fn verifies(algorithm: Algorithm, key: &PublicKey, signed: &[u8], signature: &[u8]) -> bool {
    match (algorithm, key) {
        (Algorithm::Es256, PublicKey::Der(point)) => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
        }
        (Algorithm::Rs256, PublicKey::Der(der)) => {
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).verify(signed, signature).is_ok()
        }
        (Algorithm::Rs256, PublicKey::Rsa { n, e }) => {
            let key = aws_lc_rs::signature::RsaPublicKeyComponents { n, e };
            key.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature).is_ok()
        }
        (Algorithm::Es256, PublicKey::Rsa { .. }) | (Algorithm::Hs256, _) => false,
    }
}
