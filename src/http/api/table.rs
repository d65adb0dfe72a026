//! Every address of the admin API: what is served is what stands here, and the documentation is made from it.

mod answers;
mod forms;
mod parameters;

use schemars::{Schema, SchemaGenerator};
use serde_json::{Value, json};
use warp::http::Method;

pub use self::answers::Good;
pub use self::forms::{page as page_schema, schemas};
pub use self::parameters::{Form, LIMIT_MAX, Parameter, WAIT_SECONDS_MAX};
use crate::model::token::Scope;

/// One address: method, path with names in braces, what it does.
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
    ApproveTask,
    RejectTask,
    AnswerTask,
    Approvals,
    DeadLetters,
    Deliveries,
    Delivery,
    ExplainDelivery,
    Events,
    Stream,
    StreamTicket,
    CreateWebhook,
    BuiltinWebhook,
    EditBuiltinWebhook,
    WebhookEvents,
    WebhookStats,
    EditWebhook,
    PatchWebhook,
    DeleteWebhook,
    EnableWebhook,
    DisableWebhook,
    Commands,
    AddCommand,
    PutCommand,
    DeleteCommand,
    TestWebhook,
    DeliverSample,
    RegistrySkills,
    UploadSkill,
    SkillContent,
    PutSkillContent,
    DeleteSkill,
    RegistryAgents,
    UploadAgent,
    AgentContent,
    PutAgentContent,
    DeleteAgent,
    Replay,
    ReplayOne,
    Secrets,
    PutSecret,
    Docs,
    Me,
    Audit,
    Tokens,
    CreateToken,
    RevokeToken,
    Recent,
    Spending,
    Budgets,
    Picture,
    Suspend,
    Resume,
    SuspendWebhook,
    ResumeWebhook,
    History,
    Diff,
    Plan,
    Rollback,
    Chat,
    Conversations,
    Conversation,
    Messages,
    Validate,
}

const fn get(path: &'static str, operation: Operation, summary: &'static str) -> Route {
    Route { method: "GET", path, summary, operation }
}

const fn post(path: &'static str, operation: Operation, summary: &'static str) -> Route {
    Route { method: "POST", path, summary, operation }
}

const fn put(path: &'static str, operation: Operation, summary: &'static str) -> Route {
    Route { method: "PUT", path, summary, operation }
}

const fn patch(path: &'static str, operation: Operation, summary: &'static str) -> Route {
    Route { method: "PATCH", path, summary, operation }
}

