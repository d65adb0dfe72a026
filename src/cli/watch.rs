//! `get -w`: the list, and afterwards each item that has become another one, as the server's stream tells that something
//! happened. The list itself is asked for again each time, so that its filters hold and nothing is told twice.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::client::{Client, DEADLINE, Follow, Route, Told};
use super::context::Context;
use super::get::Get;
use super::kind::Kind;
use super::output::{Format, harmless, yaml};
use super::sheet::{self, Sheet};
use crate::error::Result;

/// What comes close together is looked at once.
const LOOK_AFTER: Duration = Duration::from_millis(100);
/// The view may follow what happened a moment later.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Where a watch stands: begun before the list, so that nothing falls between the two.
pub struct Watch {
    happening: Follow,
    seen: BTreeMap<String, Value>,
}

impl Watch {
    /// # Errors
    /// As [`Client::follow`].
    pub async fn begin(client: &Client) -> Result<Self> {
        let status = client.get(Route::api(&["status"]), DEADLINE).await?;
        let route = Route::api(&["stream"]).with("since", status["last_seq"].as_u64().unwrap_or(0));
        Ok(Self { happening: client.follow(route).await?, seen: BTreeMap::new() })
    }

    /// Shows what changes until the server ends the stream or nobody reads any more.
    ///
    /// # Errors
    /// SH0305 when the server breaks off.
    pub async fn go_on(mut self, get: &Get, client: &Client, context: &Context, shown: &[Value]) -> Result<()> {
        let (kind, sheet) = (get.kind(), get.kind().sheet());
        if context.output.format.is_machine() {
            self.tell(sheet, context, shown, false);
        } else {
            context.output.list(sheet, shown);
            self.seen = named(sheet, shown);
        }
        let mut looks: Vec<Duration> = Vec::new();
        while !context.output.is_closed() {
            let wait = looks.last().copied();
            tokio::select! {
                told = self.happening.next() => match told? {
                    Some(told) if told.kind == "stream.ended" => return Ok(()),
                    Some(told) if concerns(kind, &told) => looks = vec![LOOK_AGAIN, LOOK_AFTER],
                    Some(_) => {}
                    None => return Ok(()),
                },
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    looks.pop();
                    let (items, more) = get.pages(client).await?;
                    self.tell(sheet, context, &items, more.is_none());
                }
            }
        }
        Ok(())
    }

    /// Prints what is new or different; where the list is whole, also what is gone.
    fn tell(&mut self, sheet: &Sheet, context: &Context, items: &[Value], is_whole: bool) {
        let now = named(sheet, items);
        let changed: Vec<Value> = now
            .iter()
            .filter(|(name, item)| self.seen.get(*name) != Some(*item))
            .map(|(_, item)| item.clone())
            .collect();
        let output = &context.output;
        match output.format {
            // There is no end to wait for: one value after the other.
            Format::Json => changed.iter().for_each(|item| output.line(&item.to_string())),
            Format::Yaml => changed.iter().for_each(|item| output.text(&format!("---\n{}", yaml(item)))),
            Format::Name => output.text(&sheet::names(sheet, &changed)),
            Format::Table | Format::Wide if changed.is_empty() => {}
            Format::Table | Format::Wide => output.text(&sheet::rows(sheet, &changed, output.format == Format::Wide)),
        }
        if is_whole {
            for name in self.seen.keys().filter(|name| !now.contains_key(*name)) {
                output.note(&format!("{}/{} is not in this list any more", sheet.singular, harmless(name)));
            }
        }
        self.seen = now;
    }
}

fn named(sheet: &Sheet, items: &[Value]) -> BTreeMap<String, Value> {
    items.iter().map(|item| (sheet::text(sheet::find(item, sheet.name)), item.clone())).collect()
}

/// Whether the list may be another one now.
fn concerns(kind: Kind, told: &Told) -> bool {
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| told.kind.starts_with(beginning));
    let of_kind = match kind {
        Kind::Tasks | Kind::Approvals | Kind::DeadLetters => begins(&["task.", "approval."]),
        Kind::Deliveries => begins(&["delivery."]),
        Kind::Webhooks | Kind::Skills | Kind::Agents | Kind::Providers => {
            begins(&["reconcile.", "repo.", "webhook.", "change."])
        }
        Kind::Audit => told.data.get("actor").is_some(),
    };
    (of_kind && told.kind != "task.output") || told.kind == "stream.missed"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_may_change_the_list_is_looked_at() {
        let told = |kind: &str, data: Value| Told { kind: kind.to_owned(), data };
        assert!(concerns(Kind::Tasks, &told("task.completed", json!({}))));
        assert!(!concerns(Kind::Tasks, &told("task.output", json!({}))));
        assert!(!concerns(Kind::Webhooks, &told("task.completed", json!({}))));
        assert!(concerns(Kind::Webhooks, &told("reconcile.applied", json!({}))));
        assert!(concerns(Kind::Audit, &told("token.created", json!({ "actor": "local" }))));
        assert!(!concerns(Kind::Audit, &told("task.created", json!({}))));
        assert!(concerns(Kind::Deliveries, &told("stream.missed", json!({}))), "whatever was missed may concern it");
    }
}
