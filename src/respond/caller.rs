//! Calls to a provider with the credentials in force: secrets that the operator holds, and tokens that are got with
//! them when they are needed.
//!
//! A token is kept in memory until shortly before it ends, for one address of the provider's API. One that the provider
//! takes no more (401) is got anew, once a call. Tokens and what gets them go to the address that the definition or the
//! operator names and nowhere else; they are never logged.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::assertion;
use super::tokens::{Token, Tokens};
use super::transport::{Answer, NoAnswer, Transport};
use crate::error::{Code, Error, Result};
use crate::model::ids::ProviderName;
use crate::model::provider::{
    Catalogue, Definition, FilledCall, Piece, Place, PreparedApp, PreparedCall, PreparedCredential, Settings,
    must_be_encrypted,
};
use crate::model::secret::{SecretSet, SecretValue};
use crate::seam::Clock;
use crate::secrets::Secrets;

/// Longest text of a provider's refusal that is passed on, in characters.
const TOLD_CHARS_MAX: usize = 200;

/// Makes calls to providers; clones share connections and tokens.
#[derive(Clone, Debug)]
pub struct Caller {
    transport: Transport,
    secrets: Secrets,
    catalogue: watch::Receiver<Arc<Catalogue>>,
    tokens: Tokens,
    clock: Clock,
}

/// A call to be made.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub provider: &'a ProviderName,
    pub call: &'a PreparedCall,
    /// What fills its holes.
    pub context: &'a BTreeMap<String, String>,
    /// Another page of its answer, on the same server.
    pub page: Option<&'a str>,
}

impl Caller {
    pub fn new(
        transport: Transport,
        secrets: Secrets,
        catalogue: watch::Receiver<Arc<Catalogue>>,
        clock: Clock,
    ) -> Self {
        Self { transport, secrets, catalogue, tokens: Tokens::default(), clock }
    }

    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    pub fn settings(&self, provider: &ProviderName) -> Settings {
        self.secrets.settings(provider)
    }

    /// Makes the call. Where a delivery has a say in the address, it reaches the public internet alone.
    ///
    /// # Errors
    /// Without an answer: SH0408 when a secret is missing, SH0803 when the address is not allowed, SH0805 when the
    /// provider gives no token, SH0802 when it cannot be reached.
    pub async fn exchange(&self, asked: Asked<'_>) -> std::result::Result<Answer, NoAnswer> {
        let (secrets, got) = self.secrets(asked).await.map_err(not_sent)?;
        let answer = self.once(asked, &secrets).await?;
        let Some(got) = got.filter(|_| answer.status == 401) else { return Ok(answer) };
        got.forget().await;
        let (secrets, _) = self.secrets(asked).await.map_err(not_sent)?;
        self.once(asked, &secrets).await
    }

    /// What a slot holds, as a call would get it; `None` where nothing is set for it.
    ///
    /// # Errors
    /// As [`Caller::exchange`].
    pub async fn secret(&self, provider: &ProviderName, slot: &str) -> Result<Option<SecretValue>> {
        let late = Piece::Late { expression: format!("secret:{slot}"), place: Place::Plain };
        let mut call = PreparedCall::post("https://localhost/");
        call.headers.push(("Authorization".to_owned(), vec![late]));
        let asked = Asked { provider, call: &call, context: &BTreeMap::new(), page: None };
        Ok(self.secrets(asked).await?.0.first(slot).cloned())
    }

    async fn once(&self, asked: Asked<'_>, secrets: &SecretSet) -> std::result::Result<Answer, NoAnswer> {
        let filled = asked.call.fill(asked.context, secrets).map_err(not_sent)?;
        let filled = match asked.page {
            Some(page) => FilledCall { url: page.to_owned(), ..filled },
            None => filled,
        };
        match asked.call.address_is_chosen() {
            true => self.transport.exchange_guarded(&filled).await,
            false => self.transport.exchange(&filled).await,
        }
    }

    /// What the operator holds for this provider, with the token that the call needs in its slot, where it is got.
    async fn secrets(&self, asked: Asked<'_>) -> Result<(SecretSet, Option<Token>)> {
        let mut secrets = self.secrets.for_calls(asked.provider);
        let definition = self.catalogue.borrow().get(asked.provider.as_str()).cloned();
        let Some(definition) = definition.filter(|it| !it.document().api.credentials.is_empty()) else {
            return Ok((secrets, None));
        };
        let settings = self.secrets.settings(asked.provider);
        for slot in asked.call.secret_slots() {
            if let Some(credential) = definition.credential(&slot, &settings, &secrets) {
                let token = self.token(asked.provider, &credential, &settings, &secrets).await?;
                secrets.replace(slot, token.value.clone());
                return Ok((secrets, Some(token)));
            }
            if secrets.first(&slot).is_none() {
                unfinished(&definition, &slot, &settings, &secrets)?;
            }
        }
        Ok((secrets, None))
    }

