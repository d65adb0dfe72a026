//! Who did what: changes, approvals, replays, suspensions, tokens. Kept apart from what merely happens, and longer.

use serde_json::Value;

use super::page;
use super::query::Query;
use super::state::ApiState;
use crate::error::Result;
use crate::ledger::DeedFilter;

pub async fn list(state: &ApiState, query: &Query) -> Result<Value> {
    let kinds = |text: &str| Ok::<_, String>(text.split(',').map(|kind| kind.trim().to_owned()).collect());
    let filter = DeedFilter {
        kinds: query.parsed("kind", kinds)?.unwrap_or_default(),
        actor: query.text("actor").map(str::to_owned),
        before: query.number("before")?,
        limit: query.limit()?,
    };
    let deeds = state.ledger.deeds(filter).await?;
    page(&deeds.items, deeds.next.map(|seq| seq.to_string()))
}
