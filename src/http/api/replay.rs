//! Deliveries sent again, one or many: counted and tried first, and done only when that is said.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::not_found;
use super::request::Asked;
use super::state::ApiState;
use super::table::Operation;
use crate::error::{Code, Error, Result};
use crate::http::intake::Again;
use crate::ledger::DeliveryFilter;
use crate::ledger::rows::{Deed, Delivery, Outcome};
use crate::model::ids::{DeliveryId, WebhookId};
use crate::model::intake::Plan;
use crate::model::provider::sample::{self, Sample};
use crate::seam::fresh_id;

/// Most deliveries of one replay.
const REPLAYED_MAX: usize = 500;
/// Most rows that are looked through for them.
const LOOKED_THROUGH_MAX: usize = 20_000;

/// Which deliveries are sent again.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replay {
    /// These, and no others.
    #[schemars(length(max = 500))]
    deliveries: Vec<String>,
    /// Those of this webhook.
    webhook: Option<String>,
    /// Those that came at this time or later.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    since: Option<Timestamp>,
    /// Those that came before this time.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    until: Option<Timestamp>,
    /// Those that nothing came of, or those that something came of.
    outcome: Option<ReplayedOutcome>,
    /// The newest so many (else 100).
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
    /// `false` does it; else it is only said what would be done.
    dry_run: Option<bool>,
}

/// What came of a delivery.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayedOutcome {
    Accepted,
    Ignored,
}

/// A delivery that never came, to see what would be done about it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Trial {
    /// A sample of the provider, for example `github.issues.opened`; its first one if not given.
    sample: Option<String>,
    /// In place of the sample's payload.
    payload: Option<serde_json::Map<String, Value>>,
}

/// One of the operations on deliveries that are sent again, or for the first time from here.
pub async fn answer(state: &ApiState, operation: Operation, id: &str, asked: &Asked<'_>) -> Result<Value> {
    match operation {
        Operation::Replay => replay(state, asked).await,
        Operation::ReplayOne => one(state, id, asked).await,
        Operation::DeliverSample => deliver(state, id, asked).await,
        _ => test(state, id, asked).await,
    }
}

async fn replay(state: &ApiState, asked: &Asked<'_>) -> Result<Value> {
    let wanted: Replay = asked.json()?;
    let deliveries = chosen(state, &wanted).await?;
    let dry_run = wanted.dry_run.unwrap_or(true);
    let mut items = Vec::with_capacity(deliveries.len());
    for delivery in &deliveries {
        items.push(match dry_run {
            true => tried(state, delivery).await,
            false => done(state, delivery, asked).await,
        });
    }
    Ok(json!({ "count": deliveries.len(), "dry_run": dry_run, "items": items }))
}

