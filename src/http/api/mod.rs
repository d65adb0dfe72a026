//! The admin API, on a TCP address and on a socket file: what is served, what waits, what happened, and the commands
//! that people give. One table, [`table::ROUTES`], is what is served, what is documented, and who may use it.
//!
//! In this order a request is looked at: `guard` keeps foreign web pages out, the table says what is at the address,
//! `access` says who asks and whether he may; only then is its body read.

pub mod access;
mod audit;
mod changes;
mod chat;
mod deliveries;
mod docs;
mod feed;
pub mod guard;
mod health;
mod index;
mod listing;
mod multipart;
mod once;
mod openapi;
mod query;
mod registry;
mod replay;
mod request;
mod secrets;
pub mod state;
mod stats;
mod stream;
pub mod table;
mod tasks;
mod tickets;
pub mod tokens;
mod validate;
mod versions;

use std::sync::Arc;

use serde_json::{Value, json};
use warp::filters::BoxedFilter;
use warp::http::{Method, StatusCode};
use warp::ws::Ws;

use self::access::Caller;
use self::once::{Begin, Once};
use self::query::Query;
use self::registry::Kind;
use self::request::Asked;
use self::state::ApiState;
use self::stream::Streams;
use self::table::{Found, Operation};
use super::answer::Answer;
use super::body::Budget;
use super::dashboard;
use super::exchange::{self, BodyStream, Head, Outgoing};
use super::serve::Limits;
use crate::error::{Code, Error, Result};
use crate::model::task::TaskState;

/// The admin API as a filter; `listener` is its name in logs and metrics.
pub fn filter(listener: &'static str, state: Arc<ApiState>, limits: &Limits) -> BoxedFilter<(warp::reply::Response,)> {
    let (budget, streams) = (Budget::new(limits.bodies_bytes_max), Streams::default());
    let api = Arc::new(Api { budget, limits: limits.clone(), streams, once: Once::default(), state });
    let metrics = api.state.metrics.clone();
    exchange::filter_open(listener, metrics, move |head, body, socket| {
        let api = Arc::clone(&api);
        async move { api.answer(&head, body, socket).await }
    })
}

struct Api {
    state: Arc<ApiState>,
    limits: Limits,
    budget: Budget,
    streams: Streams,
    once: Once,
}

impl Api {
    async fn answer(&self, head: &Head, body: BodyStream, socket: Option<Ws>) -> Outgoing {
        let handling = self.handle(head, body, socket);
        let outgoing = tokio::time::timeout(self.limits.answer_deadline, handling)
            .await
            .unwrap_or_else(|_| Answer::problem(Error::new(Code::TimedOut, "the answer took too long")).into());
        if let Outgoing::Whole(answer) = &outgoing
            && let Some(error) = answer.error().filter(|error| error.code().status() >= 500)
        {
            tracing::warn!(code = %error.code(), reason = error.internal(), request_id = head.request_id, "request failed");
        }
        outgoing
    }

    async fn handle(&self, head: &Head, body: BodyStream, socket: Option<Ws>) -> Outgoing {
        if let Err(refusal) = guard::check(head, &self.state.hosts) {
            return Answer::problem(refusal).into();
        }
        if let Some(answer) = dashboard::answer(head) {
            return answer.into();
        }
        // HEAD is GET without the body, which hyper leaves out.
        let method = if head.method == Method::HEAD { Method::GET } else { head.method.clone() };
        let (operation, names) = match table::find(&method, &head.path) {
            Found::Operation(operation, names) => (operation, names),
            Found::OtherMethods(allowed) => return Answer::method_not_allowed(&allowed).into(),
            Found::Nothing => {
                return Answer::problem(Error::new(Code::NotFound, "there is nothing at this address")).into();
            }
        };
        let outgoing = match self.caller(head, operation) {
            Ok(caller) => self.read_and_run(head, body, operation, &names, &caller, socket).await,
            Err(error) => Err(error),
        };
        outgoing.unwrap_or_else(|error| Answer::problem(error).into())
    }

    /// Who asks, if he may.
    fn caller(&self, head: &Head, operation: Operation) -> Result<Caller> {
        let Some(scope) = operation.scope() else { return Ok(Caller::Anonymous) };
        let caller = match stream::ticket_in(head, operation) {
            Some(ticket) => self.state.access.tickets().redeem(&ticket)?,
            None => self.state.access.caller(head)?,
        };
        caller.require(scope)?;
        Ok(caller)
    }

