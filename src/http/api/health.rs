//! How the service is: for load balancers, for monitoring, for people.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::shown;
use super::state::{ApiState, Standing};
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::ledger::NodeSeen;
use crate::telemetry::metrics::{CONTENT_TYPE, Queue, Resources};

pub fn ready(state: &ApiState) -> Result<Answer> {
    if state.index.current().is_none() {
        return Err(Error::new(Code::NotReady, "the first pass has not been applied yet"));
    }
    Ok(Answer::text(StatusCode::OK, "ready\n"))
}

/// 200 while deliveries are accepted and kept; what is stalled is shown and does not make the service unhealthy,
/// since what was last good stays in force.
pub async fn health(state: &ApiState) -> Result<Answer> {
    let value = status(state).await?;
    let healthy = state.index.current().is_some() && state.ledger.healthy();
    let answer = Answer::json(if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &value);
    Ok(if healthy { answer } else { answer.retry_after(5) })
}

pub async fn status(state: &ApiState) -> Result<Value> {
    let depth = state.ledger.depth().await?;
    let suspended = state.ledger.suspensions().await?;
    let index = state.index.current();
    let counted = state.index.resources();
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": state.started_at,
        "now": state.clock.now(),
        "ready": index.is_some(),
        "receiver_url": state.receiver_url,
        "last_seq": state.ledger.last_seq(),
        "push_lag_seconds": state.metrics.push_lag_seconds(),
        "index": index.as_ref().map(|index| json!({
            "digest": index.digest,
            "revision": index.revision,
            "applied_at": index.applied_at,
            "webhooks": index.webhooks.len(),
            "skills": index.skills.len(),
            "agents": index.agents.len(),
        })),
        "git": index.as_ref().map(|index| shown(&index.recorded)).transpose()?,
        "resources": { "ready": counted.ready, "reconciling": counted.reconciling, "stalled": counted.stalled },
        "stalled": index.as_ref().map(|index| index.named(Standing::Stalled)),
        "suspended": {
            "reconciler": suspended.get(""),
            "webhooks": suspended.iter().filter(|(name, _)| !name.is_empty()).collect::<BTreeMap<_, _>>(),
        },
        "ledger": {
            "healthy": state.ledger.healthy(),
            "engine": state.ledger.engine(),
            "node": state.ledger.node(),
            "leads": state.ledger.leads(),
            "nodes": nodes(state),
        },
        "queue": shown(&depth)?,
    }))
}

/// The nodes that are alive, with what each has in force; `None` where there is one alone.
fn nodes(state: &ApiState) -> Option<Vec<Value>> {
    let (own, nodes) = (state.ledger.node(), state.ledger.nodes()?);
    let shown = |node: &NodeSeen| {
        json!({
            "id": node.id,
            "this": own == Some(node.id),
            "name": node.about.name,
            "roles": node.about.roles,
            "version": node.about.version,
            "index_digest": node.about.index_digest,
        })
    };
    Some(nodes.borrow().iter().map(shown).collect())
}

pub async fn metrics(state: &ApiState) -> Result<Answer> {
    // A ledger in trouble must not hide the other figures.
    if let Ok(depth) = state.ledger.depth().await {
        state.metrics.observe_queue(Queue::of(&depth, state.clock.now()));
    }
    let Resources { ready, reconciling, stalled } = state.index.resources();
    state.metrics.observe_resources(Resources { ready, reconciling, stalled });
    Ok(Answer::of_type(StatusCode::OK, CONTENT_TYPE, state.metrics.encode()?))
}
