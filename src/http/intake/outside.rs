//! What a delivery needs from elsewhere before it can be believed or understood: the sender's public key, and the words
//! that it only names. Both are bounded: an unverified request must not make the gateway call others at will.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::{Arrived, Intake};
use crate::error::{Code, Error, Result};
use crate::model::ids::{ProviderName, WebhookId};
use crate::model::intake::{Enrichment, Verified, enrichments};
use crate::model::provider::{FetchedKeys, KeyRequest, Pointer, PreparedCall};
use crate::model::secret::{SecretSet, SecretValue};

/// For how long a fetched key is used.
const KEY_KEPT: Duration = Duration::from_secs(10 * 60);
const KEYS_MAX: usize = 256;
/// Keys fetched within a minute; more wait.
const FETCHES_A_MINUTE_MAX: usize = 30;
/// For one call: the sender waits meanwhile.
const CALL: Duration = Duration::from_secs(3);
/// Items of a batch whose words are fetched; the others go without.
const ENRICHED_MAX: usize = 32;
const AT_ONCE: usize = 8;

type Called = Pin<Box<dyn Future<Output = Result<(u16, Bytes)>> + Send>>;
/// Makes a call with the secrets that are given, else with those for calls to the provider.
type Call = dyn Fn(ProviderName, PreparedCall, Option<Arc<SecretSet>>) -> Called + Send + Sync;
/// Keeps a secret that a sender gave in a handshake; an error when there is one already.
type Keep = dyn Fn(&WebhookId, &str, &SecretValue) -> Result<()> + Send + Sync;

/// The ways out that the intake is lent.
#[derive(Clone, Default)]
pub struct Outside {
    pub call: Option<Arc<Call>>,
    pub keep: Option<Arc<Keep>>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside(…)")
    }
}

/// Fetched keys by cache key, and when fetches were made.
#[derive(Debug, Default)]
pub(super) struct Keys(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    keys: HashMap<String, (Instant, String)>,
    fetched: VecDeque<Instant>,
}

impl Keys {
    fn find(&self, key: &str, now: Instant) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, body) = kept.keys.get(key)?;
        (now.duration_since(*at) < KEY_KEPT).then(|| body.clone())
    }

    /// Whether one more may be fetched now; counts it.
    fn may_fetch(&self, now: Instant) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.fetched.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(60)) {
            kept.fetched.pop_front();
        }
        let may = kept.fetched.len() < FETCHES_A_MINUTE_MAX;
        if may {
            kept.fetched.push_back(now);
        }
        may
    }

    fn keep(&self, key: String, body: String, now: Instant) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.keys.len() >= KEYS_MAX {
            kept.keys.retain(|_, (at, _)| now.duration_since(*at) < KEY_KEPT);
        }
        if kept.keys.len() < KEYS_MAX {
            kept.keys.insert(key, (now, body));
        }
    }
}

impl Intake {
    /// The key, remembered or fetched.
    pub(super) async fn key(&self, arrived: &Arrived, request: KeyRequest) -> Result<FetchedKeys> {
        let now = Instant::now();
        let cache_key = format!("{} {}", arrived.route.spec.provider, request.cache_key);
        let body = match self.keys.find(&cache_key, now) {
            Some(body) => body,
            None => {
                let not_yet =
                    |why: &str| Error::new(Code::NotReady, "the sender's public key is not known yet").detail(why);
                if !self.keys.may_fetch(now) {
                    return Err(not_yet("too many keys were fetched lately"));
                }
                let secrets = Some(Arc::clone(&arrived.secrets));
                let (status, body) = self.call(arrived, request.call, secrets).await?;
                let text = String::from_utf8(body.to_vec()).unwrap_or_default();
                if !(200..300).contains(&status) {
                    return Err(not_yet(&format!("the key was answered with status {status}")));
                }
                self.keys.keep(cache_key, text.clone(), now);
                text
            }
        };
        Ok(FetchedKeys::from([(request.cache_key, body)]))
    }

    /// What each item only names, by field; what cannot be had is left out.
    pub(super) async fn enriched(
        &self,
        arrived: &Arrived,
        verified: &Verified,
    ) -> Result<Vec<BTreeMap<String, String>>> {
        if arrived.route.definition.document().enrich.is_empty() {
            return Ok(Vec::new());
        }
        let keys = FetchedKeys::new();
        let wanted = enrichments(self.grounds(arrived, &keys), verified)?;
        let fetching = wanted.into_iter().enumerate().map(|(n, calls)| async move {
            let mut fields = BTreeMap::new();
            for Enrichment { call, take } in calls.into_iter().filter(|_| n < ENRICHED_MAX) {
                match self.call(arrived, call, None).await {
                    Ok((200..=299, body)) => fields.extend(taken(&body, &take)),
                    Ok((status, _)) => tracing::warn!(status, "what a delivery names could not be fetched"),
                    Err(error) => {
                        tracing::warn!(error = error.internal(), "what a delivery names could not be fetched")
                    }
                }
            }
            fields
        });
        Ok(stream::iter(fetching).buffered(AT_ONCE).collect().await)
    }

    async fn call(
        &self,
        arrived: &Arrived,
        call: PreparedCall,
        secrets: Option<Arc<SecretSet>>,
    ) -> Result<(u16, Bytes)> {
        let Some(make) = &self.options.outside.call else {
            return Err(Error::new(Code::NotReady, "no calls can be made from here"));
        };
        let made = make(arrived.route.spec.provider.clone(), call, secrets);
        tokio::time::timeout(CALL, made).await.unwrap_or_else(|_| {
            Err(Error::new(Code::NotReady, "the provider does not answer in time").hint("send it again later"))
        })
    }

    /// Keeps what a handshake brings, where the operator has opened the door for a while.
    pub(super) fn keep(&self, arrived: &Arrived, brought: &BTreeMap<String, SecretValue>) -> Result<()> {
        let spec = &arrived.route.spec;
        let until =
            self.settings(&spec.provider).get("handshake_until").and_then(|text| text.parse::<jiff::Timestamp>().ok());
        if until.is_none_or(|until| until <= arrived.now) {
            return Err(Error::new(Code::NotReady, "no handshake is expected now").hint(format!(
                "set `handshake_until` of `[providers.{}]` to a time that is soon, start again, then register the webhook",
                spec.provider
            )));
        }
        let Some(keep) = &self.options.outside.keep else {
            return Err(Error::new(Code::NotReady, "the secret that this handshake brings cannot be kept"));
        };
        brought.iter().try_for_each(|(slot, value)| keep(&spec.id, slot, value))
    }
}

fn taken<'a>(body: &Bytes, take: &'a [(String, String)]) -> impl Iterator<Item = (String, String)> + use<'a> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    take.iter().filter_map(move |(field, pointer)| {
        let found = Pointer::parse(pointer).ok()?.find(&value)?.as_str()?.to_owned();
        Some((field.clone(), found))
    })
}
