//! Whether a request comes from who it says: over the exact bytes, in constant time, failing closed.
//!
//! There is no fallback from a scheme that applies to a weaker one, except where the definition's policy says that
//! one of several is enough. A scheme without its secrets does not count, and without any scheme nothing is verified.

mod claims;
mod encoded;
mod jwt;
mod keys;
mod signed;
mod token;

#[cfg(test)]
mod jwt_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::condition::all_hold;
use super::decode::decode;
use super::definition::Definition;
use super::incoming::Incoming;
use super::prepared::PreparedCall;
use super::schema::verify::{Policy, Scheme};
use super::selector::Selector;
use super::settings::Settings;
use super::view::View;
use crate::model::secret::SecretSet;

pub(super) use encoded::encode as encode_bytes;
pub(super) use keys::usable as usable_keys;
pub(super) use signed::write_signature;

/// What verification answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Verified(Proof),
    Refused(Refusal),
    /// No scheme has its secrets: nothing can be said.
    NotConfigured,
    /// The sender's public key must be fetched first; then ask again with it.
    NeedsKey(Box<KeyRequest>),
}

/// What a verified request may be believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The schemes that agreed.
    pub schemes: Vec<String>,
    /// The body is what the sender signed; a token alone proves only who sent it.
    pub covers_body: bool,
    pub covers_url: bool,
    /// Headers, in lower case, whose values the signature covers.
    pub signed_headers: BTreeSet<String>,
    /// A value that the sender uses once: seen again, the request is a replay.
    pub nonce: Option<String>,
}

impl Proof {
    /// The scheme that agreed, or the first of several.
    pub fn scheme(&self) -> &str {
        self.schemes.first().map_or("", String::as_str)
    }

    /// Whether the value of a selector is covered.
    pub fn covers(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Header(name) => self.signed_headers.contains(&name.to_ascii_lowercase()),
            Selector::Url | Selector::Query(_) => self.covers_url,
            Selector::Const(_) | Selector::Config(_) | Selector::Secret(_) | Selector::Key => true,
            Selector::Raw | Selector::FormSorted | Selector::Form(_) => self.covers_body,
            selector => selector.reads_body() && self.covers_body,
        }
    }

    fn join(mut self, other: Proof) -> Proof {
        self.schemes.extend(other.schemes);
        self.covers_body |= other.covers_body;
        self.covers_url |= other.covers_url;
        self.signed_headers.extend(other.signed_headers);
        self.nonce = self.nonce.or(other.nonce);
        self
    }
}

/// Why a request was refused: for the log and a metric, never for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No configured scheme applies to it.
    NoScheme,
    /// A signature, token or what it needs is not there.
    Missing,
    /// A field that decides stands more than once.
    Repeated,
    /// A signature or token is not written as it should be.
    Malformed,
    /// It was made with another key, or over something else.
    Mismatch,
    TooOld,
    TooNew,
    /// A token says something else than expected.
    Claim,
    /// The sender's public key is unknown or withdrawn.
    KeyRejected,
}

impl Refusal {
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::NoScheme => "no_scheme",
            Refusal::Missing => "missing",
            Refusal::Repeated => "repeated",
            Refusal::Malformed => "malformed",
            Refusal::Mismatch => "mismatch",
            Refusal::TooOld => "too_old",
            Refusal::TooNew => "too_new",
            Refusal::Claim => "claim",
            Refusal::KeyRejected => "key_rejected",
        }
    }
}

/// A key that must be fetched.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRequest {
    /// Under which the answer is remembered and handed in again.
    pub cache_key: String,
    pub call: PreparedCall,
}

/// Answers to key requests, by cache key: the bodies as they came. Keys that could not be got are simply absent.
pub type FetchedKeys = BTreeMap<String, String>;

/// How one scheme ends when it does not verify.
#[derive(Debug, PartialEq)]
enum Failure {
    Refused(Refusal),
    NotConfigured,
    NeedsKey(Box<KeyRequest>),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

/// Everything that a scheme looks at.
struct Request<'a> {
    definition: &'a Definition,
    incoming: &'a Incoming,
    secrets: &'a SecretSet,
    settings: &'a Settings,
    keys: &'a FetchedKeys,
    now: Timestamp,
    /// Decoded only where a scheme reads it.
    body: Option<Value>,
}