const fn delete(path: &'static str, operation: Operation, summary: &'static str) -> Route {
    Route { method: "DELETE", path, summary, operation }
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
    post("/api/webhooks", Operation::CreateWebhook, "Makes a webhook, or adds commands to the one of its provider"),
    get("/api/webhooks/events", Operation::WebhookEvents, "Deliveries to all webhooks, newest first"),
    get("/api/webhooks/stats", Operation::WebhookStats, "What came to each webhook lately, and what became of it"),
    get("/api/webhooks/static/{id}", Operation::BuiltinWebhook, "One built-in webhook"),
    put("/api/webhooks/static/{id}", Operation::EditBuiltinWebhook, "Sets fields of a built-in webhook"),
    get("/api/webhooks/{id}", Operation::Webhook, "One webhook: effective spec, generation, conditions, diagnostics"),
    put("/api/webhooks/{id}", Operation::EditWebhook, "Sets fields of a webhook; what is not named stays"),
    patch("/api/webhooks/{id}", Operation::PatchWebhook, "Sets fields of a webhook; what is not named stays"),
    delete("/api/webhooks/{id}", Operation::DeleteWebhook, "Removes a webhook and keeps its skill"),
    post("/api/webhooks/{id}/enable", Operation::EnableWebhook, "Enables a webhook"),
    post("/api/webhooks/{id}/disable", Operation::DisableWebhook, "Disables a webhook: deliveries are answered 403"),
    post("/api/webhooks/{id}/test", Operation::TestWebhook, "What the webhook would do about a sample; nothing runs"),
    post(
        "/api/webhooks/{id}/deliver",
        Operation::DeliverSample,
        "Sends a sample to the webhook for real, signed with its own secret",
    ),
    get("/api/webhooks/{id}/commands", Operation::Commands, "The commands of a webhook, and where each comes from"),
    post("/api/webhooks/{id}/commands", Operation::AddCommand, "Adds a command; one that is built in is overridden"),
    put("/api/webhooks/{id}/commands/{name}", Operation::PutCommand, "Makes or replaces a command"),
    delete("/api/webhooks/{id}/commands/{name}", Operation::DeleteCommand, "Removes a command that a file has added"),
    get("/api/registry/skills", Operation::RegistrySkills, "Every skill and what it says about webhooks"),
    post("/api/registry/skills/upload", Operation::UploadSkill, "Makes or replaces a skill with its files"),
    get("/api/registry/skills/{name}/content", Operation::SkillContent, "The main file of a skill, with its `ETag`"),
    put("/api/registry/skills/{name}/content", Operation::PutSkillContent, "Replaces the main file of a skill"),
    delete("/api/registry/skills/{name}", Operation::DeleteSkill, "Deletes a skill, and so the webhook that it makes"),
    get("/api/registry/agents", Operation::RegistryAgents, "Every agent"),
    post("/api/registry/agents/upload", Operation::UploadAgent, "Makes or replaces an agent"),
    get("/api/registry/agents/{name}/content", Operation::AgentContent, "The file of an agent, with its `ETag`"),
    put("/api/registry/agents/{name}/content", Operation::PutAgentContent, "Replaces the file of an agent"),
    delete("/api/registry/agents/{name}", Operation::DeleteAgent, "Deletes an agent that no command names"),
    get("/api/skills", Operation::Skills, "Every skill and what it says about webhooks"),
    get("/api/agents", Operation::Agents, "Every agent"),
    get("/api/providers", Operation::Providers, "Every provider definition"),
    get("/api/tasks", Operation::Tasks, "Tasks, newest first"),
    get("/api/tasks/{id}", Operation::Task, "One task with its answers to the source"),
    get("/api/tasks/{id}/logs", Operation::TaskLogs, "What the task's agent said and did"),
    post("/api/tasks/{id}/cancel", Operation::CancelTask, "Cancels a task, or asks a running one to stop"),
    post("/api/tasks/{id}/retry", Operation::RetryTask, "Puts a task that has ended in the queue again"),
    post("/api/tasks/{id}/approve", Operation::ApproveTask, "Lets a task run that waits for an approval"),
    post("/api/tasks/{id}/reject", Operation::RejectTask, "Ends a task that waits for an approval"),
    post("/api/tasks/{id}/input", Operation::AnswerTask, "Answers the question that a task waits with"),
    get("/api/approvals", Operation::Approvals, "Tasks that wait for an approval, newest first"),
    get("/api/dead-letters", Operation::DeadLetters, "Tasks that failed for good, newest first"),
    get("/api/deliveries", Operation::Deliveries, "Deliveries, newest first"),
    get("/api/deliveries/{id}", Operation::Delivery, "One delivery with its request"),
    get("/api/deliveries/{id}/explain", Operation::ExplainDelivery, "Why each command did or did not match"),
    post("/api/deliveries/replay", Operation::Replay, "Sends deliveries again; only counts and tries unless told so"),
    post("/api/deliveries/{id}/replay", Operation::ReplayOne, "Sends a delivery again, or tries it"),
    get(
        "/api/secrets",
        Operation::Secrets,
        "Which secrets are set, where, and when they were last used; never a value",
    ),
    put("/api/secrets/{id}", Operation::PutSecret, "Seals a secret into the file of a webhook"),
    get("/api/docs", Operation::Docs, "This list as a page"),
    get("/api/events", Operation::Events, "What happened after a sequence number; waits for more"),
    get("/api/stats", Operation::Recent, "Deliveries, answer times and queue age of the last hours"),
    get("/api/spending", Operation::Spending, "What runs cost, by day and webhook"),
    get("/api/budgets", Operation::Budgets, "What was used of each budget today (UTC), and until when runs pause"),
    get("/api/picture", Operation::Picture, "Provider, webhook, commands, agents, and where each comes from"),
    get("/api/history", Operation::History, "Commits that changed the configuration, newest first"),
    get("/api/diff", Operation::Diff, "What of the configuration differs between two commits"),
    get("/api/plan", Operation::Plan, "What going from one commit to another would do"),
    post("/api/suspend", Operation::Suspend, "Stops looking at files and the remote; what is in force goes on"),
    post("/api/resume", Operation::Resume, "Looks at files and the remote again"),
    post("/api/webhooks/{id}/suspend", Operation::SuspendWebhook, "Stores deliveries and holds the tasks back"),
    post("/api/webhooks/{id}/resume", Operation::ResumeWebhook, "Lets the tasks of a webhook go"),
    post("/api/rollback", Operation::Rollback, "Brings the configuration of a commit back, by a new commit"),
    post("/api/validate", Operation::Validate, "What would be said about a file before it is one; nothing is written"),
    post("/api/reconcile", Operation::Reconcile, "Brings the index in line with the files"),
    get("/api/stream", Operation::Stream, "What happens, as server-sent events or over a WebSocket"),
    post("/api/stream/ticket", Operation::StreamTicket, "A ticket for one stream, for those who can send no header"),
    post("/api/chat", Operation::Chat, "Says something: begins the task that answers, in a conversation"),
    get("/api/conversations", Operation::Conversations, "Conversations, the one with the newest message first"),
    get("/api/conversations/{id}", Operation::Conversation, "One conversation"),
    get("/api/conversations/{id}/messages", Operation::Messages, "What was said in it, the oldest first"),
    get("/api/me", Operation::Me, "Who the request comes from, and what he may do"),
    get("/api/audit", Operation::Audit, "Who changed, approved, replayed and did what, newest first"),
    get("/api/tokens", Operation::Tokens, "Every token: its scopes, when it expires and when it was last used"),
    post("/api/tokens", Operation::CreateToken, "Makes a token; what it reads as is shown this once"),
    delete("/api/tokens/{id}", Operation::RevokeToken, "Revokes a token; what is open by it is closed"),
];

