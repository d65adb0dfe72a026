//! The handle's reads: each sees one instant of the file, off the reactor.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::rows::{Conversation, Delivery, Generation, Happening, LogLine, OutboxItem, RawRequest};
use super::store::codec::Row;
use super::store::kept::{BodyRow, CallRow, ConversationRow, LogRow, OpenRow, OutboxRow, SpecRow, TaskRow};
use super::store::tables::{DeadMark, Entry, OutboxOf, Reader, TaskOf};
use super::store::{Failure, damaged_file, unavailable};
use super::transition::{log_key, second_id};
use super::{DeliveryFilter, Ledger, TaskFilter};
use crate::error::{Code, Error, Result};
use crate::model::ids::{DeliveryId, OutboxId, TaskId, WebhookId};
use crate::model::provider::PreparedCall;
use crate::model::task::{Task, TaskState};

/// Most rows of one answer.
pub const LIST_MAX: usize = 1_000;
/// Most rows that one list looks at.
const SCANNED_MAX: usize = 200_000;

impl Ledger {
    pub async fn task(&self, task: TaskId) -> Result<Option<Task>> {
        self.read(move |reader| read_task(reader, task)).await
    }

    /// Newest first. A limit of 0 or above 1,000 means 1,000.
    pub async fn tasks(&self, filter: TaskFilter) -> Result<Vec<Task>> {
        self.read(move |reader| list_tasks(reader, &filter)).await
    }

    /// How the answer of a task reaches its source; `None` when it does not.
    pub async fn reply_of(&self, task: TaskId) -> Result<Option<PreparedCall>> {
        self.read(move |reader| Ok(reader.rows::<SpecRow>()?.get(task.as_bytes())?.and_then(|row| row.reply))).await
    }

    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>> {
        self.read(move |reader| reader.rows::<Delivery>()?.get(id.as_bytes())).await
    }

    pub async fn delivery_body(&self, id: DeliveryId) -> Result<Option<RawRequest>> {
        self.read(move |reader| Ok(reader.rows::<BodyRow>()?.get(id.as_bytes())?.map(|row| row.0))).await
    }

    /// Newest first. A limit of 0 or above 1,000 means 1,000.
    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<Delivery>> {
        self.read(move |reader| list_deliveries(reader, &filter)).await
    }

    /// The outbox items of one task or delivery.
    pub async fn outbox_of(&self, task: Option<TaskId>, delivery: Option<DeliveryId>) -> Result<Vec<OutboxItem>> {
        let owners: Vec<[u8; 16]> =
            task.map(|id| *id.as_bytes()).into_iter().chain(delivery.map(|id| *id.as_bytes())).collect();
        self.read(move |reader| list_outbox(reader, &owners)).await
    }

    /// Lines from number `from` on (from 0).
    pub async fn log(&self, task: TaskId, from: usize, limit: usize) -> Result<Vec<LogLine>> {
        self.read(move |reader| read_log(reader, task, from, limit)).await
    }

    pub async fn conversation(&self, id: &str) -> Result<Conversation> {
        let id = id.to_owned();
        self.read(move |reader| {
            let row = reader.rows::<ConversationRow>()?.get(id.as_bytes())?;
            Ok(row.map(|row| row.conversation).unwrap_or_default())
        })
        .await
    }

    /// Blocks for a read of the file.
    pub fn generations(&self) -> Result<BTreeMap<WebhookId, Generation>> {
        guarded(&|| {
            let reader = self.shared().store.begin_read()?;
            let mut generations = BTreeMap::new();
            for entry in reader.rows::<Generation>()?.all()? {
                let (key, row) = entry?;
                let webhook = std::str::from_utf8(&key).ok().and_then(|name| WebhookId::parse(name).ok());
                // A generation that counted down would be worse than none: a damaged row is an error.
                generations.extend(webhook.map(|webhook| row.map(|row| (webhook, row))).transpose()?);
            }
            Ok(generations)
        })
    }

    /// What happened after `since`, oldest first; waits up to `wait` when there is nothing yet.
    pub async fn happenings(&self, since: u64, limit: usize, wait: Duration) -> Result<Vec<Happening>> {
        let mut last_seq = self.shared().last_seq.subscribe();
        let newer = async { last_seq.wait_for(|last| *last > since).await.is_ok() };
        match tokio::time::timeout(wait, newer).await {
            Err(_) => return Ok(Vec::new()),
            Ok(false) => return Err(unavailable("the writer is gone")),
            Ok(true) => {}
        }
        self.read(move |reader| {
            let rows = reader.rows::<Happening>()?;
            let from = since.to_be_bytes();
            collect(rows.range(Bound::Excluded(&from), Bound::Unbounded)?, bounded(limit), |_, row| Ok(Some(row)))
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        look: impl Fn(&Reader) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(self.shared());
        let _turn = self.shared().reads.acquire().await.map_err(unavailable)?;
        let reading = tokio::task::spawn_blocking(move || guarded(&|| look(&shared.store.begin_read()?)));
        reading.await.map_err(unavailable)?
    }
}

/// redb may panic on a file that was damaged behind its back.
pub fn guarded<T>(look: &dyn Fn() -> Result<T, Failure>) -> Result<T> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(look)) {
        Ok(found) => found.map_err(Failure::into_error),
        Err(_) => Err(damaged_file("reading it went wrong")),
    }
}

fn read_task(reader: &Reader, id: TaskId) -> Result<Option<Task>, Failure> {
    let Some(row) = reader.rows::<TaskRow>()?.get(id.as_bytes())? else { return Ok(None) };
    match reader.rows::<SpecRow>()?.get(id.as_bytes())? {
        Some(spec) => Ok(Some(row.with(spec.spec))),
        None => Err(Error::new(Code::LedgerDamaged, format!("a row of task `{id}` is missing in the ledger")).into()),
    }
}

