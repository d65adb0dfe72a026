//! The socket of runs: calls of tools, each with the token of its run. Nothing else is served there, so that a run
//! which sees this socket sees no other part of the service.

use std::sync::Arc;

use serde_json::{Value, json};
use warp::filters::BoxedFilter;
use warp::http::{Method, StatusCode};

use super::answer::Answer;
use super::body::Budget;
use super::exchange::{self, BodyStream, Head};
use super::serve::Limits;
use crate::change::Refused;
use crate::error::{Code, Error, Result};
use crate::mcp::desk::Desk;
use crate::mcp::grants::Grants;
use crate::telemetry::metrics::Metrics;

/// Where calls are sent.
pub const PATH: &str = "/api/call";
/// Largest call in bytes: a skill with its files.
const CALL_BYTES_MAX: u64 = 8 << 20;

/// The socket's filter; `listener` is its name in logs and metrics.
pub fn filter(
    listener: &'static str,
    desk: Desk,
    grants: Grants,
    metrics: Metrics,
    limits: &Limits,
) -> BoxedFilter<(warp::reply::Response,)> {
    let tools = Arc::new(Tools { desk, grants, budget: Budget::new(limits.bodies_bytes_max), limits: limits.clone() });
    exchange::filter(listener, metrics, move |head, body| {
        let tools = Arc::clone(&tools);
        async move { tools.answer(&head, body).await.unwrap_or_else(Answer::problem) }
    })
}

struct Tools {
    desk: Desk,
    grants: Grants,
    budget: Budget,
    limits: Limits,
}

impl Tools {
    async fn answer(&self, head: &Head, body: BodyStream) -> Result<Answer> {
        head.check_form()?;
        if head.path != PATH {
            return Err(Error::new(Code::NotFound, "there is nothing at this address"));
        }
        if head.method != Method::POST {
            return Ok(Answer::method_not_allowed("POST"));
        }
        let body = self.budget.read(head, body, CALL_BYTES_MAX, self.limits.body_deadline).await?;
        let call: Value = serde_json::from_slice(body.bytes())
            .map_err(|error| Error::new(Code::Usage, "the call is not JSON").detail(error))?;
        let granted = call["token"].as_str().and_then(|token| self.grants.find(token));
        let granted =
            granted.ok_or_else(|| Error::new(Code::Refused, "this token belongs to no run that is going on"))?;
        let tool = call["tool"].as_str().unwrap_or_default();
        let answer = match self.desk.call(&granted, tool, call["arguments"].clone()).await {
            Ok(value) => json!({ "ok": value }),
            Err(refused) => {
                tracing::info!(task = %granted.task.id, tool, code = %refused.error.code(), "a tool refused");
                json!({ "refused": words(&refused) })
            }
        };
        Ok(Answer::json(StatusCode::OK, &answer))
    }
}

/// All that an agent needs to do better next time.
fn words(refused: &Refused) -> String {
    let error = &refused.error;
    let mut text = error.to_string();
    if let Some(hint) = error.hint_text() {
        text.push_str(&format!("\nhint: {hint}"));
    }
    for found in &refused.diagnostics {
        text.push_str(&format!("\n{found}"));
        if let Some(hint) = &found.hint {
            text.push_str(&format!("\n  hint: {hint}"));
        }
    }
    text
}