impl Operation {
    /// What the caller must be allowed; `None`: anyone who reaches the listener. Who only looks needs `read`, who does
    /// something `write`, unless it stands here.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Operation::Live | Operation::Ready => None,
            Operation::StreamTicket | Operation::TestWebhook | Operation::Validate => Some(Scope::Read),
            Operation::ApproveTask | Operation::RejectTask => Some(Scope::Approve),
            Operation::Tokens
            | Operation::CreateToken
            | Operation::RevokeToken
            | Operation::PutSecret
            | Operation::DeliverSample => Some(Scope::Admin),
            _ if ROUTES.iter().all(|route| route.operation != self || route.method == "GET") => Some(Scope::Read),
            _ => Some(Scope::Write),
        }
    }

    /// The JSON body that it takes; `None`: no body.
    pub fn body(self) -> Option<fn(&mut SchemaGenerator) -> Schema> {
        match self {
            Operation::CreateToken => Some(SchemaGenerator::subschema_for::<super::tokens::NewToken>),
            Operation::Validate => Some(SchemaGenerator::subschema_for::<super::validate::Draft>),
            Operation::CreateWebhook => Some(SchemaGenerator::subschema_for::<super::changes::NewWebhook>),
            Operation::EditBuiltinWebhook | Operation::EditWebhook | Operation::PatchWebhook => {
                Some(SchemaGenerator::subschema_for::<super::changes::WebhookFields>)
            }
            Operation::AddCommand | Operation::PutCommand => {
                Some(SchemaGenerator::subschema_for::<super::changes::NewCommand>)
            }
            Operation::Chat => Some(SchemaGenerator::subschema_for::<super::chat::Say>),
            Operation::AnswerTask => Some(SchemaGenerator::subschema_for::<super::tasks::Input>),
            Operation::TestWebhook | Operation::DeliverSample => {
                Some(SchemaGenerator::subschema_for::<super::replay::Trial>)
            }
            Operation::Replay => Some(SchemaGenerator::subschema_for::<super::replay::Replay>),
            Operation::UploadSkill | Operation::UploadAgent => {
                Some(SchemaGenerator::subschema_for::<super::registry::Upload>)
            }
            Operation::PutSkillContent | Operation::PutAgentContent => {
                Some(SchemaGenerator::subschema_for::<super::registry::Content>)
            }
            Operation::PutSecret => Some(SchemaGenerator::subschema_for::<super::secrets::NewSecret>),
            _ => None,
        }
    }

    /// What else its body may be.
    pub fn other_media(self) -> &'static [&'static str] {
        match self {
            Operation::PutSkillContent | Operation::PutAgentContent => &["text/markdown"],
            Operation::UploadSkill | Operation::UploadAgent => &["multipart/form-data"],
            _ => &[],
        }
    }

    /// Largest body in bytes.
    pub fn body_bytes_max(self) -> u64 {
        match self {
            Operation::UploadSkill
            | Operation::UploadAgent
            | Operation::PutSkillContent
            | Operation::PutAgentContent
            | Operation::TestWebhook
            | Operation::DeliverSample => 8 << 20,
            Operation::Chat | Operation::AnswerTask => 256 << 10,
            _ => 64 << 10,
        }
    }

    /// Whether its answer may show what is shown only once.
    pub fn shows_secrets(self) -> bool {
        matches!(self, Operation::CreateToken | Operation::StreamTicket)
    }

    /// The statuses of its good answers.
    pub fn statuses(self) -> &'static [u16] {
        match self {
            Operation::Reconcile => &[200, 202],
            Operation::CreateToken => &[201],
            Operation::Chat | Operation::AnswerTask => &[202],
            Operation::CreateWebhook | Operation::AddCommand | Operation::UploadSkill | Operation::UploadAgent => {
                &[200, 201, 202]
            }
            Operation::EditBuiltinWebhook
            | Operation::EditWebhook
            | Operation::PatchWebhook
            | Operation::DeleteWebhook
            | Operation::EnableWebhook
            | Operation::DisableWebhook
            | Operation::PutCommand
            | Operation::DeleteCommand
            | Operation::PutSkillContent
            | Operation::DeleteSkill
            | Operation::PutAgentContent
            | Operation::DeleteAgent
            | Operation::PutSecret => &[200, 202],
            _ => &[200],
        }
    }
}

