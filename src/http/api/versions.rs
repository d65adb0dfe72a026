//! The versions of the configuration: history, differences, plans, the way back, and what a person holds back.

use serde_json::{Value, json};

use super::query::Query;
use super::request::Asked;
use super::state::ApiState;
use super::{not_found, page, shown};
use crate::error::{Code, Error, Result};
use crate::reconcile::versions::Versions;

/// Commits of one answer unless more are asked for.
const LIMIT: u64 = 50;

pub async fn history(state: &ApiState, query: &Query) -> Result<Value> {
    let limit = query.number("limit")?.unwrap_or(LIMIT);
    let below = query.text("path").map(str::to_owned);
    let entries = versions(state)?.history(below, usize::try_from(limit).unwrap_or(usize::MAX)).await?;
    page(&entries, None)
}

pub async fn diff(state: &ApiState, query: &Query) -> Result<Value> {
    let (from, to) = revisions(query)?;
    page(&versions(state)?.diff(from, to).await?, None)
}

pub async fn plan(state: &ApiState, query: &Query) -> Result<Value> {
    let (from, to) = revisions(query)?;
    let preview = versions(state)?.plan(from, to).await?;
    let actions: Vec<Value> = preview
        .actions
        .iter()
        .map(|action| json!({"verb": action.verb, "kind": action.kind, "name": action.name, "note": action.note}))
        .collect();
    Ok(json!({ "actions": actions, "diagnostics": shown(&preview.findings)? }))
}

pub async fn rollback(state: &ApiState, asked: &Asked<'_>) -> Result<Value> {
    let revision = asked.query.text("revision").ok_or_else(|| Error::new(Code::Usage, "`revision` is missing"))?;
    shown(&versions(state)?.rollback(revision.to_owned(), Some(asked.caller.actor())).await?)
}

/// Suspends or resumes the reconciler.
pub async fn suspend(state: &ApiState, on: bool) -> Result<Value> {
    versions(state)?.pause.set(on).await?;
    Ok(json!({ "suspended": on }))
}

/// Holds the tasks of a webhook back, or lets them go.
pub async fn suspend_webhook(state: &ApiState, id: &str, on: bool) -> Result<Value> {
    let known = state.index.current().and_then(|index| {
        index.webhooks.iter().map(|webhook| webhook.spec.id.clone()).find(|webhook| webhook.as_str() == id)
    });
    let webhook = known.ok_or_else(|| not_found("webhook", id))?;
    state.ledger.suspend(Some(webhook), on).await?;
    Ok(json!({ "webhook": id, "suspended": on }))
}

fn revisions(query: &Query) -> Result<(String, String)> {
    let from = query.text("from").ok_or_else(|| Error::new(Code::Usage, "`from` is missing"))?;
    Ok((from.to_owned(), query.text("to").unwrap_or("HEAD").to_owned()))
}

fn versions(state: &ApiState) -> Result<&Versions> {
    state.versions.as_ref().ok_or_else(|| Error::new(Code::NotReady, "this service keeps no versions"))
}
