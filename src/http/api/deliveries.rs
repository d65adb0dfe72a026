//! Deliveries, and why each command did or did not match.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::listing::Listing;
use super::query::Query;
use super::state::ApiState;
use super::table::LIMIT_MAX;
use super::{not_found, page, shown};
use crate::error::Result;
use crate::ledger::rows::{DecidedItem, Delivery, Outcome};
use crate::ledger::{DeliveryFilter, Page};
use crate::model::ids::{DeliveryId, WebhookId};

pub async fn list(state: &ApiState, query: &Query) -> Result<Value> {
    let filter = DeliveryFilter {
        webhook: query.parsed("webhook", WebhookId::parse)?,
        before: query.parsed("before", DeliveryId::parse)?,
        after: query.parsed("after", DeliveryId::parse)?,
        oldest_first: query.text("sort") == Some("received_at"),
        limit: query.limit()?,
    };
    let Page { items, next } = state.ledger.deliveries_page(filter).await?;
    page(&items.iter().map(summary).collect::<Vec<_>>(), next.map(|id| id.to_string()))
}

fn summary(delivery: &Delivery) -> Value {
    let events: Vec<&str> = delivery.items.iter().map(|item| item.event.name.as_str()).collect();
    let actor = delivery.items.first().and_then(|item| item.event.actor.as_ref()).map(|actor| &actor.id);
    json!({
        "id": delivery.id,
        "webhook": delivery.webhook,
        "provider": delivery.provider,
        "generation": delivery.generation,
        "received_at": delivery.received_at,
        "outcome": delivery.outcome,
        "events": events,
        "actor": actor,
        "tasks": delivery.tasks,
    })
}

/// Of the newest deliveries, how many came to each webhook and what became of them.
pub async fn stats(state: &ApiState, query: &Query) -> Result<Value> {
    let limit = query.count_or("newest", LIMIT_MAX)?;
    let deliveries = state.ledger.deliveries(DeliveryFilter { limit, ..DeliveryFilter::default() }).await?;
    let mut counted: BTreeMap<WebhookId, (u64, u64, u64, jiff::Timestamp)> = BTreeMap::new();
    for delivery in &deliveries {
        let entry = counted.entry(delivery.webhook.clone()).or_insert((0, 0, 0, delivery.received_at));
        entry.0 += 1;
        entry.1 += u64::from(delivery.outcome == Outcome::Accepted);
        entry.2 += delivery.tasks.len() as u64;
        entry.3 = entry.3.max(delivery.received_at);
    }
    let counted = counted.into_iter().map(|(webhook, (deliveries, accepted, tasks, last))| {
        json!({
            "webhook": webhook,
            "deliveries": deliveries,
            "accepted": accepted,
            "ignored": deliveries - accepted,
            "tasks": tasks,
            "last_received_at": last,
        })
    });
    Listing::by("webhook").page(query, counted.collect())
}

pub async fn one(state: &ApiState, id: &str, query: &Query) -> Result<Value> {
    let delivery = find(state, id).await?;
    let request = state.ledger.delivery_body(delivery.id).await?;
    let outbox = state.ledger.outbox_of(None, Some(delivery.id)).await?;
    let mut value = shown(&delivery)?;
    let Some(fields) = value.as_object_mut() else { return Ok(value) };
    fields.insert("outbox".to_owned(), shown(&outbox)?);
    if query.flag("body")?
        && let Some(request) = &request
    {
        match std::str::from_utf8(&request.body) {
            Ok(text) => fields.insert("body".to_owned(), json!(text)),
            Err(_) => fields.insert("body_base64".to_owned(), json!(BASE64.encode(&request.body))),
        };
    }
    fields.insert("request".to_owned(), shown(&request)?);
    Ok(value)
}

pub async fn explain(state: &ApiState, id: &str) -> Result<Value> {
    let delivery = find(state, id).await?;
    let items: Vec<Value> = delivery.items.iter().map(explained).collect();
    Ok(json!({
        "delivery": delivery.id,
        "webhook": delivery.webhook,
        "generation": delivery.generation,
        "revision": delivery.revision,
        "index_digest": delivery.index_digest,
        "outcome": delivery.outcome,
        "items": items,
        "tasks": delivery.tasks,
    }))
}

fn explained(item: &DecidedItem) -> Value {
    let (event, decision) = (&item.event, &item.decision);
    json!({
        "event": event.name,
        "aliases": event.aliases,
        "actor": event.actor,
        "resource": event.resource,
        "selected": decision.selected,
        "rules": decision.rules,
        "ignored": decision.ignored,
    })
}

async fn find(state: &ApiState, id: &str) -> Result<Delivery> {
    let parsed = DeliveryId::parse(id).map_err(|_| not_found("delivery", id))?;
    state.ledger.delivery(parsed).await?.ok_or_else(|| not_found("delivery", id))
}
