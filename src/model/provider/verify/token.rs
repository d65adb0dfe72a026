//! Schemes in which the sender shows a shared secret: a token, or a name and a password. They prove who sends, and
//! nothing about the body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::keys::usable;
use super::{Failure, Proof, Refusal, Request};
use crate::model::provider::digests::same_secret;
use crate::model::provider::schema::verify::{BasicScheme, TokenField, TokenScheme};
use crate::model::provider::selector::Selector;
use crate::model::provider::view::View;

pub(super) fn token(scheme: &TokenScheme, request: &Request<'_>) -> Result<Proof, Failure> {
    request.refuse_repeated(&[&scheme.token.from])?;
    let given = read(&scheme.token, &request.view())?;
    let keys = usable(&scheme.key, request.secrets);
    let same = keys.iter().fold(false, |same, key| same | same_secret(given.as_bytes(), key));
    if same { Ok(proof(&scheme.id)) } else { Err(Refusal::Mismatch.into()) }
}

pub(super) fn basic(scheme: &BasicScheme, request: &Request<'_>) -> Result<Proof, Failure> {
    let from = Selector::Header("authorization".to_owned());
    request.refuse_repeated(&[&from])?;
    let field = TokenField { from, strip_prefix: Some("Basic ".to_owned()) };
    let credentials = STANDARD.decode(read(&field, &request.view())?).map_err(|_| Refusal::Malformed)?;
    let cut = credentials.iter().position(|byte| *byte == b':').ok_or(Refusal::Malformed)?;
    let (user, pass) = (&credentials[..cut], &credentials[cut + 1..]);
    let any = |slot: &str, given: &[u8]| {
        request.secrets.get(slot).iter().fold(false, |same, secret| same | same_secret(given, secret.expose()))
    };
    // Both are compared whatever the first says.
    let (user, pass) = (any(&scheme.user, user), any(&scheme.pass, pass));
    if user & pass { Ok(proof(&scheme.id)) } else { Err(Refusal::Mismatch.into()) }
}

fn proof(id: &str) -> Proof {
    Proof { schemes: vec![id.to_owned()], ..Proof::default() }
}

/// The token without its scheme word, which must be there.
pub(super) fn read(field: &TokenField, view: &View<'_>) -> Result<String, Refusal> {
    let found = view.find(&field.from).filter(|found| !found.is_blank()).ok_or(Refusal::Missing)?;
    let text = found.into_text().ok_or(Refusal::Malformed)?;
    let token = match &field.strip_prefix {
        Some(prefix) => text.strip_prefix(prefix.as_str()).ok_or(Refusal::Malformed)?,
        None => &text,
    };
    if token.is_empty() { Err(Refusal::Missing) } else { Ok(token.to_owned()) }
}
