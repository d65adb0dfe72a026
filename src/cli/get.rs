//! `get` and `describe`: what is in force and what happened, as the server knows it.

use clap::{Args, ValueHint};
use serde_json::Value;

use super::client::{Client, DEADLINE, Route};
use super::context::Context;
use super::exit::Exit;
use super::kind::{Kind, Target, TargetParser};
use super::watch::Watch;
use super::{record, sheet};
use crate::error::{Code, Error, Result};
use crate::model::diagnostic::did_you_mean;
use crate::model::task::TaskState;

/// Largest page that is asked for at once.
const PAGE_ITEMS_MAX: usize = 200;
/// Pages that are asked for at most.
const PAGES_MAX: usize = 10_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook get webhooks
  skillhook get webhook github -o yaml
  skillhook get tasks --state running,dead --webhook github
  skillhook get deliveries --limit 5 -o wide
  skillhook get tasks -w --state running,queued
  skillhook get webhooks --sort -updated_at
  skillhook get audit
  skillhook get tasks -o name | head -1")]
pub struct Get {
    /// What to list, or KIND/NAME
    #[arg(value_name = "KIND", value_parser = TargetParser)]
    target: Target,
    /// Only the one of this name or id
    name: Option<String>,
    /// Tasks and deliveries: only those of this webhook
    #[arg(long, value_name = "ID")]
    webhook: Option<String>,
    /// Tasks: only those in these states
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = states())]
    state: Vec<String>,
    /// Tasks and deliveries: at most so many, the newest
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// Tasks and deliveries: only those before this id
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// The field that orders the list, with `-` in front from its end (`created_at`, `-updated_at`, `name`, …)
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Stay, and show each item again that changes
    #[arg(short, long)]
    watch: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook describe webhook github
  skillhook describe task tsk_0197a3c0de7d7f0b8a5d3c2b1a098765")]
pub struct Describe {
    /// What it is, or KIND/NAME
    #[arg(value_name = "KIND", value_parser = TargetParser)]
    target: Target,
    /// Its name or id
    #[arg(value_hint = ValueHint::Other)]
    name: Option<String>,
}

fn states() -> clap::builder::PossibleValuesParser {
    TaskState::ALL.map(TaskState::as_str).into()
}

impl Get {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let client = context.client()?;
        let kind = self.target.kind;
        if let Some(name) = one_name(self.target.name.as_deref(), self.name.as_deref())? {
            if self.watch {
                return Err(Error::new(Code::Usage, "`--watch` is for lists")
                    .hint("`skillhook events -w` tells all that happens"));
            }
            let found = one(&client, kind, name).await?;
            if context.output.format.is_machine() {
                context.output.record(&found);
            } else {
                context.output.list(kind.sheet(), &[found]);
            }
            return Ok(Exit::Done);
        }
        if !kind.has_pages() && (self.webhook.is_some() || self.before.is_some()) {
            return Err(Error::new(Code::Usage, format!("`{}` has no such filter", kind.sheet().plural))
                .hint("`--webhook` and `--before` are for tasks and deliveries"));
        }
        if kind != Kind::Tasks && !self.state.is_empty() {
            return Err(Error::new(Code::Usage, "`--state` is for tasks"));
        }
        let watch = if self.watch { Some(Watch::begin(&client).await?) } else { None };
        let (items, more) = self.pages(&client).await?;
        if let Some(watch) = watch {
            watch.go_on(&self, &client, context, &items).await?;
            return Ok(Exit::Done);
        }
        context.output.list(kind.sheet(), &items);
        if let Some(before) = more.filter(|_| kind.has_pages() && !self.is_oldest_first()) {
            context.output.note(&format!("there may be more: add `--before {before}` or a larger `--limit`"));
        }
        Ok(Exit::Done)
    }

    pub fn kind(&self) -> Kind {
        self.target.kind
    }

    fn is_oldest_first(&self) -> bool {
        self.sort.as_ref().is_some_and(|sort| !sort.starts_with('-'))
    }

    /// At most `limit` items where they come in pages, and the cursor of those that are left.
    pub async fn pages(&self, client: &Client) -> Result<(Vec<Value>, Option<String>)> {
        let plural = self.target.kind.sheet().plural;
        let (mut items, mut cursor) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let mut route = Route::api(&[plural]).with_some("sort", self.sort.as_deref());
            let newest_first = self.target.kind.has_pages() && !self.is_oldest_first();
            if self.target.kind.has_pages() {
                let states = (!self.state.is_empty()).then(|| self.state.join(","));
                let wanted = self.limit.saturating_sub(items.len()).min(PAGE_ITEMS_MAX);
                route = route
                    .with("limit", wanted.max(1))
                    .with_some("webhook", self.webhook.as_deref())
                    .with_some("state", states);
            }
            let before = if newest_first { cursor.take().or_else(|| self.before.clone()) } else { self.before.clone() };
            route = route.with_some("before", before).with_some("after", cursor);
            let (page, next) = items_of(client.get(route, DEADLINE).await?);
            items.extend(page);
            cursor = next;
            if cursor.is_none() || (self.target.kind.has_pages() && items.len() >= self.limit) {
                break;
            }
        }
        if self.target.kind.has_pages() {
            items.truncate(self.limit);
        }
        Ok((items, cursor))
    }
}

