//! Tasks, their logs, what happened, and the two commands on a task.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::access::Caller;
use super::query::Query;
use super::request::Asked;
use super::state::ApiState;
use super::{not_found, page, shown};
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::ledger::rows::Deed;
use crate::ledger::{NewTask, Page, TaskFilter};
use crate::model::approval::{Decider, Decision, prompt_digest};
use crate::model::chat;
use crate::model::ids::{DeliveryId, TaskId, WebhookId};
use crate::model::intake::answered;
use crate::model::task::{Task, TaskState};
use crate::seam::fresh_id;

/// Longest answer to a question.
const INPUT_BYTES_MAX: usize = 64 << 10;

pub async fn list(state: &ApiState, query: &Query) -> Result<Value> {
    let filter = TaskFilter {
        states: query.parsed("state", states)?.unwrap_or_default(),
        webhook: query.parsed("webhook", WebhookId::parse)?,
        delivery: query.parsed("delivery", DeliveryId::parse)?,
        ..paged(query)?
    };
    listed(state, filter).await
}

/// The tasks in one state.
pub async fn in_state(state: &ApiState, query: &Query, wanted: TaskState) -> Result<Value> {
    let webhook = query.parsed("webhook", WebhookId::parse)?;
    listed(state, TaskFilter { states: vec![wanted], webhook, ..paged(query)? }).await
}

/// The part of the query that says which page.
fn paged(query: &Query) -> Result<TaskFilter> {
    Ok(TaskFilter {
        before: query.parsed("before", TaskId::parse)?,
        after: query.parsed("after", TaskId::parse)?,
        oldest_first: query.text("sort") == Some("created_at"),
        limit: query.limit()?,
        ..TaskFilter::default()
    })
}

async fn listed(state: &ApiState, filter: TaskFilter) -> Result<Value> {
    let Page { items, next } = state.ledger.tasks_page(filter).await?;
    page(&items.iter().map(summary).collect::<Vec<_>>(), next.map(|id| id.to_string()))
}

/// Approves a task or rejects it, in the name of whoever has access to the service.
pub async fn decide(state: &ApiState, caller: &Caller, id: &str, query: &Query, approve: bool) -> Result<Value> {
    let task = find(state, id).await?;
    let text = |name: &str| query.parsed(name, |text| Ok::<_, String>(text.to_owned()));
    let by = Decider::Operator(caller.actor());
    let decision = Decision { by, approve, digest: text("digest")?, reason: text("reason")? };
    let task = state.ledger.decide(task.spec.id, decision, state.clock.now()).await?;
    tracing::info!(task = %task.spec.id, approve, "task decided by hand");
    Ok(summary(&task))
}

/// An answer to what a task's agent has asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    #[schemars(length(min = 1, max = 65_536))]
    text: String,
}

