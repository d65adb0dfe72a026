//! The forms that answers are made of, by name.

use serde_json::{Map, Value, json};

use crate::model::task::TaskState;

fn any() -> Value {
    json!({})
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn maybe_text() -> Value {
    json!({ "type": ["string", "null"] })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn number() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn maybe_time() -> Value {
    json!({ "type": ["string", "null"], "format": "date-time" })
}

fn list(of: &Value) -> Value {
    json!({ "type": "array", "items": of })
}

fn one(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Every field stands there; there may be more of them in a later version.
fn object(fields: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

/// A page of a list.
pub fn page(of: &str) -> Value {
    object(&[("items", list(&one(of))), ("next", maybe_text())])
}

/// What answers are made of.
pub fn schemas() -> Vec<(&'static str, Value)> {
    [of_webhooks(), of_files(), of_changes(), of_tasks(), of_deliveries(), of_happenings(), of_people()].concat()
}

fn of_webhooks() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Condition",
            object(&[
                ("type", json!({ "enum": ["Ready", "Reconciling", "Stalled", "Committed", "Pushed", "Copied"] })),
                ("status", flag()),
                ("reason", text()),
                ("message", text()),
                ("observed_generation", number()),
                ("last_transition", time()),
            ]),
        ),
        (
            "Diagnostic",
            object(&[
                ("path", text()),
                ("severity", text()),
                ("code", json!({ "type": "string", "pattern": "^SH[0-9]{4}$" })),
                ("message", text()),
            ]),
        ),
        (
            "WebhookSummary",
            object(&[
                ("id", text()),
                ("name", text()),
                ("provider", text()),
                ("endpoint", text()),
                ("is_builtin", flag()),
                ("enabled", flag()),
                ("generation", number()),
                ("commands", number()),
                ("conditions", list(&one("Condition"))),
                ("created_at", maybe_time()),
                ("created_by", maybe_text()),
                ("updated_at", maybe_time()),
                ("updated_by", maybe_text()),
            ]),
        ),
        (
            "Webhook",
            object(&[
                ("id", text()),
                ("spec", json!({ "type": "object" })),
                ("sources", list(&text())),
                ("generation", number()),
                ("conditions", list(&one("Condition"))),
                ("diagnostics", list(&one("Diagnostic"))),
                ("is_builtin", flag()),
                ("created_at", maybe_time()),
                ("created_by", maybe_text()),
                ("updated_at", maybe_time()),
                ("updated_by", maybe_text()),
            ]),
        ),
        ("Command", object(&[("name", text()), ("source", text()), ("action", text()), ("target_agent", any())])),
    ]
}

fn of_files() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Skill",
            object(&[
                ("name", text()),
                ("description", text()),
                ("path", text()),
                ("webhooks", list(&text())),
                ("conditions", list(&one("Condition"))),
                ("diagnostics", list(&one("Diagnostic"))),
            ]),
        ),
        (
            "Agent",
            object(&[
                ("name", text()),
                ("description", text()),
                ("path", text()),
                ("model", maybe_text()),
                ("diagnostics", list(&one("Diagnostic"))),
            ]),
        ),
        (
            "Provider",
            object(&[("name", text()), ("title", text()), ("source", text()), ("secret_slots", list(&text()))]),
        ),
    ]
}

fn of_changes() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Applied",
            object(&[
                ("status", json!({ "enum": ["unchanged", "written", "live", "committed", "proposed"] })),
                ("commit", maybe_text()),
                ("branch", maybe_text()),
                ("pr_url", maybe_text()),
                ("webhook", maybe_text()),
                ("generation", json!({ "type": ["integer", "null"] })),
                ("index_digest", maybe_text()),
                ("actions", json!({ "type": "array" })),
                ("widens", json!({ "type": "array" })),
                ("warnings", list(&one("Diagnostic"))),
                ("files", json!({ "type": "object", "additionalProperties": { "type": ["string", "null"] } })),
                ("note", maybe_text()),
            ]),
        ),
        (
            "Commit",
            object(&[
                ("commit", text()),
                ("at", time()),
                ("author", text()),
                ("title", text()),
                ("origin", maybe_text()),
                ("actor", maybe_text()),
                ("changes", json!({ "type": "array" })),
            ]),
        ),
        ("FileDiff", object(&[("path", text()), ("verb", text()), ("text", maybe_text())])),
        ("Plan", object(&[("actions", json!({ "type": "array" })), ("diagnostics", list(&one("Diagnostic")))])),
        ("RolledBack", object(&[("commit", text()), ("paths", list(&text())), ("in_force", flag())])),
        ("Verdict", object(&[("valid", flag()), ("diagnostics", list(&one("Diagnostic")))])),
    ]
}

/// The state of a task.
fn state() -> Value {
    let states = TaskState::ALL.map(TaskState::as_str);
    json!({ "enum": states })
}

