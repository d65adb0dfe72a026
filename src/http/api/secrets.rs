//! Secrets over the API: which there are and whether they are set, and a new one, sealed into the webhook's file. A value
//! goes in and never comes out.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use warp::http::StatusCode;

use super::changes::{answer, changes, on_behalf};
use super::listing::Listing;
use super::not_found;
use super::query::Query;
use super::request::Asked;
use super::state::ApiState;
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::ledger::DeliveryFilter;
use crate::model::ids::WebhookId;
use crate::model::spec::SecretRef;
use crate::secrets::Secrets;
use crate::secrets::seal::{PREFIX, Sealer};

/// A secret to be set.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// The secret itself; it is sealed before anything is written.
    #[schemars(length(min = 1, max = 4096))]
    value: String,
    /// Which of the provider's secrets it is; the usual one if not given.
    #[serde(default)]
    slot: Option<String>,
    /// For how long those of before still verify, in seconds.
    #[serde(default)]
    #[schemars(range(max = 31_536_000))]
    keep_old_seconds: Option<u32>,
}

/// Which secrets webhooks name, and whether there is something behind the names.
pub async fn list(state: &ApiState, query: &Query) -> Result<Value> {
    let index = super::index::index(state)?;
    let secrets = finder(state)?;
    let mut items = Vec::new();
    for webhook in &index.webhooks {
        let spec = &webhook.spec;
        let filter = DeliveryFilter { webhook: Some(spec.id.clone()), limit: 1, ..DeliveryFilter::default() };
        let last = state.ledger.deliveries(filter).await?.into_iter().next();
        let last_used_at = last.filter(|delivery| delivery.scheme.is_some()).map(|delivery| delivery.received_at);
        for (slot, references) in &spec.secrets {
            for (number, reference) in references.iter().enumerate() {
                items.push(json!({
                    "id": format!("{}/{slot}/{number}", spec.id),
                    "webhook": spec.id,
                    "slot": slot,
                    "place": reference.to_string(),
                    "state": standing(secrets, reference, state.clock.now()),
                    "not_after": reference.not_after(),
                    "last_used_at": last_used_at,
                }));
            }
        }
    }
    Listing::by("id").page(query, items)
}

fn standing(secrets: &Secrets, reference: &SecretRef, now: Timestamp) -> &'static str {
    match reference.not_after() {
        Some(not_after) if not_after <= now => "expired",
        Some(_) | None if secrets.resolve(reference).is_some() => "set",
        Some(_) | None => "missing",
    }
}

/// Seals a secret and writes it into the file of its webhook.
pub async fn put(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Answer> {
    let new: NewSecret = asked.json()?;
    let id = WebhookId::parse(id).map_err(|_| not_found("webhook", id))?;
    let index = super::index::index(state)?;
    let known = index.webhooks.iter().find(|webhook| webhook.spec.id == id);
    let spec = &known.ok_or_else(|| not_found("webhook", id.as_str()))?.spec;
    let slot = match (&new.slot, spec.secrets.keys().next()) {
        (Some(slot), _) => slot.clone(),
        (None, Some(usual)) => usual.clone(),
        (None, None) => return Err(Error::new(Code::Usage, "the webhook has no usual secret").hint("name a `slot`")),
    };
    let sealed = sealer(state)?.seal(new.value.as_bytes())?;
    let mut places = vec![json!({ "sealed": sealed })];
    if let Some(seconds) = new.keep_old_seconds.filter(|seconds| *seconds > 0) {
        let until = SignedDuration::from_secs(i64::from(seconds));
        let until = state.clock.now().checked_add(until).unwrap_or(Timestamp::MAX);
        places.extend(spec.secrets.get(&slot).into_iter().flatten().map(|old| place(old, until)));
    }
    let mut slots: Map<String, Value> =
        spec.secrets.iter().map(|(slot, old)| (slot.clone(), as_written(old))).collect();
    slots.insert(slot, Value::Array(places));
    let mut fields = Map::from_iter([("secrets".to_owned(), Value::Object(slots))]);
    // What named it in the short way gives way to the list.
    for short in ["secret", "secret_env_var", "secret_file"] {
        fields.insert(short.to_owned(), Value::Null);
    }
    Ok(answer(state, changes(state)?.edit_webhook(&id, fields, on_behalf(asked)?).await, StatusCode::OK).await)
}

fn as_written(references: &[SecretRef]) -> Value {
    references.iter().map(|reference| written(reference, reference.not_after())).collect()
}

/// As long as it held before, and no longer than to `until`.
fn place(reference: &SecretRef, until: Timestamp) -> Value {
    written(reference, Some(reference.not_after().map_or(until, |not_after| not_after.min(until))))
}

fn written(reference: &SecretRef, not_after: Option<Timestamp>) -> Value {
    let mut value = match reference.place() {
        SecretRef::Env(name) => json!({ "env": name }),
        SecretRef::File(name) => json!({ "file": name }),
        SecretRef::Sealed(text) => json!({ "sealed": text }),
        SecretRef::Until { .. } => Value::Null,
    };
    if let (Some(fields), Some(not_after)) = (value.as_object_mut(), not_after) {
        fields.insert("not_after".to_owned(), json!(not_after));
    }
    value
}

/// Seals what stands in fields of `webhook_config` in plain text, before anybody else sees them.
///
/// # Errors
/// SH0902 when it cannot be sealed.
pub fn seal_fields(state: &ApiState, fields: &mut Map<String, Value>) -> Result<()> {
    let plain = |value: &Value| value.as_str().is_some_and(|text| !text.trim_start().starts_with(PREFIX));
    let seal = |value: &mut Value| -> Result<()> {
        let text = value.as_str().unwrap_or_default().to_owned();
        *value = Value::String(sealer(state)?.seal(text.as_bytes())?);
        Ok(())
    };
    if let Some(secret) = fields.get_mut("secret").filter(|secret| plain(secret)) {
        seal(secret)?;
    }
    let Some(Value::Object(slots)) = fields.get_mut("secrets") else { return Ok(()) };
    for value in slots.values_mut() {
        let mut values = match value.take() {
            Value::Array(values) => values,
            single => vec![single],
        };
        for value in &mut values {
            if plain(value) {
                seal(value)?;
            }
            // Sealed texts stand under their own key.
            if let Value::String(sealed) = value {
                *value = json!({ "sealed": sealed });
            }
        }
        *value = Value::Array(values);
    }
    Ok(())
}

fn finder(state: &ApiState) -> Result<&Secrets> {
    state.secrets.as_ref().ok_or_else(|| Error::new(Code::NotReady, "secrets are not looked for here"))
}

fn sealer(state: &ApiState) -> Result<&Sealer> {
    finder(state)?.sealer().ok_or_else(|| {
        Error::new(Code::SealUnreadable, "there is no key to seal with").hint("look at the log of the start")
    })
}
