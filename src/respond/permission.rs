//! Permission look-ups: may the actor start work? Asked after the ack and before the lease; a task waits in
//! `checking`, and what cannot be known is refused in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::caller::{Asked, Caller};
use super::transport::retry_after;
use crate::error::{Code, Error};
use crate::ledger::Ledger;
use crate::model::backoff;
use crate::model::ids::ProviderName;
use crate::model::provider::PreparedLookup;
use crate::model::task::{Reason, Task};
use crate::seam::{Clock, random};

/// Look-ups in one round.
const ROUND_MAX: usize = 16;
/// How long the loop sleeps when nothing tells it to look.
const IDLE: Duration = Duration::from_secs(1);
/// A task whose question stays unanswered for so long is refused.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Asks providers.
#[derive(Clone, Debug)]
pub struct Checker {
    pub ledger: Ledger,
    pub caller: Caller,
    pub clock: Clock,
}

impl Checker {
    /// Asks until the token is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let due = match self.ledger.due_checks(self.clock.now(), ROUND_MAX).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(error = error.internal(), "the tasks to check cannot be read");
                    Vec::new()
                }
            };
            if due.is_empty() {
                tokio::select! { () = stop.cancelled() => {}, () = self.ledger.work_signal(IDLE) => {} }
                continue;
            }
            for (task, provider, lookup) in due {
                self.check(&task, &provider, &lookup).await;
            }
        }
    }

    async fn check(&self, task: &Task, provider: &ProviderName, lookup: &PreparedLookup) {
        let now = self.clock.now();
        let verdict = match self.ask(provider, lookup).await {
            Ok(allowed) => Ok(allowed),
            Err((error, _)) if waited(task, now) >= PATIENCE => {
                tracing::warn!(task = %task.spec.id, error = error.internal(), "the actor's permission stays unknown: refused");
                Ok(false)
            }
            Err((error, wait)) => {
                let delay = backoff::delay(1, random(), wait);
                Err((Reason::from(&error), delay))
            }
        };
        let answers = match &verdict {
            Ok(false) => vec![refusal(task)],
            Ok(true) | Err(_) => Vec::new(),
        };
        if let Err(error) = self.ledger.checked(task.spec.id, verdict, answers, now).await {
            tracing::warn!(task = %task.spec.id, error = error.internal(), "the outcome of a check is not recorded");
        }
    }

    async fn ask(&self, provider: &ProviderName, lookup: &PreparedLookup) -> Result<bool, (Error, Option<Duration>)> {
        let asked = Asked { provider, call: &lookup.call, context: &BTreeMap::new(), page: None };
        let answer = self.caller.exchange(asked).await.map_err(|none| (none.error, None))?;
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        match (answer.status, body) {
            (200..=299, Some(body)) => Ok(lookup.judge(&body)),
            (404, _) => Ok(false),
            (status, _) => {
                let message = format!("the source answered a permission look-up with status {status}");
                Err((Error::new(Code::ReplyUnavailable, message), retry_after(&answer, self.clock.now())))
            }
        }
    }
}

fn waited(task: &Task, now: jiff::Timestamp) -> Duration {
    Duration::try_from(now.duration_since(task.spec.created_at)).unwrap_or_default()
}

/// In words a person can act on; without a mention, which would notify or call somebody.
fn refusal(task: &Task) -> String {
    let actor = task.spec.source.actor.as_deref().unwrap_or("the author");
    format!(
        "`{}` was not run: {actor} does not have write access here. Somebody who has can ask for it again.",
        task.spec.command
    )
}