fn of_tasks() -> Vec<(&'static str, Value)> {
    vec![
        (
            "TaskSummary",
            object(&[
                ("id", text()),
                ("state", state()),
                ("webhook", text()),
                ("generation", number()),
                ("command", text()),
                ("skill", text()),
                ("agent", maybe_text()),
                ("delivery", maybe_text()),
                ("event", text()),
                ("actor", maybe_text()),
                ("attempt", number()),
                ("reason", json!({ "type": ["object", "null"], "required": ["code", "message"] })),
                ("cost_usd", json!({ "type": ["number", "null"] })),
                ("created_at", time()),
                ("updated_at", time()),
                ("not_before", time()),
            ]),
        ),
        (
            "Task",
            object(&[
                ("id", text()),
                ("spec", json!({ "type": "object" })),
                ("state", state()),
                ("reason", json!({ "type": ["object", "null"], "required": ["code", "message"] })),
                ("attempt", number()),
                ("updated_at", time()),
                ("cancel_requested", flag()),
                ("result", json!({ "type": ["object", "null"] })),
                ("outbox", json!({ "type": "array" })),
            ]),
        ),
        ("LogLine", object(&[("at", time()), ("attempt", number()), ("kind", text()), ("text", text())])),
        ("Log", object(&[("items", list(&one("LogLine"))), ("next", number()), ("ended", flag())])),
    ]
}

fn of_deliveries() -> Vec<(&'static str, Value)> {
    vec![
        (
            "DeliverySummary",
            object(&[
                ("id", text()),
                ("webhook", text()),
                ("provider", text()),
                ("generation", number()),
                ("received_at", time()),
                ("outcome", json!({ "enum": ["accepted", "ignored"] })),
                ("events", list(&text())),
                ("actor", any()),
                ("tasks", list(&text())),
            ]),
        ),
        (
            "Delivery",
            object(&[
                ("id", text()),
                ("webhook", text()),
                ("provider", text()),
                ("received_at", time()),
                ("outcome", json!({ "enum": ["accepted", "ignored"] })),
                ("items", json!({ "type": "array" })),
                ("tasks", list(&text())),
                ("outbox", json!({ "type": "array" })),
                ("request", json!({ "type": ["object", "null"] })),
            ]),
        ),
        (
            "Explanation",
            object(&[
                ("delivery", text()),
                ("webhook", text()),
                ("outcome", text()),
                ("items", json!({ "type": "array" })),
                ("tasks", list(&text())),
            ]),
        ),
        (
            "WebhookStats",
            object(&[
                ("webhook", text()),
                ("deliveries", number()),
                ("accepted", number()),
                ("ignored", number()),
                ("tasks", number()),
                ("last_received_at", time()),
            ]),
        ),
        ("Replayed", object(&[("count", number()), ("dry_run", flag()), ("items", json!({ "type": "array" }))])),
        ("Trial", object(&[("webhook", text()), ("sample", any()), ("would", json!({ "type": "array" }))])),
    ]
}

fn of_happenings() -> Vec<(&'static str, Value)> {
    vec![
        (
            "Happening",
            object(&[
                ("seq", number()),
                ("at", time()),
                ("kind", text()),
                ("webhook", maybe_text()),
                ("delivery", maybe_text()),
                ("task", maybe_text()),
                ("message", text()),
            ]),
        ),
        ("Happenings", object(&[("items", list(&one("Happening"))), ("next", number())])),
        (
            "Deed",
            object(&[
                ("seq", number()),
                ("at", time()),
                ("kind", text()),
                ("actor", text()),
                ("webhook", maybe_text()),
                ("delivery", maybe_text()),
                ("task", maybe_text()),
                ("message", text()),
            ]),
        ),
        (
            "Conversation",
            object(&[
                ("id", text()),
                ("messages", number()),
                ("title", maybe_text()),
                ("created_at", maybe_time()),
                ("created_by", maybe_text()),
                ("updated_at", maybe_time()),
                ("state", any()),
            ]),
        ),
        ("Message", object(&[("number", number()), ("role", json!({ "enum": ["user", "agent"] })), ("at", time())])),
    ]
}

fn of_people() -> Vec<(&'static str, Value)> {
    let token = || {
        vec![
            ("id", text()),
            ("name", text()),
            ("scopes", list(&text())),
            ("state", json!({ "enum": ["valid", "expired", "revoked"] })),
            ("created_at", time()),
            ("created_by", text()),
            ("expires_at", maybe_time()),
            ("last_used_at", maybe_time()),
            ("revoked_at", maybe_time()),
        ]
    };
    vec![
        (
            "Status",
            object(&[
                ("version", text()),
                ("started_at", time()),
                ("now", time()),
                ("ready", flag()),
                ("last_seq", number()),
                ("queue", json!({ "type": "object" })),
                ("ledger", object(&[("healthy", flag())])),
                ("suspended", object(&[("reconciler", maybe_time()), ("webhooks", json!({ "type": "object" }))])),
            ]),
        ),
        (
            "Secret",
            object(&[
                ("id", text()),
                ("webhook", text()),
                ("slot", text()),
                ("place", text()),
                ("state", json!({ "enum": ["set", "missing", "expired"] })),
                ("not_after", maybe_time()),
                ("last_used_at", maybe_time()),
            ]),
        ),
        ("Token", object(&token())),
        ("MadeToken", {
            let mut fields = token();
            fields.push(("token", text()));
            object(&fields)
        }),
        ("Me", object(&[("kind", json!({ "enum": ["local", "anonymous", "token"] })), ("scopes", list(&text()))])),
    ]
}