impl Describe {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let Some(name) = one_name(self.target.name.as_deref(), self.name.as_deref())? else {
            let singular = self.target.kind.sheet().singular;
            return Err(Error::new(Code::Usage, format!("which {singular}?"))
                .hint(format!("`skillhook get {}` lists them", self.target.kind.sheet().plural)));
        };
        let found = one(&context.client()?, self.target.kind, name).await?;
        context.output.value(&found, |found| record::shown(&without_calls(found)));
        Ok(Exit::Done)
    }
}

/// Without the prepared requests to the provider, which only programs want to see.
fn without_calls(found: &Value) -> Value {
    let mut shown = found.clone();
    for item in shown["outbox"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        item.shift_remove("call");
    }
    shown
}

/// The items of a list and the cursor of its next page.
pub fn items_of(answer: Value) -> (Vec<Value>, Option<String>) {
    let next = answer.get("next").map(sheet::text).filter(|next| !next.is_empty());
    match answer {
        Value::Array(items) => (items, None),
        Value::Object(mut fields) => match fields.remove("items") {
            Some(Value::Array(items)) => (items, next),
            _ => (Vec::new(), None),
        },
        _ => (Vec::new(), None),
    }
}

fn one_name<'a>(in_target: Option<&'a str>, named: Option<&'a str>) -> Result<Option<&'a str>> {
    match (in_target, named) {
        (Some(_), Some(extra)) => {
            Err(Error::new(Code::Usage, format!("`{extra}` is one name too many")).hint("write KIND/NAME or KIND NAME"))
        }
        (name, None) | (None, name) => Ok(name),
    }
}

async fn one(client: &Client, kind: Kind, name: &str) -> Result<Value> {
    let sheet = kind.sheet();
    if kind.has_address() {
        match client.get(Route::api(&[sheet.plural, name]), DEADLINE).await {
            // Perhaps a slip: the list knows the name that was meant.
            Err(error) if error.code() == Code::NotFound && !kind.has_pages() => {}
            told => return told,
        }
    }
    let (items, _) = items_of(client.get(Route::api(&[sheet.plural]), DEADLINE).await?);
    let names: Vec<String> = items.iter().map(|item| sheet::text(sheet::find(item, sheet.name))).collect();
    match items.iter().zip(&names).find(|(_, known)| *known == name) {
        Some((item, _)) => Ok(item.clone()),
        None => {
            let nearest = did_you_mean(name, names.iter().map(String::as_str));
            let hint = match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("`skillhook get {}` lists them", sheet.plural),
            };
            Err(Error::new(Code::NotFound, format!("there is no {} `{name}`", sheet.singular)).hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_do_not_see_prepared_requests() {
        let task = json!({"id": "t", "outbox": [{"state": "sent", "call": {"url": "u"}}]});
        assert_eq!(without_calls(&task), json!({"id": "t", "outbox": [{"state": "sent"}]}));
        assert_eq!(without_calls(&json!({"id": "t"}))["id"], "t");
    }

    #[test]
    fn lists_come_with_or_without_an_envelope() {
        assert_eq!(items_of(json!({"items": [1], "next": null})), (vec![json!(1)], None));
        assert_eq!(items_of(json!({"items": [1], "next": "x"})), (vec![json!(1)], Some("x".into())));
        assert_eq!(items_of(json!([1, 2])).0.len(), 2);
    }
}
