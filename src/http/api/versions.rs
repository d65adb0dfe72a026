//! The versions of the configuration: history, differences, plans, the way back, and what a person holds back.

use serde_json::{Value, json};

use super::access::Caller;
use super::index::each;
use super::listing::Listing;
use super::query::Query;
use super::state::ApiState;
use super::{not_found, page, shown};
use crate::error::{Code, Error, Result};
use crate::reconcile::versions::Versions;

pub async fn history(state: &ApiState, query: &Query) -> Result<Value> {
    let limit = query.limit()?;
    let below = query.text("path").map(str::to_owned);
    let before = query.text("before").map(str::to_owned);
    let entries = versions(state)?.history(below, before, limit).await?;
    let next = entries.last().filter(|_| entries.len() == limit).map(|entry| entry.commit.to_string());
    page(&entries, next)
}

pub async fn diff(state: &ApiState, query: &Query) -> Result<Value> {
    let (from, to) = revisions(query)?;
    Listing::by("path").page(query, each(&versions(state)?.diff(from, to).await?)?)
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

/// Answers once the view shows what is in force by it.
pub async fn rollback(state: &ApiState, query: &Query, caller: &Caller) -> Result<Value> {
    let revision = query.text("revision").ok_or_else(|| Error::new(Code::Usage, "`revision` is missing"))?;
    let done = versions(state)?.rollback(revision.to_owned(), caller.actor()).await?;
    if let Some(changes) = state.changes.as_ref().filter(|_| done.in_force) {
        state.index.shows(changes.published()?.state.digest).await;
    }
    shown(&done)
}

/// Suspends or resumes the reconciler.
pub async fn suspend(state: &ApiState, on: bool, caller: &Caller) -> Result<Value> {
    versions(state)?.pause.set(on, &caller.actor()).await?;
    Ok(json!({ "suspended": on }))
}

/// Holds the tasks of a webhook back, or lets them go.
pub async fn suspend_webhook(state: &ApiState, id: &str, on: bool, caller: &Caller) -> Result<Value> {
    let known = state.index.current().and_then(|index| {
        index.webhooks.iter().map(|webhook| webhook.spec.id.clone()).find(|webhook| webhook.as_str() == id)
    });
    let webhook = known.ok_or_else(|| not_found("webhook", id))?;
    state.ledger.suspend(Some(webhook), on, &caller.actor()).await?;
    Ok(json!({ "webhook": id, "suspended": on }))
}

fn revisions(query: &Query) -> Result<(String, String)> {
    let from = query.text("from").ok_or_else(|| Error::new(Code::Usage, "`from` is missing"))?;
    Ok((from.to_owned(), query.text("to").unwrap_or("HEAD").to_owned()))
}

fn versions(state: &ApiState) -> Result<&Versions> {
    state.versions.as_ref().ok_or_else(|| Error::new(Code::NotReady, "this service keeps no versions"))
}
