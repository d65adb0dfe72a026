//! Every address of the admin API: what is served is what stands here, and the documentation is made from it.

use serde_json::{Value, json};
use warp::http::Method;

/// The most items of one page.
pub const LIMIT_MAX: u64 = 10_000;
/// The longest that an answer is held back.
pub const WAIT_SECONDS_MAX: u64 = 25;
/// What JSON readers keep exact.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// One address: method, path with at most one `{id}`, what it does.
#[derive(Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub summary: &'static str,
    pub operation: Operation,
}

/// What an address does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Live,
    Ready,
    Health,
    Metrics,
    Routes,
    OpenApi,
    Status,
    Webhooks,
    Webhook,
    Skills,
    Agents,
    Providers,
    Reconcile,
    Tasks,
    Task,
    TaskLogs,
    CancelTask,
    RetryTask,
    Deliveries,
    Delivery,
    ExplainDelivery,
    Events,
    Recent,
    Spending,
    Picture,
    Suspend,
    Resume,
    SuspendWebhook,
    ResumeWebhook,
    History,
    Diff,
    Plan,
    Rollback,
}

const fn get(path: &'static str, operation: Operation, summary: &'static str) -> Route {
    Route { method: "GET", path, summary, operation }
}

const fn post(path: &'static str, operation: Operation, summary: &'static str) -> Route {
    Route { method: "POST", path, summary, operation }
}

pub const ROUTES: &[Route] = &[
    get("/livez", Operation::Live, "Whether the process answers"),
    get("/readyz", Operation::Ready, "Whether deliveries are accepted: the first pass has been applied"),
    get("/healthz", Operation::Health, "Conditions, index digest and ledger; 503 when something is wrong"),
    get("/metrics", Operation::Metrics, "Metrics as OpenMetrics text"),
    get("/api", Operation::Routes, "This list"),
    get("/api/openapi.json", Operation::OpenApi, "This list as an OpenAPI 3.1 document"),
    get("/api/status", Operation::Status, "Version, index, queue and when the service was started"),
    get("/api/webhooks", Operation::Webhooks, "Every webhook with its conditions"),
    get("/api/webhooks/{id}", Operation::Webhook, "One webhook: effective spec, generation, conditions, diagnostics"),
    get("/api/skills", Operation::Skills, "Every skill and what it says about webhooks"),
    get("/api/agents", Operation::Agents, "Every agent"),
    get("/api/providers", Operation::Providers, "Every provider definition"),
    get("/api/tasks", Operation::Tasks, "Tasks, newest first"),
    get("/api/tasks/{id}", Operation::Task, "One task with its answers to the source"),
    get("/api/tasks/{id}/logs", Operation::TaskLogs, "What the task's agent said and did"),
    post("/api/tasks/{id}/cancel", Operation::CancelTask, "Cancels a task, or asks a running one to stop"),
    post("/api/tasks/{id}/retry", Operation::RetryTask, "Puts a task that has ended in the queue again"),
    get("/api/deliveries", Operation::Deliveries, "Deliveries, newest first"),
    get("/api/deliveries/{id}", Operation::Delivery, "One delivery with its request"),
    get("/api/deliveries/{id}/explain", Operation::ExplainDelivery, "Why each command did or did not match"),
    get("/api/events", Operation::Events, "What happened after a sequence number; waits for more"),
    get("/api/stats", Operation::Recent, "Deliveries, answer times and queue age of the last hours"),
    get("/api/spending", Operation::Spending, "What runs cost, by day and webhook"),
    get("/api/picture", Operation::Picture, "Provider, webhook, commands, agents, and where each comes from"),
    get("/api/history", Operation::History, "Commits that changed the configuration, newest first"),
    get("/api/diff", Operation::Diff, "What of the configuration differs between two commits"),
    get("/api/plan", Operation::Plan, "What going from one commit to another would do"),
    post("/api/suspend", Operation::Suspend, "Stops looking at files and the remote; what is in force goes on"),
    post("/api/resume", Operation::Resume, "Looks at files and the remote again"),
    post("/api/webhooks/{id}/suspend", Operation::SuspendWebhook, "Stores deliveries and holds the tasks back"),
    post("/api/webhooks/{id}/resume", Operation::ResumeWebhook, "Lets the tasks of a webhook go"),
    post("/api/rollback", Operation::Rollback, "Brings the configuration of a commit back, by a new commit"),
    post("/api/reconcile", Operation::Reconcile, "Brings the index in line with the files"),
];

/// A query parameter.
#[derive(Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub summary: &'static str,
    pub form: Form,
}

/// What a parameter's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// `true` or `false`.
    Flag,
    Number {
        least: u64,
        most: u64,
    },
}

const fn parameter(name: &'static str, form: Form, summary: &'static str) -> Parameter {
    Parameter { name, summary, form }
}

const LIMIT: Parameter =
    parameter("limit", Form::Number { least: 1, most: LIMIT_MAX }, "At most this many items (else 50)");
const BEFORE: Parameter = parameter("before", Form::Text, "Only items older than this id");
const WEBHOOK: Parameter = parameter("webhook", Form::Text, "Only those of this webhook");
const STATE: Parameter = parameter("state", Form::Text, "Only tasks in these states, separated by commas");
const DELIVERY: Parameter = parameter("delivery", Form::Text, "Only tasks of this delivery");
const FROM: Parameter = parameter("from", Form::Number { least: 0, most: NUMBER_MAX }, "The first line, from 0");
const BODY: Parameter = parameter("body", Form::Flag, "Shows the body too");
const SINCE: Parameter =
    parameter("since", Form::Number { least: 0, most: NUMBER_MAX }, "The last sequence number that is already known");
