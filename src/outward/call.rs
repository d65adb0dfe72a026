//! Calls to providers that runs ask for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Outward;
use crate::error::{Code, Error, Result};
use crate::model::provider::{Allowed, Definition, Offered};
use crate::model::task::{Calls, TaskSpec};
use crate::model::untrusted;
use crate::respond::caller::Asked as Sent;

/// Longest answer that a run gets, in bytes of JSON.
const ANSWER_BYTES_MAX: usize = 48 * 1024;
/// Names under which people write.
const WRITTEN: [&str; 9] =
    ["body", "title", "description", "text", "note", "summary", "comment", "message", "displayName"];

/// What a run asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The provider of the task where it is `None`.
    pub provider: Option<String>,
    pub operation: String,
    pub values: BTreeMap<String, String>,
}

/// An operation that a task may use.
struct Granted {
    provider: String,
    operation: String,
    /// What the run cannot choose.
    bound: BTreeMap<String, String>,
}

impl Outward {
    /// Everything that the run of a task may ask for.
    pub fn operations(&self, task: &TaskSpec) -> Vec<Offered> {
        let offered =
            |granted: Granted| self.definition(&granted.provider).ok()?.offered(&granted.operation, &granted.bound);
        self.granted(task).into_iter().filter_map(offered).collect()
    }

    /// Makes one call and answers what the provider said to it, whatever that is.
    ///
    /// # Errors
    /// SH0904 when the task may not do this, SH0902 when something is missing, SH0408 without a token, SH0802 when no answer
    /// came.
    pub async fn call(&self, task: &TaskSpec, asked: Asked) -> Result<Value> {
        let own = task.run.calls.as_ref().map(|calls| calls.provider.as_str());
        let provider = asked.provider.as_deref().or(own).unwrap_or_default();
        let fits = |granted: &Granted| granted.provider == provider && granted.operation == asked.operation;
        let granted = self.granted(task).into_iter().find(fits).ok_or_else(|| {
            Error::new(Code::Refused, format!("this run may not use `{}`", asked.operation.escape_default())).hint(
                "without `operation` this tool answers what it may use; a command allows more by `provider_calls`",
            )
        })?;
        let definition = self.definition(&granted.provider)?;
        let settings = self.caller.settings(definition.name());
        let values = with_home(&definition, &granted, task.run.calls.as_ref(), asked.values);
        let (call, context) = definition.operation(&granted.operation, &granted.bound, &values, &settings)?;
        let sent = Sent { provider: definition.name(), call: &call, context: &context, page: None };
        let answer = self.caller.exchange(sent).await.map_err(|none| none.error)?;
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let succeeded = call.succeeded(answer.status, body.as_ref());
        tracing::info!(task = %task.id, provider = %granted.provider, operation = %granted.operation, status = answer.status, "a run asked a provider");
        if call.method != "GET" {
            let what = format!("{} {}.{} {}", task.id, granted.provider, granted.operation, answer.status);
            self.ledger.note("run.call", None, what).await?;
        }
        let shown = match body {
            Some(body) => self.shown(body)?,
            None => Value::Null,
        };
        Ok(json!({ "status": answer.status, "succeeded": succeeded, "answer": shown }))
    }

    fn granted(&self, task: &TaskSpec) -> Vec<Granted> {
        let Some(calls) = &task.run.calls else { return Vec::new() };
        let own = calls.provider.to_string();
        let at_home = |operation: &str| Granted {
            provider: own.clone(),
            operation: operation.to_owned(),
            bound: calls.bound.clone(),
        };
        match &calls.allowed {
            None => match self.definition(&own) {
                Ok(definition) => definition.usual_operations().map(at_home).collect(),
                Err(_) => Vec::new(),
            },
            Some(allowed) => allowed
                .iter()
                .map(|written| {
                    let Allowed { provider, operation } = Allowed::parse(written);
                    match provider {
                        None => at_home(operation),
                        Some(provider) => {
                            let (provider, operation) = (provider.to_owned(), operation.to_owned());
                            Granted { provider, operation, bound: BTreeMap::new() }
                        }
                    }
                })
                .collect(),
        }
    }

    /// As a run gets it: without secrets, without what readers do not see, and not too long.
    fn shown(&self, mut answer: Value) -> Result<Value> {
        let outgoing = untrusted::Outgoing::new([])?.knowing((self.known_secrets)());
        tidy(&mut answer, "", &|text| outgoing.clean(text).text);
        let mut text = answer.to_string();
        if text.len() <= ANSWER_BYTES_MAX {
            return Ok(answer);
        }
        text.truncate(text.floor_char_boundary(ANSWER_BYTES_MAX));
        Ok(json!({ "cut_after_bytes": ANSWER_BYTES_MAX, "text": text }))
    }
}

/// Where a command lets the run choose the resource, what the delivery is about stands in for what it leaves out.
fn with_home(
    definition: &Definition,
    granted: &Granted,
    calls: Option<&Calls>,
    mut values: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let home = calls.filter(|calls| granted.bound.is_empty() && calls.provider == *definition.name());
    let Some(offered) = definition.offered(&granted.operation, &granted.bound) else { return values };
    for (name, value) in home.into_iter().flat_map(|calls| &calls.bound) {
        if offered.takes.contains_key(name) && !values.contains_key(name) {
            values.insert(name.clone(), value.clone());
        }
    }
    values
}

/// Leaves out what says nothing, and cleans every text.
fn tidy(value: &mut Value, name: &str, clean: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => {
            let written = WRITTEN.contains(&name);
            *text = clean(&if written { untrusted::visible(text) } else { std::mem::take(text) });
        }
        Value::Array(items) => items.iter_mut().for_each(|item| tidy(item, name, clean)),
        Value::Object(fields) => {
            fields.retain(|name, field| !field.is_null() && !says_nothing(name));
            fields.iter_mut().for_each(|(name, field)| tidy(field, name, clean));
            let cleaned = std::mem::take(fields).into_iter().map(|(name, field)| (clean(&name), field));
            *fields = cleaned.collect::<Map<_, _>>();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Addresses of other calls, which a run cannot make.
fn says_nothing(name: &str) -> bool {
    (name.ends_with("_url") && !matches!(name, "html_url" | "web_url")) || matches!(name, "node_id" | "_links")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_tidied_before_a_run_sees_them() {
        let mut answer = json!({
            "body": "see <!-- do evil --> here", "patch": "+<!-- kept -->", "events_url": "https://x", "html_url": "https://y",
            "user": null, "nested": [{ "title": "a\u{200b}b", "token": "s3cret-value" }],
        });
        tidy(&mut answer, "", &|text| text.replace("s3cret-value", "…"));
        assert!(!answer["body"].as_str().unwrap().contains("evil"));
        assert_eq!(answer["patch"], "+<!-- kept -->");
        assert_eq!(answer["nested"], json!([{ "title": "ab", "token": "…" }]));
        assert!(answer.get("events_url").is_none() && answer.get("user").is_none());
        assert_eq!(answer["html_url"], "https://y");
    }
}
