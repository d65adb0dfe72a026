//! Tokens: fetched keys, claims, and confusion of algorithms.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::model::provider::digests::{HashName, digest, mac};
use crate::model::provider::{Headers, catalog};

const NOW: i64 = 1_767_225_600;

fn token(header: Value, claims: Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn judge(
    provider: &str,
    secrets: &SecretSet,
    settings: &Settings,
    keys: &FetchedKeys,
    header: (&str, String),
) -> Verdict {
    let catalogue = catalog::builtin().unwrap();
    let headers: Headers = [header].into_iter().collect();
    let incoming = Incoming::new("POST", "https://app.example/base/hook?b=2&a=1&jwt=x", headers, "{}");
    verify(catalogue.get(provider).unwrap(), &incoming, secrets, settings, keys, Timestamp::from_second(NOW).unwrap())
}

#[test]
fn plaid_key_is_asked_for_and_then_verifies() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let sign = |message: &[u8]| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
    let point = pair.public_key().as_ref().to_vec();
    let secrets = SecretSet::new().with("client_id", "c").with("api_secret", "s");
    let claims =
        |age: i64| json!({"iat": NOW - age, "request_body_sha256": hex::encode(digest(HashName::Sha256, b"{}"))});
    let header = json!({"alg": "ES256", "kid": "key-1", "typ": "JWT"});
    let with = |keys: &FetchedKeys, token: String| {
        judge("plaid", &secrets, &Settings::default(), keys, ("Plaid-Verification", token))
    };
    let good = token(header.clone(), claims(300), sign);

    let Verdict::NeedsKey(request) = with(&FetchedKeys::new(), good.clone()) else { panic!("no key was asked for") };
    assert_eq!(request.cache_key, "plaid:key-1");
    let filled = request.call.fill(&BTreeMap::new(), &secrets).unwrap();
    assert_eq!(filled.url, "https://production.plaid.com/webhook_verification_key/get");
    let body: Value = serde_json::from_slice(&filled.body.unwrap()).unwrap();
    assert_eq!(body, json!({"client_id": "c", "secret": "s", "key_id": "key-1"}));

    let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let jwk = |expired: Value| {
        let (x, y) = (coordinate(&point[1..33]), coordinate(&point[33..]));
        let answer = json!({"key": {"kty": "EC", "crv": "P-256", "x": x, "y": y, "expired_at": expired}});
        FetchedKeys::from([("plaid:key-1".to_owned(), answer.to_string())])
    };
    let keys = jwk(Value::Null);
    assert!(matches!(with(&keys, good.clone()), Verdict::Verified(proof) if proof.covers_body));
    assert_eq!(with(&jwk(json!(1)), good), Verdict::Refused(Refusal::KeyRejected));
    assert_eq!(with(&keys, token(header.clone(), claims(301), sign)), Verdict::Refused(Refusal::TooOld));
    assert_eq!(with(&keys, token(header.clone(), json!({"iat": NOW}), sign)), Verdict::Refused(Refusal::Claim));
    // The public key as an HMAC secret, no signature at all, a key id that leads elsewhere.
    let confused = |message: &[u8]| mac(HashName::Sha256, &point, message).unwrap();
    let of = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});
    assert_eq!(with(&keys, token(of("HS256", "key-1"), claims(0), confused)), Verdict::Refused(Refusal::Malformed));
    assert_eq!(
        with(&keys, token(of("none", "key-1"), claims(0), |_| Vec::new())),
        Verdict::Refused(Refusal::Malformed)
    );
    assert_eq!(with(&keys, token(of("ES256", "../x"), claims(0), sign)), Verdict::Refused(Refusal::Malformed));
}

#[test]
fn jira_install_is_checked_against_the_key_of_its_id_and_our_address() {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let sign = |message: &[u8]| {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    };
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()));
    let cache_key = "jira:https://connect-install-keys.atlassian.com/kid-1".to_owned();
    let settings: Settings = [("app_base_url", "https://app.example/base")].into_iter().collect();
    // Relative to the base, the query sorted and without the token.
    let qsh = hex::encode(digest(HashName::Sha256, b"POST&/hook&a=1&b=2"));
    let claims = |aud: &str, qsh: &str| json!({"exp": NOW - 3, "aud": [aud], "qsh": qsh});
    let header = json!({"alg": "RS256", "kid": "kid-1"});
    let with = |settings: &Settings, keys: &FetchedKeys, claims: Value| {
        let authorization = format!("JWT {}", token(header.clone(), claims, sign));
        judge("jira", &SecretSet::new(), settings, keys, ("Authorization", authorization))
    };
    let good = claims("https://app.example/base", &qsh);
    let Verdict::NeedsKey(request) = with(&settings, &FetchedKeys::new(), good.clone()) else {
        panic!("no key was asked for")
    };
    assert_eq!(request.cache_key, cache_key);
    let keys = FetchedKeys::from([(cache_key, pem)]);
    assert!(matches!(with(&settings, &keys, good.clone()), Verdict::Verified(_)));
    let elsewhere = claims("https://other.example", &qsh);
    assert_eq!(with(&settings, &keys, elsewhere), Verdict::Refused(Refusal::Claim));
    let context = claims("https://app.example/base", "context-qsh");
    assert_eq!(with(&settings, &keys, context), Verdict::Refused(Refusal::Claim));
    // Without our own address anyone's install would do, so the scheme does not count.
    assert_eq!(with(&Settings::default(), &keys, good), Verdict::NotConfigured);
}