fn list_tasks(reader: &Reader, filter: &TaskFilter) -> Result<Vec<Task>, Failure> {
    let limit = bounded(filter.limit);
    let before = filter.before.map(|id| *id.as_bytes());
    let to = before.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
    let wanted = |id: TaskId| -> Result<Option<Task>, Failure> {
        let rows = reader.rows::<TaskRow>()?;
        match rows.get(id.as_bytes())? {
            Some(row) if fits(filter, &row) => read_task(reader, id),
            Some(_) | None => Ok(None),
        }
    };
    if let Some(delivery) = filter.delivery {
        let keys = reader.rows::<TaskOf>()?.keys_under(delivery.as_bytes(), SCANNED_MAX)?;
        let ids = keys.iter().filter_map(|key| second_id(key)).map(TaskId).rev();
        return ids
            .filter(|id| filter.before.is_none_or(|before| *id < before))
            .filter_map(|id| skip_damaged(wanted(id)).transpose())
            .take(limit)
            .collect();
    }
    let id_of = |key: &[u8]| Uuid::from_slice(key).ok().map(TaskId);
    let by_key = |key: &[u8]| id_of(key).map_or(Ok(None), wanted);
    if !filter.states.is_empty() && filter.states.iter().all(|state| !state.is_terminal()) {
        let rows = reader.rows::<OpenRow>()?;
        collect(rows.range(Bound::Unbounded, to)?.rev(), limit, |key, _| by_key(key))
    } else if filter.states == [TaskState::Dead] {
        let rows = reader.rows::<DeadMark>()?;
        collect(rows.range(Bound::Unbounded, to)?.rev(), limit, |key, _| by_key(key))
    } else {
        let rows = reader.rows::<TaskRow>()?;
        collect(rows.range(Bound::Unbounded, to)?.rev(), limit, |key, row| match id_of(key) {
            Some(id) if fits(filter, &row) => read_task(reader, id),
            Some(_) | None => Ok(None),
        })
    }
}

fn fits(filter: &TaskFilter, row: &TaskRow) -> bool {
    (filter.states.is_empty() || filter.states.contains(&row.state))
        && filter.webhook.as_ref().is_none_or(|webhook| *webhook == row.webhook)
}

fn list_deliveries(reader: &Reader, filter: &DeliveryFilter) -> Result<Vec<Delivery>, Failure> {
    let rows = reader.rows::<Delivery>()?;
    let before = filter.before.map(|id| *id.as_bytes());
    let to = before.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
    collect(rows.range(Bound::Unbounded, to)?.rev(), bounded(filter.limit), |_, delivery| {
        let wanted = filter.webhook.as_ref().is_none_or(|webhook| *webhook == delivery.webhook);
        Ok(wanted.then_some(delivery))
    })
}

fn list_outbox(reader: &Reader, owners: &[[u8; 16]]) -> Result<Vec<OutboxItem>, Failure> {
    let mut items = BTreeMap::new();
    for owner in owners {
        for key in reader.rows::<OutboxOf>()?.keys_under(owner, LIST_MAX)? {
            let Some(id) = second_id(&key).map(OutboxId) else { continue };
            let row = reader.rows::<OutboxRow>()?.get(id.as_bytes())?;
            let call = reader.rows::<CallRow>()?.get(id.as_bytes())?;
            items.extend(row.zip(call).map(|(row, call)| (id, row.with(call))));
        }
    }
    let mut items: Vec<OutboxItem> = items.into_values().collect();
    items.sort_by_key(|item| (item.created_at, item.part, item.id));
    Ok(items)
}

fn read_log(reader: &Reader, task: TaskId, from: usize, limit: usize) -> Result<Vec<LogLine>, Failure> {
    let rows = reader.rows::<LogRow>()?;
    let from = u32::try_from(from).unwrap_or(u32::MAX);
    let (begin, here, end) = (log_key(task, 0), log_key(task, from), log_key(task, u32::MAX));
    // The row that holds line `from` begins at it or before it.
    let first = rows.range(Bound::Included(&begin), Bound::Included(&here))?.next_back().transpose()?;
    let first = first.map_or(here, |(key, _)| key);
    let mut lines = Vec::new();
    for entry in rows.range(Bound::Included(&first), Bound::Included(&end))? {
        let (key, row) = entry?;
        let number = key.get(16..).and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?))).unwrap_or(0);
        let skipped = from.saturating_sub(number) as usize;
        lines.extend(row?.lines.into_iter().skip(skipped).take(limit - lines.len()));
        if lines.len() >= limit {
            break;
        }
    }
    Ok(lines)
}

/// Rows that `pick` wants, up to `limit`. A damaged row is left out and said; the list goes on without it.
fn collect<R: Row, T>(
    rows: impl Iterator<Item = Entry<R>>,
    limit: usize,
    pick: impl Fn(&[u8], R) -> Result<Option<T>, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    for entry in rows.take(SCANNED_MAX) {
        if found.len() >= limit {
            break;
        }
        let (key, row) = entry?;
        found.extend(skip_damaged(row.map_err(Failure::from).and_then(|row| pick(&key, row)))?);
    }
    Ok(found)
}

fn skip_damaged<T>(row: Result<Option<T>, Failure>) -> Result<Option<T>, Failure> {
    match row {
        Err(Failure::Refused(error)) => {
            tracing::error!(error = %error.internal(), "a row is left out of a list");
            Ok(None)
        }
        other => other,
    }
}

fn bounded(limit: usize) -> usize {
    if limit == 0 { LIST_MAX } else { limit.min(LIST_MAX) }
}
