//! Figures for people who look: the last day by spans of minutes, what runs cost, and the routing state as a picture.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::query::Query;
use super::state::{ApiState, IndexView, WebhookView};
use super::table::Operation;
use super::{page, shown};
use crate::error::{Code, Error, Result};
use crate::ledger::spending::Used;
use crate::model::ids::SkillName;
use crate::model::spec::{CommandSpec, WebhookSpec};
use crate::model::task::DailyBudget;

/// Hours of [`recent`] when nothing else is asked for.
const HOURS_DEFAULT: u64 = 1;
/// Spans of one answer, about.
const SPANS: u64 = 60;
/// Days of [`spending`] when nothing else is asked for.
const DAYS_DEFAULT: u64 = 14;
/// Webhooks of one picture when nothing else is asked for.
const PICTURE_DEFAULT: u64 = 30;

/// One of the operations on figures.
pub async fn answer(state: &ApiState, operation: Operation, query: &Query) -> Result<Value> {
    match operation {
        Operation::Spending => spending(state, query).await,
        Operation::Budgets => budgets(state).await,
        Operation::Picture => picture(state, query),
        _ => recent(state, query),
    }
}

/// Deliveries by outcome, answer times and queue age of the last hours.
fn recent(state: &ApiState, query: &Query) -> Result<Value> {
    let hours = query.number("hours")?.unwrap_or(HOURS_DEFAULT);
    let minutes = hours.saturating_mul(60);
    let minutes_each = minutes.div_ceil(SPANS).max(1);
    let now = state.clock.now();
    let spans = state.metrics.recent().spans(minutes, minutes_each);
    let items: Result<Vec<Value>> = spans
        .into_iter()
        .map(|dated| {
            let mut item = shown(&dated.span)?;
            if let Some(fields) = item.as_object_mut() {
                fields.insert("at".to_owned(), json!(before(now, dated.begun_before)));
            }
            Ok(item)
        })
        .collect();
    Ok(json!({ "items": items?, "span_seconds": minutes_each * 60, "started_at": state.started_at }))
}

fn before(now: Timestamp, long: Duration) -> Timestamp {
    let long = SignedDuration::try_from(long).unwrap_or(SignedDuration::MAX);
    now.checked_sub(long).unwrap_or(Timestamp::MIN)
}

/// What runs cost, by day and webhook.
async fn spending(state: &ApiState, query: &Query) -> Result<Value> {
    let days = query.number("days")?.unwrap_or(DAYS_DEFAULT);
    let long = Duration::from_secs(days.saturating_sub(1).saturating_mul(24 * 60 * 60));
    let first = before(state.clock.now(), long);
    // From midnight on, so that the first day is a whole one.
    let second = first.as_second();
    let midnight = second - second.rem_euclid(24 * 60 * 60);
    let since = Timestamp::from_second(midnight)
        .map_err(|error| Error::new(Code::Usage, "`days` reaches too far back").detail(error))?;
    page(&state.ledger.spending(since).await?, None)
}

/// What was used today of the budgets that there are, the most used first; webhooks without a budget stand there once
/// they have used something.
async fn budgets(state: &ApiState) -> Result<Value> {
    let (index, now) = (super::index::index(state)?, state.clock.now());
    let (used, depth) = (state.ledger.used(now).await?, state.ledger.depth().await?);
    let nothing = Used::default();
    let mut items: Vec<(&WebhookSpec, &Used)> = (index.webhooks.iter())
        .map(|webhook| (&webhook.spec, used.webhooks.get(&webhook.spec.id)))
        .filter(|(spec, used)| used.is_some() || !spec.budget.is_unlimited())
        .map(|(spec, used)| (spec, used.unwrap_or(&nothing)))
        .collect();
    items.sort_by(|(one, a), (other, b)| {
        b.usd.total_cmp(&a.usd).then(b.runs.cmp(&a.runs)).then_with(|| one.id.cmp(&other.id))
    });
    let items: Vec<Value> = (items.into_iter())
        .map(|(spec, used)| {
            let mut item = budget(used, &spec.budget);
            item["webhook"] = json!(spec.id);
            item
        })
        .collect();
    let second = now.as_second();
    let tomorrow = second - second.rem_euclid(24 * 60 * 60) + 24 * 60 * 60;
    Ok(json!({
        "all": budget(&used.all, &state.daily),
        "items": items,
        "next": null,
        "paused_until": depth.paused_until,
        "resets_at": Timestamp::from_second(tomorrow).ok(),
    }))
}

fn budget(used: &Used, daily: &DailyBudget) -> Value {
    json!({ "runs": used.runs, "usd": used.usd, "runs_max": daily.runs, "usd_max": daily.usd })
}

/// Provider, webhook, commands and agents of the webhooks whose text has `search` in it, with where each comes from.
fn picture(state: &ApiState, query: &Query) -> Result<Value> {
    let index = super::index::index(state)?;
    let search = query.text("search").unwrap_or_default().to_lowercase();
    let limit = query.number("limit")?.unwrap_or(PICTURE_DEFAULT);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut matching = index.webhooks.iter().filter(|webhook| has(webhook, &search));
    let items: Vec<Value> = matching.by_ref().take(limit).map(|webhook| drawn(&index, webhook)).collect();
    Ok(json!({ "items": items, "left_out": matching.count(), "total": index.webhooks.len() }))
}

fn has(webhook: &WebhookView, search: &str) -> bool {
    let spec = &webhook.spec;
    let own = [spec.id.as_str(), spec.provider.as_str(), spec.name.as_str(), spec.target_agent.as_str()];
    let of_commands = spec.commands.iter().flat_map(|command| [command.name.as_str(), command.source.as_str()]);
    search.is_empty() || own.into_iter().chain(of_commands).any(|text| text.to_lowercase().contains(search))
}

fn drawn(index: &IndexView, webhook: &WebhookView) -> Value {
    let spec = &webhook.spec;
    let commands: Vec<Value> = spec.commands.iter().map(|command| command_of(index, command)).collect();
    json!({
        "id": spec.id,
        "name": spec.name,
        "provider": spec.provider,
        "endpoint": spec.endpoint,
        "enabled": spec.enabled,
        "is_builtin": spec.builtin,
        "target_agent": spec.target_agent,
        "conditions": webhook.conditions,
        "commands": commands,
    })
}

fn command_of(index: &IndexView, command: &CommandSpec) -> Value {
    json!({
        "name": command.name,
        "agent": command.target_agent,
        "action": command.action,
        "source": command.source,
        "path": path_of(index, &command.source),
    })
}

/// `None`: the skill comes with the program.
fn path_of<'a>(index: &'a IndexView, skill: &SkillName) -> Option<&'a str> {
    let at = index.skills.binary_search_by(|view| view.name.cmp(skill)).ok();
    let found = at.map(|at| &index.skills[at]).or_else(|| index.skills.iter().find(|view| view.name == *skill));
    found.map(|view| view.path.as_str())
}