    async fn read_and_run(
        &self,
        head: &Head,
        body: BodyStream,
        operation: Operation,
        names: &[&str],
        caller: &Caller,
        socket: Option<Ws>,
    ) -> Result<Outgoing> {
        let query = Query::parse(head.query.as_deref(), operation.parameters())?;
        let body = self.budget.read(head, body, operation.body_bytes_max(), self.limits.body_deadline).await?;
        let asked = Asked { caller, head, names, query: &query, body: body.bytes() };
        if operation == Operation::Stream {
            return self.streams.open(&self.state, &asked, socket).await;
        }
        match self.once.begin(&self.state, operation, &asked).await? {
            Begin::Plain => self.run(operation, &asked).await.map(Outgoing::from),
            Begin::Answered(answer) => Ok(answer.into()),
            Begin::Turn(turn) => {
                let answer = self.run(operation, &asked).await.unwrap_or_else(Answer::problem);
                self.once.keep(&self.state, turn, &answer).await?;
                Ok(answer.into())
            }
        }
    }

    async fn run(&self, operation: Operation, asked: &Asked<'_>) -> Result<Answer> {
        let (query, id) = (asked.query, asked.names.first().copied().unwrap_or_default());
        let state = &*self.state;
        match operation {
            Operation::Live => Ok(Answer::text(StatusCode::OK, "live\n")),
            Operation::Ready => health::ready(state),
            Operation::Health => health::health(state).await,
            Operation::Metrics => health::metrics(state).await,
            Operation::Routes => Ok(ok(&table::document())),
            Operation::OpenApi => Ok(ok(&openapi::document())),
            Operation::Status => health::status(state).await.map(|value| ok(&value)),
            Operation::Webhooks => index::webhooks(state, query).await.map(|value| ok(&value)),
            Operation::Webhook => index::webhook(state, id).await.map(|value| ok(&value)),
            Operation::Skills => index::skills(state, query).map(|value| ok(&value)),
            Operation::Agents => index::agents(state, query).map(|value| ok(&value)),
            Operation::Providers => index::providers(state, query).map(|value| ok(&value)),
            Operation::History => versions::history(state, query).await.map(|value| ok(&value)),
            Operation::Diff => versions::diff(state, query).await.map(|value| ok(&value)),
            Operation::Plan => versions::plan(state, query).await.map(|value| ok(&value)),
            Operation::Suspend => versions::suspend(state, true, asked.caller).await.map(|value| ok(&value)),
            Operation::Resume => versions::suspend(state, false, asked.caller).await.map(|value| ok(&value)),
            Operation::SuspendWebhook => {
                versions::suspend_webhook(state, id, true, asked.caller).await.map(|value| ok(&value))
            }
            Operation::ResumeWebhook => {
                versions::suspend_webhook(state, id, false, asked.caller).await.map(|value| ok(&value))
            }
            Operation::Rollback => versions::rollback(state, query, asked.caller).await.map(|value| ok(&value)),
            Operation::Reconcile => index::reconcile(state, query, asked.caller).await,
            Operation::Tasks => tasks::list(state, query).await.map(|value| ok(&value)),
            Operation::Task => tasks::one(state, id).await.map(|value| ok(&value)),
            Operation::TaskLogs => tasks::logs(state, id, query).await.map(|value| ok(&value)),
            Operation::CancelTask => tasks::cancel(state, id, asked).await.map(|value| ok(&value)),
            Operation::RetryTask => tasks::retry(state, id, asked).await.map(|value| ok(&value)),
            Operation::AnswerTask => tasks::input(state, id, asked).await,
            Operation::ApproveTask => tasks::decide(state, asked.caller, id, query, true).await.map(|value| ok(&value)),
            Operation::RejectTask => tasks::decide(state, asked.caller, id, query, false).await.map(|value| ok(&value)),
            Operation::Approvals => {
                tasks::in_state(state, query, TaskState::AwaitingApproval).await.map(|value| ok(&value))
            }
            Operation::DeadLetters => tasks::in_state(state, query, TaskState::Dead).await.map(|value| ok(&value)),
            Operation::Deliveries => deliveries::list(state, query).await.map(|value| ok(&value)),
            Operation::Delivery => deliveries::one(state, id, query).await.map(|value| ok(&value)),
            Operation::ExplainDelivery => deliveries::explain(state, id).await.map(|value| ok(&value)),
            Operation::Recent | Operation::Spending | Operation::Budgets | Operation::Picture => {
                stats::answer(state, operation, query).await.map(|value| ok(&value))
            }
            Operation::Validate => validate::validate(state, asked).await.map(|value| ok(&value)),
            Operation::Events => tasks::events(state, query).await.map(|value| ok(&value)),
            Operation::Stream => Err(Error::new(Code::Bug, "a stream is no whole answer")),
            Operation::StreamTicket => stream::ticket(state, asked.caller).map(|value| ok(&value)),
            Operation::Replay | Operation::ReplayOne | Operation::TestWebhook | Operation::DeliverSample => {
                replay::answer(state, operation, id, asked).await.map(|value| ok(&value))
            }
            Operation::Secrets => secrets::list(state, query).await.map(|value| ok(&value)),
            Operation::PutSecret => secrets::put(state, id, asked).await,
            Operation::Docs => Ok(docs::page()),
            Operation::WebhookEvents => deliveries::list(state, query).await.map(|value| ok(&value)),
            Operation::WebhookStats => deliveries::stats(state, query).await.map(|value| ok(&value)),
            Operation::Chat | Operation::Conversations | Operation::Conversation | Operation::Messages => {
                chat::answer(state, operation, id, asked).await
            }
            Operation::Me => Ok(ok(&tokens::me(asked.caller))),
            Operation::Audit => audit::list(state, query).await.map(|value| ok(&value)),
            Operation::Tokens => tokens::list(state, query).map(|value| ok(&value)),
            Operation::CreateToken => tokens::create(state, asked).await,
            Operation::RevokeToken => tokens::revoke(state, id, asked).await.map(|value| ok(&value)),
            of_files => self.files(of_files, id, asked).await,
        }
    }