const WAIT_SECONDS: Parameter =
    parameter("wait", Form::Number { least: 0, most: WAIT_SECONDS_MAX }, "Wait up to this many seconds for news");
const HOURS: Parameter = parameter("hours", Form::Number { least: 1, most: 24 }, "So many hours back (else 1)");
const DAYS: Parameter =
    parameter("days", Form::Number { least: 1, most: 366 }, "So many days, today included (else 14)");
const SEARCH: Parameter = parameter("search", Form::Text, "Only webhooks with this in a name");
const ALLOW_PRUNE: Parameter = parameter("allow_prune", Form::Flag, "Confirms a large deletion");
const WITH_SOURCE: Parameter = parameter("with_source", Form::Flag, "Fetches and pulls first");
const PATH: Parameter = parameter("path", Form::Text, "Only commits that changed this file or directory");
const FROM_REVISION: Parameter = parameter("from", Form::Text, "The older commit, branch or tag");
const TO_REVISION: Parameter = parameter("to", Form::Text, "The newer one (else HEAD)");
const REVISION: Parameter = parameter("revision", Form::Text, "The commit, branch or tag to go back to");
const WAIT: Parameter = parameter("wait", Form::Flag, "Answers once the pass is done");

impl Operation {
    /// The query parameters that it takes; any other one is refused.
    pub fn parameters(self) -> &'static [Parameter] {
        match self {
            Operation::Tasks => &[STATE, WEBHOOK, DELIVERY, LIMIT, BEFORE],
            Operation::TaskLogs => &[FROM, LIMIT],
            Operation::Deliveries => &[WEBHOOK, LIMIT, BEFORE],
            Operation::Delivery => &[BODY],
            Operation::Events => &[SINCE, WAIT_SECONDS, LIMIT],
            Operation::Recent => &[HOURS],
            Operation::Spending => &[DAYS],
            Operation::Picture => &[SEARCH, LIMIT],
            Operation::History => &[PATH, LIMIT],
            Operation::Diff | Operation::Plan => &[FROM_REVISION, TO_REVISION],
            Operation::Rollback => &[REVISION],
            Operation::Reconcile => &[WAIT, WITH_SOURCE, ALLOW_PRUNE],
            Operation::Live
            | Operation::Ready
            | Operation::Health
            | Operation::Metrics
            | Operation::Routes
            | Operation::OpenApi
            | Operation::Status
            | Operation::Webhooks
            | Operation::Webhook
            | Operation::Skills
            | Operation::Agents
            | Operation::Providers
            | Operation::Task
            | Operation::CancelTask
            | Operation::RetryTask
            | Operation::ExplainDelivery
            | Operation::Suspend
            | Operation::Resume
            | Operation::SuspendWebhook
            | Operation::ResumeWebhook => &[],
        }
    }
}

impl Operation {
    /// The statuses of its good answers.
    pub fn statuses(self) -> &'static [u16] {
        if self == Operation::Reconcile { &[200, 202] } else { &[200] }
    }
}

/// What there is at an address.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// With what stands in the place of `{id}`.
    Operation(Operation, Option<&'a str>),
    /// The address is known, with these methods.
    OtherMethods(String),
    Nothing,
}

/// Looks an address up. Nothing is decoded: ids are names that need no encoding.
pub fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let mut allowed: Vec<&str> = Vec::new();
    for route in ROUTES {
        let Some(id) = captures(route.path, path) else { continue };
        if route.method == method.as_str() {
            return Found::Operation(route.operation, id);
        }
        allowed.push(route.method);
        if route.method == "GET" {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() { Found::Nothing } else { Found::OtherMethods(allowed.join(", ")) }
}

/// `None`: the path is another one. `Some(None)`: it is this one and has no `{id}`.
fn captures<'a>(pattern: &str, path: &'a str) -> Option<Option<&'a str>> {
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then_some(None);
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(Some(id))
}

/// The table for readers.
pub fn document() -> Value {
    let routes: Vec<Value> = ROUTES
        .iter()
        .map(|route| {
            let parameters: Vec<Value> = (route.operation.parameters().iter())
                .map(|parameter| json!({"name": parameter.name, "summary": parameter.summary}))
                .collect();
            json!({"method": route.method, "path": route.path, "summary": route.summary, "parameters": parameters})
        })
        .collect();
    json!({ "routes": routes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_own_address() {
        for route in ROUTES {
            let path = route.path.replace("{id}", "tsk_1");
            let method = Method::from_bytes(route.method.as_bytes()).unwrap();
            let id = route.path.contains("{id}").then_some("tsk_1");
            assert_eq!(find(&method, &path), Found::Operation(route.operation, id), "{path}");
        }
    }

    #[test]
    fn other_addresses_and_methods_are_told_apart() {
        let get = Method::GET;
        for path in ["/", "", "/api/", "/api/tasks/", "/api/tasks//logs", "/api/tasks/a/b", "/API/tasks", "*"] {
            assert_eq!(find(&get, path), Found::Nothing, "{path}");
        }
        assert_eq!(find(&Method::DELETE, "/api/tasks"), Found::OtherMethods("GET, HEAD".to_owned()));
        assert_eq!(find(&get, "/api/tasks/a/cancel"), Found::OtherMethods("POST".to_owned()));
    }
}