/// Tells the answer to a child of the task, which goes on with it.
pub async fn input(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Answer> {
    let Input { text } = asked.json()?;
    if text.trim().is_empty() || text.len() > INPUT_BYTES_MAX {
        return Err(Error::new(Code::Usage, format!("`text` must have between 1 and {INPUT_BYTES_MAX} bytes")));
    }
    let task = find(state, id).await?;
    let (question, now) = (&task.spec, state.clock.now());
    if task.state != TaskState::WaitingInput {
        let message = format!("the task is {} and has not asked anything", task.state.as_str());
        return Err(Error::new(Code::WrongState, message));
    }
    let provider = match question.webhook == chat::webhook() {
        true => chat::provider(),
        false => {
            let index = super::index::index(state)?;
            let webhook = index.webhooks.iter().find(|webhook| webhook.spec.id == question.webhook);
            let webhook = webhook.ok_or_else(|| Error::new(Code::WrongState, "the task's webhook is gone"))?;
            webhook.spec.provider.clone()
        }
    };
    let spec = answered(question, &asked.caller.actor(), &text, TaskId(fresh_id()), now);
    let (child, reply) = (spec.id, state.ledger.reply_of(question.id).await?);
    let new = NewTask { spec, lookup: None, reply, continues: Some(question.id), says: None };
    state.ledger.create(new, &provider, now).await?;
    record(state, asked, "task.answered", &task).await?;
    Ok(Answer::json(StatusCode::ACCEPTED, &json!({ "task": child, "answers": question.id })))
}

/// A task without the texts that can be long.
fn summary(task: &Task) -> Value {
    let spec = &task.spec;
    json!({
        "id": spec.id,
        "state": task.state,
        "webhook": spec.webhook,
        "generation": spec.generation,
        "command": spec.command,
        "skill": spec.skill,
        "agent": spec.agent,
        "delivery": spec.delivery,
        "event": spec.source.event,
        "actor": spec.source.actor,
        "url": spec.source.url,
        "attempt": task.attempt,
        "reason": task.reason,
        "prompt_digest": task.spec.run.approval.as_ref().map(|_| prompt_digest(&task.spec.prompt)),
        "approved": task.approved,
        "cost_usd": task.result.as_ref().map(|result| result.cost_usd),
        "created_at": spec.created_at,
        "updated_at": task.updated_at,
        "not_before": task.not_before,
    })
}

fn states(text: &str) -> Result<Vec<TaskState>, String> {
    let state = |name: &str| {
        let known = TaskState::ALL.into_iter().find(|state| state.as_str() == name);
        known.ok_or_else(|| format!("`{}` is no state of a task", name.escape_default()))
    };
    text.split(',').map(str::trim).map(state).collect()
}

pub async fn one(state: &ApiState, id: &str) -> Result<Value> {
    let task = find(state, id).await?;
    let outbox = state.ledger.outbox_of(Some(task.spec.id), None).await?;
    let mut value = shown(&task)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("id".to_owned(), json!(task.spec.id));
        fields.insert("outbox".to_owned(), shown(&outbox)?);
    }
    Ok(value)
}

pub async fn logs(state: &ApiState, id: &str, query: &Query) -> Result<Value> {
    let task = find(state, id).await?;
    let from = usize::try_from(query.number("from")?.unwrap_or(0)).unwrap_or(usize::MAX);
    let lines = state.ledger.log(task.spec.id, from, query.limit()?).await?;
    let next = from.saturating_add(lines.len());
    Ok(json!({ "items": shown(&lines)?, "next": next, "ended": task.state.is_terminal() }))
}

pub async fn cancel(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Value> {
    let task = find(state, id).await?;
    let task = state.ledger.cancel(task.spec.id, state.clock.now()).await?;
    record(state, asked, "task.cancel_asked", &task).await?;
    Ok(summary(&task))
}

pub async fn retry(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Value> {
    let task = find(state, id).await?;
    if !task.state.is_terminal() {
        let message = format!("the task is {} and has not ended", task.state.as_str());
        return Err(Error::new(Code::WrongState, message));
    }
    let task = state.ledger.redrive(task.spec.id, state.clock.now()).await?;
    record(state, asked, "task.retry_asked", &task).await?;
    Ok(summary(&task))
}

/// Keeps who did what to a task.
async fn record(state: &ApiState, asked: &Asked<'_>, kind: &str, task: &Task) -> Result<()> {
    let (spec, actor) = (&task.spec, asked.caller.actor());
    tracing::info!(task = %spec.id, actor, kind, "a person steers a task");
    let message = format!("`{}` is {} now", spec.command, task.state.as_str());
    let (webhook, delivery, task) = (Some(spec.webhook.clone()), spec.delivery, Some(spec.id));
    state.ledger.record(Deed { kind: kind.to_owned(), actor, webhook, delivery, task, message }).await
}

pub async fn events(state: &ApiState, query: &Query) -> Result<Value> {
    let since = query.number("since")?.unwrap_or(0);
    let happenings = state.ledger.happenings(since, query.limit()?, query.wait()?).await?;
    let next = happenings.last().map_or(since, |last| last.seq);
    Ok(json!({ "items": shown(&happenings)?, "next": next }))
}

async fn find(state: &ApiState, id: &str) -> Result<Task> {
    let parsed = TaskId::parse(id).map_err(|_| not_found("task", id))?;
    state.ledger.task(parsed).await?.ok_or_else(|| not_found("task", id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_a_list_of_known_ones() {
        assert_eq!(states("queued, dead"), Ok(vec![TaskState::Queued, TaskState::Dead]));
        assert!(states("queued,asleep").is_err());
        assert!(states("").is_err());
    }
}
