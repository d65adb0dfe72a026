//! What runs cost, by day and webhook: counted from the tasks themselves, so that it survives everything they survive.

use std::collections::BTreeMap;
use std::ops::Bound;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::Ledger;
use super::reads::skip_damaged;
use super::store::kept::{LiveRow, SpendRow, TaskRow};
use super::store::tables::Entry;
use super::store::{Failure, codec::Row};
use super::transition::{ALL_WEBHOOKS, spend_key};
use crate::error::Result;
use crate::model::ids::WebhookId;

/// Most tasks that are looked at, the newest ones.
const SCANNED_MAX: usize = 200_000;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The tasks of one webhook that came into being on one day (UTC).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spent {
    pub day: Timestamp,
    pub webhook: WebhookId,
    pub tasks: u64,
    pub cost_usd: f64,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// What budgets of a day count: runs that have begun, and what ended runs cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    pub runs: u32,
    pub usd: f64,
}

/// What was used on one day (UTC).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsedOfDay {
    pub all: Used,
    pub webhooks: BTreeMap<WebhookId, Used>,
}

type Sums = BTreeMap<(i64, WebhookId), Spent>;

impl Ledger {
    /// By day, then by webhook; only tasks that came into being at `since` or later.
    pub async fn spending(&self, since: Timestamp) -> Result<Vec<Spent>> {
        self.read(move |reader| {
            let from = first_key(since);
            let mut sums = Sums::new();
            let (from, to) = (Bound::Included(from.as_slice()), Bound::Unbounded);
            add(&mut sums, reader.rows::<LiveRow>()?.range(from, to)?.rev(), |live| live.task)?;
            add(&mut sums, reader.rows::<TaskRow>()?.range(from, to)?.rev(), |task| task)?;
            Ok(sums.into_values().collect())
        })
        .await
    }
}

impl Ledger {
    /// What budgets have counted on the day of `now`.
    pub async fn used(&self, now: Timestamp) -> Result<UsedOfDay> {
        self.read(move |reader| {
            let day = spend_key("", now);
            let mut used = UsedOfDay::default();
            for entry in reader.rows::<SpendRow>()?.range(Bound::Included(day.as_slice()), Bound::Unbounded)? {
                let (key, row) = entry?;
                let Some(name) = key.strip_prefix(day.as_slice()) else { break };
                // As for the budget itself, a damaged row counts as nothing used.
                let Some(row) = skip_damaged(row.map(Some).map_err(Failure::from))? else { continue };
                let so_far = Used { runs: row.runs, usd: row.usd };
                if name == ALL_WEBHOOKS.as_bytes() {
                    used.all = so_far;
                } else if let Some(webhook) = std::str::from_utf8(name).ok().and_then(|id| WebhookId::parse(id).ok()) {
                    used.webhooks.insert(webhook, so_far);
                }
            }
            Ok(used)
        })
        .await
    }
}

/// Keys begin with the milliseconds since 1970, as version 7 UUIDs do (RFC 9562, section 5.7).
fn first_key(since: Timestamp) -> [u8; 16] {
    let milliseconds = u128::try_from(since.as_millisecond()).unwrap_or(0);
    (milliseconds << 80).to_be_bytes()
}

fn add<R: Row>(
    sums: &mut Sums,
    rows: impl Iterator<Item = Entry<R>>,
    task_row: impl Fn(R) -> TaskRow,
) -> Result<(), Failure> {
    for entry in rows.take(SCANNED_MAX) {
        let (key, row) = entry?;
        let Some(row) = skip_damaged(row.map(Some).map_err(Failure::from))?.map(&task_row) else { continue };
        let Some(day) = day_of(&key) else { continue };
        let sum = sums.entry((day.as_second(), row.webhook.clone())).or_insert_with(|| Spent {
            day,
            webhook: row.webhook.clone(),
            tasks: 0,
            cost_usd: 0.0,
            input_tokens: 0,
            output_tokens: 0,
        });
        sum.tasks += 1;
        if let Some(result) = &row.result {
            sum.cost_usd += if result.cost_usd.is_finite() { result.cost_usd } else { 0.0 };
            sum.input_tokens = sum.input_tokens.saturating_add(result.input_tokens);
            sum.output_tokens = sum.output_tokens.saturating_add(result.output_tokens);
        }
    }
    Ok(())
}

fn day_of(key: &[u8]) -> Option<Timestamp> {
    let milliseconds = Uuid::from_slice(key).ok()?.as_u128() >> 80;
    let seconds = i64::try_from(milliseconds / 1000).ok()?;
    Timestamp::from_second(seconds - seconds.rem_euclid(DAY_SECONDS)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_and_keys_sort_by_time() {
        let noon: Timestamp = "2026-03-04T12:30:00Z".parse().unwrap();
        let midnight: Timestamp = "2026-03-04T00:00:00Z".parse().unwrap();
        assert_eq!(day_of(&first_key(noon)), Some(midnight));
        assert!(first_key(midnight) < first_key(noon));
        assert_eq!(day_of(b"short"), None);
    }
}
