//! The context of a prompt template: the payload's own top level, and ours above it.
//!
//! Only what the template reads is copied: payloads are large and templates look at little of them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::event::Event;
use crate::model::ids::TaskId;
use crate::model::spec::{CommandSpec, WebhookSpec};
use crate::model::task::Source;
use crate::model::template::Template;

/// What a template may know besides the payload.
pub struct Facts<'a> {
    pub event: &'a Event,
    pub args: &'a str,
    pub command: &'a CommandSpec,
    pub webhook: &'a WebhookSpec,
    pub task: TaskId,
    pub source: &'a Source,
    pub now: Timestamp,
}

pub fn context(template: &Template, payload: &Value, facts: &Facts<'_>) -> Value {
    let wanted: BTreeSet<&str> = template.paths().map(first_name).collect();
    let mut context = Map::new();
    for name in wanted {
        let value = facts.value(name).or_else(|| match name {
            "payload" => Some(payload.clone()),
            name => payload.get(name).cloned(),
        });
        if let Some(value) = value {
            context.insert(name.to_owned(), value);
        }
    }
    Value::Object(context)
}

/// `issue` of `issue.labels[0].name`.
fn first_name(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or(path)
}

impl Facts<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        let Facts { event, args, command, webhook, task, source, now } = self;
        Some(match name {
            "event_type" => json!(event.name),
            "text" => json!(event.text.as_deref().or(event.title.as_deref()).unwrap_or_default()),
            "args" => json!(args),
            "command" => json!(command.name),
            "actor" => json!(event.actor.as_ref().map(|actor| &actor.id)?),
            "resource" => json!(event.resource.as_ref()?),
            "webhook" => json!(webhook.id),
            "delivery_id" => json!(event.delivery_id.as_ref()?),
            "task_id" => json!(task),
            "flow_id" => json!(source.flow_id),
            "now" => json!(now),
            _ => return None,
        })
    }
}
