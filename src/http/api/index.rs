//! What is served: webhooks, skills, agents, providers; and the request for a pass.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::access::Caller;
use super::listing::Listing;
use super::query::Query;
use super::state::{ApiState, Asked, IndexView, WebhookView};
use super::table::WAIT_SECONDS_MAX;
use super::{not_found, ok, shown};
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::ledger::rows::Deed;
use crate::model::snapshot::skill_path;
use crate::reconcile::versions::Age;

/// Who made what comes with the program.
const WITH_US: &str = "skillhook";

pub fn index(state: &ApiState) -> Result<Arc<IndexView>> {
    state.index.current().ok_or_else(|| Error::new(Code::NotReady, "the first pass has not been applied yet"))
}

pub async fn webhooks(state: &ApiState, query: &Query) -> Result<Value> {
    let (index, ages) = (index(state)?, ages(state).await);
    let webhooks: Vec<Value> = (index.webhooks.iter())
        .map(|webhook| {
            let (spec, age) = (&webhook.spec, age(webhook, &ages));
            json!({
                "id": spec.id,
                "name": spec.name,
                "provider": spec.provider,
                "endpoint": spec.endpoint,
                "is_builtin": spec.builtin,
                "enabled": spec.enabled,
                "generation": webhook.generation,
                "commands": spec.commands.len(),
                "conditions": webhook.conditions,
                "created_at": age.created_at,
                "created_by": age.created_by,
                "updated_at": age.updated_at,
                "updated_by": age.updated_by,
            })
        })
        .collect();
    Listing::by("id").page(query, webhooks)
}

pub async fn webhook(state: &ApiState, id: &str) -> Result<Value> {
    let index = index(state)?;
    let webhook = (index.webhooks.iter()).find(|webhook| webhook.spec.id.as_str() == id);
    let webhook = webhook.ok_or_else(|| not_found("webhook", id))?;
    let ages = ages(state).await;
    let mut value = shown(webhook)?;
    if let (Some(fields), Value::Object(age)) = (value.as_object_mut(), shown(&age(webhook, &ages))?) {
        fields.insert("id".to_owned(), json!(webhook.spec.id));
        fields.insert("is_builtin".to_owned(), json!(webhook.spec.builtin));
        fields.extend(age);
    }
    Ok(value)
}

/// Since when there is a webhook, and who changed it last: as git tells it of the files that it is made of.
#[derive(Debug, Default, Serialize)]
struct WebhookAge {
    created_at: Option<Timestamp>,
    created_by: Option<String>,
    updated_at: Option<Timestamp>,
    updated_by: Option<String>,
}

fn age(webhook: &WebhookView, ages: &BTreeMap<String, Age>) -> WebhookAge {
    let files = || webhook.sources.iter().filter_map(|skill| ages.get(&skill_path(skill.as_str())));
    let (first, last) = (files().min_by_key(|age| age.created_at), files().max_by_key(|age| age.updated_at));
    let first = first.filter(|_| !webhook.spec.builtin);
    WebhookAge {
        created_at: first.map(|age| age.created_at),
        created_by: if webhook.spec.builtin {
            Some(WITH_US.to_owned())
        } else {
            first.map(|age| age.created_by.clone())
        },
        updated_at: last.map(|age| age.updated_at),
        updated_by: last.map(|age| age.updated_by.clone()),
    }
}

/// Empty where there is no repository, or none that can be read now.
async fn ages(state: &ApiState) -> Arc<BTreeMap<String, Age>> {
    let Some(versions) = &state.versions else { return Arc::default() };
    versions.ages().await.unwrap_or_else(|error| {
        tracing::debug!(error = error.internal(), "git does not tell since when there are webhooks");
        Arc::default()
    })
}

pub fn skills(state: &ApiState, query: &Query) -> Result<Value> {
    Listing::by("name").page(query, each(&index(state)?.skills)?)
}

pub fn agents(state: &ApiState, query: &Query) -> Result<Value> {
    Listing::by("name").page(query, each(&index(state)?.agents)?)
}

pub fn providers(state: &ApiState, query: &Query) -> Result<Value> {
    Listing::by("name").page(query, each(&index(state)?.providers)?)
}

/// The items as they are shown.
pub fn each<T: serde::Serialize>(items: &[T]) -> Result<Vec<Value>> {
    items.iter().map(shown).collect()
}

/// Asks for a pass over everything; 202 at once, or 200 with what it came to.
pub async fn reconcile(state: &ApiState, query: &Query, caller: &Caller) -> Result<Answer> {
    let wait = query.flag("wait")?;
    let asked = Asked { allow_prune: query.flag("allow_prune")?, with_source: query.flag("with_source")? };
    let done = state.reconcile.request(asked)?;
    if asked.allow_prune {
        let (kind, message) = ("reconcile.prune_allowed".to_owned(), "large deletions are meant".to_owned());
        state.ledger.record(Deed { kind, actor: caller.actor(), message, ..Deed::default() }).await?;
    }
    if !wait {
        return Ok(Answer::json(StatusCode::ACCEPTED, &json!({ "status": "requested" })));
    }
    let report = tokio::time::timeout(Duration::from_secs(WAIT_SECONDS_MAX), done).await;
    match report {
        Ok(Ok(report)) => Ok(ok(&shown(&report?)?)),
        Ok(Err(_)) => Err(Error::new(Code::NotReady, "the reconciler has stopped")),
        Err(_) => Err(Error::new(Code::TimedOut, "the pass takes longer than this request may wait")),
    }
}
