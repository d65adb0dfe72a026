//! What an app signs to prove who it is: a JSON Web Token (RFC 7519) with RS256, good for some minutes.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::json;
use zeroize::Zeroizing;

use crate::error::{Code, Error, Result};
use crate::model::secret::SecretValue;

/// Earlier than now, for clocks that are not of one mind, in seconds.
const EARLIER: i64 = 60;
/// How long it is good, in seconds; GitHub takes no more than ten minutes.
const GOOD_FOR: i64 = 9 * 60;

/// Signs with an RSA key in PEM: of PKCS#1, as GitHub gives it, or of PKCS#8.
///
/// # Errors
/// SH0805 when the key is none.
pub fn rs256(private_key: &SecretValue, issuer: &str, now: Timestamp) -> Result<String> {
    let key = key_of_pem(private_key).ok_or_else(|| {
        Error::new(Code::CredentialRefused, "the app's private key cannot be read")
            .hint("it must be an RSA key of 2048 bits or more in PEM, with its first and its last line")
    })?;
    let now = now.as_second();
    let claims = json!({ "iat": now - EARLIER, "exp": now + GOOD_FOR, "iss": issuer });
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| Error::new(Code::CredentialRefused, "the app's private key cannot sign"))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn key_of_pem(pem: &SecretValue) -> Option<RsaKeyPair> {
    // In a variable the line ends are often written as `\n`.
    let text = Zeroizing::new(pem.expose_text()?.replace("\\n", "\n"));
    let read = |label: &str| {
        let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
        let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
        let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
        STANDARD.decode(body.as_bytes()).ok().map(Zeroizing::new)
    };
    match read("RSA PRIVATE KEY") {
        Some(der) => RsaKeyPair::from_der(&der).ok(),
        None => RsaKeyPair::from_pkcs8(&read("PRIVATE KEY")?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    /// Bytes of PKCS#8 around the PKCS#1 form of a key of 2048 bits.
    const PKCS8_HEAD: usize = 26;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn both_forms_of_a_key_sign_what_its_public_half_verifies() {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let der = der.as_ref();
        let forms = [
            pem("PRIVATE KEY", der),
            pem("RSA PRIVATE KEY", &der[PKCS8_HEAD..]),
            pem("PRIVATE KEY", der).replace('\n', "\\n"),
        ];
        for form in forms {
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            let token = rs256(&SecretValue::new(form), "12", now).unwrap();
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
            public.verify(signed.as_bytes(), &signature).unwrap();
            let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
            let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
            assert_eq!(claims, json!({ "iat": 1_699_999_940, "exp": 1_700_000_540, "iss": "12" }));
        }
    }

    #[test]
    fn what_is_no_key_says_so_and_shows_nothing() {
        for broken in ["hunter2", "-----BEGIN RSA PRIVATE KEY-----\naGk=\n-----END RSA PRIVATE KEY-----", ""] {
            let error = rs256(&SecretValue::new(broken), "12", Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(error.code(), Code::CredentialRefused);
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}
