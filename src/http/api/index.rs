//! What is served: webhooks, skills, agents, providers; and the request for a pass.

use std::time::Duration;

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::query::Query;
use super::state::{ApiState, Asked, IndexView};
use super::table::WAIT_SECONDS_MAX;
use super::{not_found, ok, page, shown};
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::model::provider::sample;

pub fn index(state: &ApiState) -> Result<std::sync::Arc<IndexView>> {
    state.index.current().ok_or_else(|| Error::new(Code::NotReady, "the first pass has not been applied yet"))
}

pub fn webhooks(state: &ApiState) -> Result<Value> {
    let index = index(state)?;
    let webhooks: Vec<Value> = (index.webhooks.iter())
        .map(|webhook| {
            let spec = &webhook.spec;
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
            })
        })
        .collect();
    page(&webhooks, None)
}

pub fn webhook(state: &ApiState, id: &str) -> Result<Value> {
    let index = index(state)?;
    let webhook = (index.webhooks.iter()).find(|webhook| webhook.spec.id.as_str() == id);
    let webhook = webhook.ok_or_else(|| not_found("webhook", id))?;
    let mut value = shown(webhook)?;
    if let Some(fields) = value.as_object_mut() {
        let samples = sample::all().into_iter().filter(|sample| sample.provider == webhook.spec.provider.as_str());
        let names = samples.map(|sample| format!("{}.{}", sample.provider, sample.event));
        fields.insert("samples".to_owned(), json!(names.collect::<Vec<_>>()));
    }
    Ok(value)
}

pub fn skills(state: &ApiState) -> Result<Value> {
    page(&index(state)?.skills, None)
}

pub fn agents(state: &ApiState) -> Result<Value> {
    page(&index(state)?.agents, None)
}

pub fn providers(state: &ApiState) -> Result<Value> {
    page(&index(state)?.providers, None)
}

/// Asks for a pass over everything; 202 at once, or 200 with what it came to.
pub async fn reconcile(state: &ApiState, query: &Query) -> Result<Answer> {
    let wait = query.flag("wait")?;
    let asked = Asked { allow_prune: query.flag("allow_prune")?, with_source: query.flag("with_source")? };
    let done = state.reconcile.request(asked)?;
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