/// Verifies a request. `now` is the receiver's clock.
pub fn verify(
    definition: &Definition,
    incoming: &Incoming,
    secrets: &SecretSet,
    settings: &Settings,
    keys: &FetchedKeys,
    now: Timestamp,
) -> Verdict {
    let schemes = &definition.document().verify.schemes;
    let reads_body = schemes.iter().any(scheme_reads_body);
    let body = reads_body.then(|| decode(definition, incoming).ok()).flatten().map(|payload| payload.value);
    let request = Request { definition, incoming, secrets, settings, keys, now, body };
    let configured: Vec<&Scheme> = schemes.iter().filter(|scheme| request.is_configured(scheme)).collect();
    if configured.is_empty() {
        return Verdict::NotConfigured;
    }
    let outcome = match definition.document().verify.policy {
        Policy::FirstApplicable => match configured.into_iter().find(|scheme| request.applies(scheme)) {
            Some(scheme) => request.run(scheme),
            None => Err(Refusal::NoScheme.into()),
        },
        Policy::AllConfigured => request.all(&configured),
        Policy::AnyConfigured => request.any(&configured),
    };
    match outcome {
        Ok(proof) => Verdict::Verified(proof),
        Err(Failure::Refused(refusal)) => Verdict::Refused(refusal),
        Err(Failure::NotConfigured) => Verdict::NotConfigured,
        Err(Failure::NeedsKey(request)) => Verdict::NeedsKey(request),
    }
}

impl<'a> Request<'a> {
    fn view(&'a self) -> View<'a> {
        View {
            incoming: Some(self.incoming),
            body: self.body.as_ref(),
            settings: Some(self.settings),
            api_base: self.definition.document().api.base.as_ref(),
            ..View::default()
        }
    }

    fn is_configured(&self, scheme: &Scheme) -> bool {
        let slots = scheme.slots().iter().all(|slot| !self.secrets.get(slot).is_empty());
        slots
            && match scheme {
                Scheme::Hmac(it) | Scheme::Digest(it) => !usable_keys(&it.key, self.secrets).is_empty(),
                Scheme::Ed25519(it) => !usable_keys(&it.key, self.secrets).is_empty(),
                Scheme::Token(it) => !usable_keys(&it.key, self.secrets).is_empty(),
                Scheme::Basic(_) => true,
                Scheme::Jwt(it) => jwt::is_configured(it, self.secrets, self.settings),
            }
    }

    fn applies(&self, scheme: &Scheme) -> bool {
        let header = match scheme {
            Scheme::Jwt(it) => jwt::header_of(it, &self.view()),
            _ => None,
        };
        all_hold(scheme.when(), &View { jwt_header: header.as_ref(), ..self.view() })
    }

    fn run(&self, scheme: &Scheme) -> Result<Proof, Failure> {
        match scheme {
            Scheme::Hmac(it) => signed::hmac(it, self),
            Scheme::Digest(it) => signed::digest(it, self),
            Scheme::Ed25519(it) => signed::ed25519(it, self),
            Scheme::Token(it) => token::token(it, self),
            Scheme::Basic(it) => token::basic(it, self),
            Scheme::Jwt(it) => jwt::jwt(it, self),
        }
    }

    fn all(&self, schemes: &[&Scheme]) -> Result<Proof, Failure> {
        schemes.iter().try_fold(Proof::default(), |proof, scheme| {
            if !self.applies(scheme) {
                return Err(Refusal::Missing.into());
            }
            Ok(proof.join(self.run(scheme)?))
        })
    }

    fn any(&self, schemes: &[&Scheme]) -> Result<Proof, Failure> {
        let mut worst: Failure = Refusal::NoScheme.into();
        for scheme in schemes.iter().filter(|scheme| self.applies(scheme)) {
            match self.run(scheme) {
                Ok(proof) => return Ok(proof),
                // Another scheme may still need a key; that request is worth more than a refusal.
                Err(needs @ Failure::NeedsKey(_)) => worst = needs,
                Err(failure) if !matches!(worst, Failure::NeedsKey(_)) => worst = failure,
                Err(_) => {}
            }
        }
        Err(worst)
    }

    /// A header or query field that decides must stand once: of two, the sender and we may each mean another.
    fn refuse_repeated(&self, selectors: &[&Selector]) -> Result<(), Failure> {
        let repeated = selectors.iter().any(|selector| match selector {
            Selector::Header(name) => self.incoming.headers.is_repeated(name),
            Selector::Query(name) => super::form::is_repeated(self.incoming.query.as_bytes(), name),
            Selector::Form(name) => super::form::is_repeated(&self.incoming.body, name),
            _ => false,
        });
        if repeated { Err(Refusal::Repeated.into()) } else { Ok(()) }
    }
}

fn scheme_reads_body(scheme: &Scheme) -> bool {
    let in_when = scheme.when().iter().flat_map(|condition| condition.selectors()).any(Selector::reads_body);
    in_when
        || match scheme {
            Scheme::Hmac(it) | Scheme::Digest(it) => {
                let times = it.timestamp.iter().flat_map(|field| field.from.as_slice());
                let read = it.signed.selectors().chain(times).chain([&it.signature.from]).chain(&it.nonce);
                read.into_iter().any(Selector::reads_body)
            }
            Scheme::Ed25519(it) => {
                let times = it.timestamp.iter().flat_map(|field| field.from.as_slice());
                it.signed.selectors().chain(times).chain([&it.signature.from]).any(Selector::reads_body)
            }
            Scheme::Token(it) => it.token.from.reads_body(),
            Scheme::Basic(_) => false,
            Scheme::Jwt(it) => it.token.from.reads_body(),
        }
}