/// One delivery, tried unless told otherwise.
async fn one(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Value> {
    let parsed = DeliveryId::parse(id).map_err(|_| not_found("delivery", id))?;
    let delivery = state.ledger.delivery(parsed).await?.ok_or_else(|| not_found("delivery", id))?;
    let dry_run = asked.query.text("dry_run").is_none() || asked.query.flag("dry_run")?;
    let item = if dry_run { tried(state, &delivery).await } else { done(state, &delivery, asked).await };
    Ok(json!({ "count": 1, "dry_run": dry_run, "items": [item] }))
}

async fn chosen(state: &ApiState, wanted: &Replay) -> Result<Vec<Delivery>> {
    let limit = wanted.limit.unwrap_or(100);
    if !(1..=REPLAYED_MAX).contains(&limit) || wanted.deliveries.len() > REPLAYED_MAX {
        return Err(Error::new(Code::Usage, format!("at most {REPLAYED_MAX} deliveries are sent again at once")));
    }
    if !wanted.deliveries.is_empty() {
        let mut chosen = Vec::with_capacity(wanted.deliveries.len());
        for id in &wanted.deliveries {
            let parsed = DeliveryId::parse(id).map_err(|_| not_found("delivery", id))?;
            chosen.push(state.ledger.delivery(parsed).await?.ok_or_else(|| not_found("delivery", id))?);
        }
        return Ok(chosen);
    }
    let webhook = wanted.webhook.as_deref().map(WebhookId::parse).transpose();
    let webhook = webhook.map_err(|message| Error::new(Code::Usage, message))?;
    if webhook.is_none() && wanted.since.is_none() {
        return Err(Error::new(Code::Usage, "which deliveries?").hint("name `deliveries`, a `webhook`, or `since`"));
    }
    let mut chosen: Vec<Delivery> = Vec::new();
    let (mut before, mut looked_through) = (None, 0);
    loop {
        let filter = DeliveryFilter { webhook: webhook.clone(), before, limit: 200, ..DeliveryFilter::default() };
        let page = state.ledger.deliveries(filter).await?;
        looked_through += page.len();
        before = page.last().map(|delivery| delivery.id);
        let past = page.iter().any(|delivery| wanted.since.is_some_and(|since| delivery.received_at < since));
        let is_last = page.len() < 200 || past || looked_through >= LOOKED_THROUGH_MAX;
        chosen.extend(page.into_iter().filter(|delivery| fits(wanted, delivery)));
        if is_last || chosen.len() >= limit {
            chosen.truncate(limit);
            // As they came.
            chosen.reverse();
            return Ok(chosen);
        }
    }
}

fn fits(wanted: &Replay, delivery: &Delivery) -> bool {
    let outcome = match wanted.outcome {
        Some(ReplayedOutcome::Accepted) => delivery.outcome == Outcome::Accepted,
        Some(ReplayedOutcome::Ignored) => delivery.outcome == Outcome::Ignored,
        None => true,
    };
    outcome
        && wanted.since.is_none_or(|since| delivery.received_at >= since)
        && wanted.until.is_none_or(|until| delivery.received_at < until)
}

async fn tried(state: &ApiState, delivery: &Delivery) -> Value {
    let plans = async {
        let request = request(state, delivery).await?;
        state.intake()?.reconsider(delivery, request).await
    };
    match plans.await {
        Ok(plans) => {
            let would: Vec<Value> = plans.iter().map(planned).collect();
            json!({ "delivery": delivery.id, "webhook": delivery.webhook, "would": would })
        }
        Err(error) => refused(delivery, &error),
    }
}

async fn done(state: &ApiState, delivery: &Delivery, asked: &Asked<'_>) -> Value {
    let again = async {
        let request = request(state, delivery).await?;
        let again = state.intake()?.replay(delivery, request).await?;
        for one in &again {
            record(state, delivery, one, asked).await?;
        }
        Ok::<_, Error>(again)
    };
    match again.await {
        Ok(again) => {
            let again: Vec<Value> =
                again.iter().map(|one| json!({ "delivery": one.delivery, "tasks": one.tasks })).collect();
            json!({ "delivery": delivery.id, "webhook": delivery.webhook, "again": again })
        }
        Err(error) => refused(delivery, &error),
    }
}

async fn record(state: &ApiState, old: &Delivery, new: &Again, asked: &Asked<'_>) -> Result<()> {
    let deed = Deed {
        kind: "delivery.replayed".to_owned(),
        actor: asked.caller.actor(),
        webhook: Some(old.webhook.clone()),
        delivery: Some(new.delivery),
        task: new.tasks.first().copied(),
        message: format!("`{}` is sent again", old.id),
    };
    state.ledger.record(deed).await
}

async fn request(state: &ApiState, delivery: &Delivery) -> Result<crate::ledger::rows::RawRequest> {
    let request = state.ledger.delivery_body(delivery.id).await?;
    request.ok_or_else(|| Error::new(Code::NotFound, "the body of the delivery is not kept any more"))
}

fn refused(delivery: &Delivery, error: &Error) -> Value {
    let error = json!({ "code": error.code(), "message": error.message(), "hint": error.hint_text() });
    json!({ "delivery": delivery.id, "webhook": delivery.webhook, "error": error })
}

/// What would be done about one event.
fn planned(plan: &Plan) -> Value {
    let tasks: Vec<Value> = (plan.tasks.iter())
        .map(|task| {
            let spec = &task.spec;
            json!({ "command": spec.command, "skill": spec.skill, "agent": spec.agent, "prompt": spec.prompt })
        })
        .collect();
    let decision = &plan.decision;
    json!({
        "event": plan.event.name,
        "actor": plan.event.actor,
        "selected": decision.selected,
        "rules": decision.rules,
        "ignored": decision.ignored,
        "tasks": tasks,
    })
}

/// What a webhook would do about a sample. Nothing runs.
async fn test(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Value> {
    let (webhook, name, sample) = sample_for(state, id, asked)?;
    let plans = state.intake()?.consider(&webhook, &sample).await?;
    let would: Vec<Value> = plans.iter().map(planned).collect();
    Ok(json!({ "webhook": webhook, "sample": name, "payload": sample.body, "would": would }))
}

/// Sends a sample to a webhook for real, signed with its own secret. Whoever may set that secret may do this, nobody
/// else: a delivery speaks for whomever it names.
async fn deliver(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Value> {
    let (webhook, name, mut sample) = sample_for(state, id, asked)?;
    // A body that was seen before is a duplicate, and two trials are none of each other.
    if let Value::Object(fields) = &mut sample.body {
        fields.insert("skillhook_trial".to_owned(), json!(fresh_id()));
    }
    let sent = state.intake()?.send(&webhook, &sample).await?;
    for one in &sent {
        let deed = Deed {
            kind: "delivery.tested".to_owned(),
            actor: asked.caller.actor(),
            webhook: Some(webhook.clone()),
            delivery: Some(one.delivery),
            task: one.tasks.first().copied(),
            message: format!("the sample `{name}` is sent"),
        };
        state.ledger.record(deed).await?;
    }
    let sent: Vec<Value> = sent.iter().map(|one| json!({ "delivery": one.delivery, "tasks": one.tasks })).collect();
    Ok(json!({ "webhook": webhook, "sample": name, "sent": sent }))
}

/// The sample that is asked for, and its name.
fn sample_for(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<(WebhookId, String, Sample)> {
    let trial: Trial = if asked.body.is_empty() { Trial::default() } else { asked.json()? };
    let webhook = WebhookId::parse(id).map_err(|_| not_found("webhook", id))?;
    let index = super::index::index(state)?;
    let known = index.webhooks.iter().find(|known| known.spec.id == webhook);
    let provider = &known.ok_or_else(|| not_found("webhook", id))?.spec.provider;
    let mut sample = match &trial.sample {
        Some(name) => sample::find(name)?,
        None => {
            let first = sample::all().into_iter().find(|sample| sample.provider == provider.as_str());
            first.ok_or_else(|| {
                Error::new(Code::NotFound, format!("there is no sample of `{provider}`")).hint("send a `payload`")
            })?
        }
    };
    if sample.provider != provider.as_str() {
        return Err(Error::new(
            Code::Usage,
            format!("the sample is one of `{}`, not of `{provider}`", sample.provider),
        ));
    }
    let name = format!("{}.{}", sample.provider, sample.event);
    if let Some(payload) = trial.payload {
        sample.body = Value::Object(payload);
    }
    Ok((webhook, name, sample))
}