    async fn token(
        &self,
        provider: &ProviderName,
        credential: &PreparedCredential,
        settings: &Settings,
        secrets: &SecretSet,
    ) -> Result<Token> {
        let base = settings.get("api_base").unwrap_or_default();
        let app = credential.app.as_ref().map(|app| (&app.issuer, &app.installation));
        let key = format!("{provider} {} {base} {app:?} {:?}", credential.kind, credential.token.url);
        let kept = self.tokens.of(key).await;
        kept.get(&self.clock, self.fetch(provider, credential, secrets)).await
    }

    async fn fetch(
        &self,
        provider: &ProviderName,
        credential: &PreparedCredential,
        secrets: &SecretSet,
    ) -> Result<(String, Option<jiff::Timestamp>)> {
        let now = self.clock.now();
        let mut context = BTreeMap::new();
        if let Some(app) = &credential.app {
            let key = secrets.first(&app.private_key).ok_or_else(|| {
                Error::new(Code::SecretMissing, format!("the secret `{}` is not set", app.private_key))
            })?;
            context.insert("assertion".to_owned(), assertion::rs256(key, &app.issuer, now)?);
            let installation = self.installation(provider, app, &context, secrets).await?;
            context.insert("installation".to_owned(), installation);
        }
        let answer = self.ask(&credential.token, &context, secrets).await?;
        tracing::debug!(%provider, credential = credential.kind, "a token was got");
        credential.read(&answer, now).ok_or_else(|| refused("the answer holds no token"))
    }

    async fn installation(
        &self,
        provider: &ProviderName,
        app: &PreparedApp,
        context: &BTreeMap<String, String>,
        secrets: &SecretSet,
    ) -> Result<String> {
        if let Some(installation) = &app.installation {
            return Ok(installation.clone());
        }
        let hint = format!("set `installation_id` of `[providers.{provider}]`");
        let Some(locate) = &app.locate else {
            return Err(refused("nothing says which installation of the app is meant").hint(hint));
        };
        let answer = self.ask(&locate.call, context, secrets).await?;
        locate.only(&answer).map_err(|count| match count {
            0 => refused("the app is installed nowhere").hint("install it where it is to answer"),
            _ => refused("the app has more than one installation, and the settings name none").hint(hint),
        })
    }

    async fn ask(&self, call: &PreparedCall, context: &BTreeMap<String, String>, secrets: &SecretSet) -> Result<Value> {
        let filled = call.fill(context, secrets)?;
        must_be_encrypted(&filled.url)?;
        let answer = self.transport.exchange(&filled).await.map_err(|none| none.error)?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match answer.status {
            200..=299 => Ok(body),
            408 | 429 | 500..=599 => {
                let message = format!("the provider gives no token now: it answered with status {}", answer.status);
                Err(Error::new(Code::ReplyUnavailable, message))
            }
            status => {
                let message = format!("status {status} {}", told(&body));
                let hint = "check the key or secret, and that what it belongs to still exists at the provider";
                Err(refused(message.trim_end()).hint(hint))
            }
        }
    }
}

/// What a provider says of its refusal: it is shown to the operator.
fn told(body: &Value) -> String {
    let told = ["message", "error_description", "reason", "error"].iter().find_map(|name| body[*name].as_str());
    told.unwrap_or_default().chars().filter(|c| !c.is_control()).take(TOLD_CHARS_MAX).collect()
}

/// Where the operator began to set up a way to get the token, what is missing is more than the token.
fn unfinished(definition: &Definition, slot: &str, settings: &Settings, secrets: &SecretSet) -> Result<()> {
    let begun = definition.unfinished(settings, secrets);
    let Some(way) = begun.into_iter().find(|way| way.fills == slot) else { return Ok(()) };
    Err(Error::new(Code::SecretMissing, format!("there is no `{slot}`: {way}"))
        .hint(format!("set it in `[providers.{}]` of skillhook.toml", definition.name())))
}

fn refused(why: &str) -> Error {
    Error::new(Code::CredentialRefused, format!("the provider gives no token: {why}"))
}

fn not_sent(error: Error) -> NoAnswer {
    NoAnswer { error, may_have_arrived: false }
}
