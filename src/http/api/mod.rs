//! The admin API, on a loopback address and on a socket file: what is served, what waits, what happened, and the few
//! commands that people give. One table, [`table::ROUTES`], is what is served and what is documented.
//!
//! It has no tokens yet, so it must not be reachable by anyone but this machine's user: [`Listener::loopback`] keeps
//! it off other interfaces, and `guard` keeps web pages in that user's browser from speaking to it.
//!
//! [`Listener::loopback`]: super::listen::Listener::loopback

mod deliveries;
mod guard;
mod health;
mod index;
mod openapi;
mod query;
pub mod state;
mod stats;
pub mod table;
mod tasks;
mod versions;

use std::sync::Arc;

use serde_json::{Value, json};
use warp::filters::BoxedFilter;
use warp::http::{Method, StatusCode};

use self::query::Query;
use self::state::ApiState;
use self::table::{Found, Operation};
use super::answer::Answer;
use super::body::Budget;
use super::dashboard;
use super::exchange::{self, BodyStream, Head};
use super::serve::Limits;
use crate::error::{Code, Error, Result};

/// The admin API as a filter; `listener` is its name in logs and metrics.
pub fn filter(listener: &'static str, state: Arc<ApiState>, limits: &Limits) -> BoxedFilter<(warp::reply::Response,)> {
    let api = Arc::new(Api { budget: Budget::new(limits.bodies_bytes_max), limits: limits.clone(), state });
    let metrics = api.state.metrics.clone();
    exchange::filter(listener, metrics, move |head, body| {
        let api = Arc::clone(&api);
        async move { api.answer(&head, body).await }
    })
}

/// A request body here is a command with a few fields.
const BODY_BYTES_MAX: u64 = 64 * 1024;

struct Api {
    state: Arc<ApiState>,
    limits: Limits,
    budget: Budget,
}

impl Api {
    async fn answer(&self, head: &Head, body: BodyStream) -> Answer {
        let handling = self.handle(head, body);
        let answer = match tokio::time::timeout(self.limits.answer_deadline, handling).await {
            Ok(answer) => answer,
            Err(_) => Answer::problem(Error::new(Code::TimedOut, "the answer took too long")),
        };
        if let Some(error) = answer.error().filter(|error| error.code().status() >= 500) {
            tracing::warn!(code = %error.code(), reason = error.internal(), request_id = head.request_id, "request failed");
        }
        answer
    }

    async fn handle(&self, head: &Head, body: BodyStream) -> Answer {
        if let Err(refusal) = guard::check(head) {
            return Answer::problem(refusal);
        }
        if let Some(answer) = dashboard::answer(head) {
            return answer;
        }
        // HEAD is GET without the body, which hyper leaves out.
        let method = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        let (operation, id) = match table::find(&method, &head.path) {
            Found::Operation(operation, id) => (operation, id),
            Found::OtherMethods(allowed) => return Answer::method_not_allowed(&allowed),
            Found::Nothing => return Answer::problem(Error::new(Code::NotFound, "there is nothing at this address")),
        };
        let deadline = self.limits.body_deadline;
        if let Err(error) = self.budget.read(head, body, BODY_BYTES_MAX, deadline).await {
            return Answer::problem(error);
        }
        let answer = match Query::parse(head.query.as_deref(), operation.parameters()) {
            Ok(query) => self.run(operation, id.unwrap_or_default(), &query).await,
            Err(error) => Err(error),
        };
        answer.unwrap_or_else(Answer::problem)
    }

    async fn run(&self, operation: Operation, id: &str, query: &Query) -> Result<Answer> {
        let state = &*self.state;
        match operation {
            Operation::Live => Ok(Answer::text(StatusCode::OK, "live\n")),
            Operation::Ready => health::ready(state),
            Operation::Health => health::health(state).await,
            Operation::Metrics => health::metrics(state).await,
            Operation::Routes => Ok(ok(&table::document())),
            Operation::OpenApi => Ok(ok(&openapi::document())),
            Operation::Status => health::status(state).await.map(|value| ok(&value)),
            Operation::Webhooks => index::webhooks(state).map(|value| ok(&value)),
            Operation::Webhook => index::webhook(state, id).map(|value| ok(&value)),
            Operation::Skills => index::skills(state).map(|value| ok(&value)),
            Operation::Agents => index::agents(state).map(|value| ok(&value)),
            Operation::Providers => index::providers(state).map(|value| ok(&value)),
            Operation::History => versions::history(state, query).await.map(|value| ok(&value)),
            Operation::Diff => versions::diff(state, query).await.map(|value| ok(&value)),
            Operation::Plan => versions::plan(state, query).await.map(|value| ok(&value)),
            Operation::Suspend => versions::suspend(state, true).await.map(|value| ok(&value)),
            Operation::Resume => versions::suspend(state, false).await.map(|value| ok(&value)),
            Operation::SuspendWebhook => versions::suspend_webhook(state, id, true).await.map(|value| ok(&value)),
            Operation::ResumeWebhook => versions::suspend_webhook(state, id, false).await.map(|value| ok(&value)),
            Operation::Rollback => versions::rollback(state, query).await.map(|value| ok(&value)),
            Operation::Reconcile => index::reconcile(state, query).await,
            Operation::Tasks => tasks::list(state, query).await.map(|value| ok(&value)),
            Operation::Task => tasks::one(state, id).await.map(|value| ok(&value)),
            Operation::TaskLogs => tasks::logs(state, id, query).await.map(|value| ok(&value)),
            Operation::CancelTask => tasks::cancel(state, id).await.map(|value| ok(&value)),
            Operation::RetryTask => tasks::retry(state, id).await.map(|value| ok(&value)),
            Operation::Deliveries => deliveries::list(state, query).await.map(|value| ok(&value)),
            Operation::Delivery => deliveries::one(state, id, query).await.map(|value| ok(&value)),
            Operation::ExplainDelivery => deliveries::explain(state, id).await.map(|value| ok(&value)),
            Operation::Recent => stats::recent(state, query).map(|value| ok(&value)),
            Operation::Spending => stats::spending(state, query).await.map(|value| ok(&value)),
            Operation::Picture => stats::picture(state, query).map(|value| ok(&value)),
            Operation::Events => tasks::events(state, query).await.map(|value| ok(&value)),
        }
    }
}

fn ok(value: &Value) -> Answer {
    Answer::json(StatusCode::OK, value)
}

/// A page of a list: what there is, and where the next page begins.
fn page<T: serde::Serialize>(items: &[T], next: Option<String>) -> Result<Value> {
    Ok(json!({ "items": shown(&items)?, "next": next }))
}

fn shown<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::new(Code::Bug, "the answer cannot be written").detail(error))
}

fn not_found(what: &str, id: &str) -> Error {
    Error::new(Code::NotFound, format!("there is no {what} `{}`", id.escape_default()))
}