    /// What is about the files of webhooks, skills and agents.
    async fn files(&self, operation: Operation, id: &str, asked: &Asked<'_>) -> Result<Answer> {
        match operation {
            Operation::CreateWebhook
            | Operation::BuiltinWebhook
            | Operation::EditBuiltinWebhook
            | Operation::EditWebhook
            | Operation::PatchWebhook
            | Operation::DeleteWebhook
            | Operation::EnableWebhook
            | Operation::DisableWebhook
            | Operation::Commands
            | Operation::AddCommand
            | Operation::PutCommand
            | Operation::DeleteCommand => self.webhook(operation, id, asked).await,
            Operation::RegistrySkills
            | Operation::UploadSkill
            | Operation::SkillContent
            | Operation::PutSkillContent
            | Operation::DeleteSkill
            | Operation::RegistryAgents
            | Operation::UploadAgent
            | Operation::AgentContent
            | Operation::PutAgentContent
            | Operation::DeleteAgent => self.registry(operation, id, asked).await,
            _ => Err(Error::new(Code::Bug, "this is about no file")),
        }
    }

    /// What is about skills and agents as files.
    async fn registry(&self, operation: Operation, name: &str, asked: &Asked<'_>) -> Result<Answer> {
        let state = &*self.state;
        match operation {
            Operation::RegistrySkills => index::skills(state, asked.query).map(|value| ok(&value)),
            Operation::UploadSkill => registry::upload(state, Kind::Skill, asked).await,
            Operation::SkillContent => registry::content(state, Kind::Skill, name).await,
            Operation::PutSkillContent => registry::put(state, Kind::Skill, name, asked).await,
            Operation::DeleteSkill => registry::delete(state, Kind::Skill, name, asked).await,
            Operation::RegistryAgents => index::agents(state, asked.query).map(|value| ok(&value)),
            Operation::UploadAgent => registry::upload(state, Kind::Agent, asked).await,
            Operation::AgentContent => registry::content(state, Kind::Agent, name).await,
            Operation::PutAgentContent => registry::put(state, Kind::Agent, name, asked).await,
            Operation::DeleteAgent => registry::delete(state, Kind::Agent, name, asked).await,
            _ => Err(Error::new(Code::Bug, "this is about no file")),
        }
    }

    /// What is about one webhook and its file.
    async fn webhook(&self, operation: Operation, id: &str, asked: &Asked<'_>) -> Result<Answer> {
        let (state, name) = (&*self.state, asked.names.get(1).copied().unwrap_or_default());
        match operation {
            Operation::CreateWebhook => changes::create(state, asked).await,
            Operation::BuiltinWebhook => {
                changes::builtin(state, id)?;
                index::webhook(state, id).await.map(|value| ok(&value))
            }
            Operation::EditBuiltinWebhook => changes::edit_builtin(state, id, asked).await,
            Operation::EditWebhook | Operation::PatchWebhook => changes::edit(state, id, asked).await,
            Operation::DeleteWebhook => changes::remove(state, id, asked).await,
            Operation::EnableWebhook => changes::enable(state, id, true, asked).await,
            Operation::DisableWebhook => changes::enable(state, id, false, asked).await,
            Operation::Commands => changes::commands(state, id, asked.query).map(|value| ok(&value)),
            Operation::AddCommand => changes::add_command(state, id, asked).await,
            Operation::PutCommand => changes::put_command(state, id, name, asked).await,
            Operation::DeleteCommand => changes::remove_command(state, id, name, asked).await,
            _ => Err(Error::new(Code::Bug, "this is about no webhook")),
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