/// What there is at an address.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// With what stands in the place of the names in braces.
    Operation(Operation, Vec<&'a str>),
    /// The address is known, with these methods.
    OtherMethods(String),
    Nothing,
}

/// Looks an address up. Nothing is decoded: ids are names that need no encoding.
pub fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let mut allowed: Vec<&str> = Vec::new();
    // What has an address of its own is no name of something else.
    let is_own = ROUTES.iter().any(|route| route.path == path);
    for route in ROUTES.iter().filter(|route| !is_own || route.path == path) {
        let Some(names) = captures(route.path, path) else { continue };
        if route.method == method.as_str() {
            return Found::Operation(route.operation, names);
        }
        allowed.push(route.method);
        if route.method == "GET" {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() { Found::Nothing } else { Found::OtherMethods(allowed.join(", ")) }
}

/// What stands in the place of the names in braces; `None`: the path is another one.
fn captures<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut names = Vec::new();
    let mut parts = path.split('/');
    for expected in pattern.split('/') {
        let part = parts.next()?;
        if !expected.starts_with('{') {
            if part != expected {
                return None;
            }
        } else if part.is_empty() {
            return None;
        } else {
            names.push(part);
        }
    }
    parts.next().is_none().then_some(names)
}

/// The names in braces of a path.
pub fn names_in(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// The table for readers.
pub fn document() -> Value {
    let routes: Vec<Value> = ROUTES
        .iter()
        .map(|route| {
            let parameters: Vec<Value> = (route.operation.parameters().iter())
                .map(|parameter| json!({"name": parameter.name, "summary": parameter.summary}))
                .collect();
            let scope = route.operation.scope();
            json!({
                "method": route.method,
                "path": route.path,
                "summary": route.summary,
                "scope": scope,
                "parameters": parameters,
            })
        })
        .collect();
    json!({ "routes": routes })
}

#[cfg(test)]
mod tests;
