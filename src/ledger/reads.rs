//! The handle's reads: each sees one instant of the file, off the reactor.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::rows::{
    Conversation, Delivery, Generation, Happening, KeptAnswer, LogLine, OutboxItem, RawRequest, Suspension, Token,
};
use super::store::codec::Row;
use super::store::kept::{
    BodyRow, CallRow, ConversationRow, HappeningRow, LiveRow, LogRow, OutboxRow, PendingRow, SpecRow, TaskRow,
    TranscriptRow,
};
use super::store::tables::{DeadMark, Entry, Reader, Reading, Rows, TaskOf, join};
use super::store::{Failure, damaged_file, unavailable};
use super::transition::{log_key, second_id};
use super::{DeedFilter, DeliveryFilter, Ledger, TaskFilter};
use crate::error::{Code, Error, Result};
use crate::model::digest::Digest;
use crate::model::ids::{DeliveryId, OutboxId, TaskId, WebhookId};
use crate::model::provider::PreparedCall;
use crate::model::task::{Task, TaskState};

/// Most rows of one answer.
pub const LIST_MAX: usize = 1_000;
/// Most rows that one list looks at.
const SCANNED_MAX: usize = if cfg!(test) { 500 } else { 200_000 };

/// Some of a list, and the last item that was looked at, if there may be more behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T, I> {
    pub items: Vec<T>,
    pub next: Option<I>,
}

impl Ledger {
    pub async fn task(&self, task: TaskId) -> Result<Option<Task>> {
        self.read(move |reader| read_task(reader, task)).await
    }

    /// Newest first. A limit of 0 or above 1,000 means 1,000.
    pub async fn tasks(&self, filter: TaskFilter) -> Result<Vec<Task>> {
        self.tasks_page(filter).await.map(|page| page.items)
    }

    /// As [`Ledger::tasks`], with where the rest begins.
    pub async fn tasks_page(&self, filter: TaskFilter) -> Result<Page<Task, TaskId>> {
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
        self.deliveries_page(filter).await.map(|page| page.items)
    }

    /// As [`Ledger::deliveries`], with where the rest begins.
    pub async fn deliveries_page(&self, filter: DeliveryFilter) -> Result<Page<Delivery, DeliveryId>> {
        self.read(move |reader| list_deliveries(reader, &filter)).await
    }

    /// The outbox items of one task or delivery.
    pub async fn outbox_of(&self, task: Option<TaskId>, delivery: Option<DeliveryId>) -> Result<Vec<OutboxItem>> {
        self.read(move |reader| list_outbox(reader, task, delivery)).await
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

    /// What a person holds back, and since when; an empty name is the reconciler.
    pub async fn suspensions(&self) -> Result<BTreeMap<String, Timestamp>> {
        self.read(|reader| {
            let mut suspended = BTreeMap::new();
            for entry in reader.rows::<Suspension>()?.all()? {
                let (key, row) = entry?;
                let since = row.map_or(Timestamp::UNIX_EPOCH, |row| row.since);
                suspended.insert(String::from_utf8_lossy(&key).into_owned(), since);
            }
            Ok(suspended)
        })
        .await
    }

    /// The agent program's record of a session, where one is kept.
    pub async fn transcript(&self, conversation: &str, session_id: &str) -> Result<Option<Vec<u8>>> {
        let (id, session_id) = (conversation.to_owned(), session_id.to_owned());
        self.read(move |reader| {
            let row = reader.rows::<TranscriptRow>()?.get(id.as_bytes())?;
            Ok(row.filter(|row| row.session_id == session_id).map(|row| row.content))
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

    pub async fn kept_answer(&self, id: Digest) -> Result<Option<KeptAnswer>> {
        self.read(move |reader| reader.rows::<KeptAnswer>()?.get(id.as_bytes())).await
    }

    /// Every token there ever was; a damaged row is an error of its own. Blocks for a read of the file.
    pub fn tokens(&self) -> Result<Vec<Result<Token>>> {
        guarded(&|| {
            let reader = self.shared().store.begin_read()?;
            let mut tokens = Vec::new();
            for entry in reader.rows::<Token>()?.all()? {
                tokens.push(entry?.1);
            }
            Ok(tokens)
        })
    }

    /// What somebody did, newest first.
    pub async fn deeds(&self, filter: DeedFilter) -> Result<Page<Happening, u64>> {
        self.read(move |reader| list_deeds(reader, &filter)).await
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
        self.read(move |reader| read_happenings(reader, since, bounded(limit))).await
    }

    pub(super) async fn read<T: Send + 'static>(
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
    let row = match reader.rows::<LiveRow>()?.get(id.as_bytes())? {
        Some(live) => Some(live.task),
        None => reader.rows::<TaskRow>()?.get(id.as_bytes())?,
    };
    row.map(|row| with_spec(reader, id, row)).transpose()
}

fn with_spec(reader: &Reader, id: TaskId, row: TaskRow) -> Result<Task, Failure> {
    match reader.rows::<SpecRow>()?.get(id.as_bytes())? {
        Some(spec) => Ok(row.with(spec.spec)),
        None => Err(Error::new(Code::LedgerDamaged, format!("a row of task `{id}` is missing in the ledger")).into()),
    }
}

fn list_tasks(reader: &Reader, filter: &TaskFilter) -> Result<Page<Task, TaskId>, Failure> {
    let limit = bounded(filter.limit);
    let looked = match filter.delivery {
        Some(delivery) => vec![Looked { found: tasks_of(reader, delivery, filter)?, stopped: None }],
        None if filter.states == [TaskState::Dead] => vec![dead_tasks(reader, filter, limit)?],
        None => {
            let mut looked = vec![newest_of::<LiveRow>(reader, filter, limit, |live| live.task)?];
            if filter.states.is_empty() || filter.states.iter().any(|state| state.is_terminal()) {
                looked.push(newest_of::<TaskRow>(reader, filter, limit, |row| row)?);
            }
            looked
        }
    };
    let oldest_first = filter.is_oldest_first();
    let stops = looked.iter().filter_map(|looked| Uuid::from_slice(looked.stopped.as_ref()?).ok()).map(TaskId);
    // Of what lies behind the place where one of the tables was left, not all is known.
    let stop = if oldest_first { stops.min() } else { stops.max() };
    let is_before =
        |task: &Task| stop.is_none_or(|stop| if oldest_first { task.spec.id <= stop } else { task.spec.id >= stop });
    let mut items: Vec<Task> = looked.into_iter().flat_map(|looked| looked.found).filter(is_before).collect();
    items.sort_by_key(|task| std::cmp::Reverse(task.spec.id));
    if oldest_first {
        items.reverse();
    }
    let next = if items.len() < limit { stop } else { items.get(limit - 1).map(|task| task.spec.id) };
    items.truncate(limit);
    Ok(Page { items, next })
}

fn newest_of<R: Row>(
    reader: &Reader,
    filter: &TaskFilter,
    limit: usize,
    task_row: impl Fn(R) -> TaskRow,
) -> Result<Looked<Task>, Failure> {
    let rows = reader.rows::<R>()?;
    let keys = (filter.after.map(|id| *id.as_bytes()), filter.before.map(|id| *id.as_bytes()));
    let range = between(&rows, &keys, filter.is_oldest_first())?;
    collect(range, limit, |key, row| match Uuid::from_slice(key) {
        Ok(id) => Some(task_row(row))
            .filter(|row| fits(filter, row))
            .map(|row| with_spec(reader, TaskId(id), row))
            .transpose(),
        Err(_) => Ok(None),
    })
}

/// The rows whose keys lie between two others, in one direction or the other.
fn between<'r, R: Row>(
    rows: &'r Rows<Reading, R>,
    (after, before): &'r (Option<[u8; 16]>, Option<[u8; 16]>),
    oldest_first: bool,
) -> Result<Box<dyn Iterator<Item = Entry<R>> + 'r>, Failure> {
    if matches!((after, before), (Some(after), Some(before)) if after >= before) {
        return Ok(Box::new(std::iter::empty()));
    }
    let bound =
        |key: &'r Option<[u8; 16]>| key.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
    let range = rows.range(bound(after), bound(before))?;
    Ok(if oldest_first { Box::new(range) } else { Box::new(range.rev()) })
}

fn dead_tasks(reader: &Reader, filter: &TaskFilter, limit: usize) -> Result<Looked<Task>, Failure> {
    let rows = reader.rows::<DeadMark>()?;
    let keys = (filter.after.map(|id| *id.as_bytes()), filter.before.map(|id| *id.as_bytes()));
    let range = between(&rows, &keys, filter.is_oldest_first())?;
    let wanted = |task: &Task| filter.webhook.as_ref().is_none_or(|webhook| *webhook == task.spec.webhook);
    collect(range, limit, |key, _| match Uuid::from_slice(key) {
        Ok(id) => Ok(read_task(reader, TaskId(id))?.filter(wanted)),
        Err(_) => Ok(None),
    })
}

/// Those that it was born with, and those that came later.
fn tasks_of(reader: &Reader, delivery: DeliveryId, filter: &TaskFilter) -> Result<Vec<Task>, Failure> {
    let fits = |task: &Task| {
        (filter.states.is_empty() || filter.states.contains(&task.state))
            && filter.before.is_none_or(|before| task.spec.id < before)
            && filter.after.is_none_or(|after| task.spec.id > after)
            && filter.webhook.as_ref().is_none_or(|webhook| *webhook == task.spec.webhook)
    };
    let mut tasks = Vec::new();
    for id in task_ids_of(reader, delivery)? {
        tasks.extend(skip_damaged(read_task(reader, id))?.filter(fits));
    }
    Ok(tasks)
}

fn task_ids_of(reader: &Reader, delivery: DeliveryId) -> Result<BTreeSet<TaskId>, Failure> {
    let born = skip_damaged(reader.rows::<Delivery>()?.get(delivery.as_bytes()))?;
    let later = reader.rows::<TaskOf>()?.keys_under(delivery.as_bytes(), SCANNED_MAX)?;
    let later = later.iter().filter_map(|key| second_id(key)).map(TaskId);
    Ok(born.map(|delivery| delivery.tasks).unwrap_or_default().into_iter().chain(later).collect())
}

fn fits(filter: &TaskFilter, row: &TaskRow) -> bool {
    (filter.states.is_empty() || filter.states.contains(&row.state))
        && filter.webhook.as_ref().is_none_or(|webhook| *webhook == row.webhook)
}

fn list_deliveries(reader: &Reader, filter: &DeliveryFilter) -> Result<Page<Delivery, DeliveryId>, Failure> {
    let (rows, limit) = (reader.rows::<Delivery>()?, bounded(filter.limit));
    let keys = (filter.after.map(|id| *id.as_bytes()), filter.before.map(|id| *id.as_bytes()));
    let range = between(&rows, &keys, filter.oldest_first || filter.after.is_some())?;
    let Looked { found, stopped } = collect(range, limit, |_, delivery| {
        let wanted = filter.webhook.as_ref().is_none_or(|webhook| *webhook == delivery.webhook);
        Ok(wanted.then_some(delivery))
    })?;
    let stop = stopped.and_then(|key| Uuid::from_slice(&key).ok()).map(DeliveryId);
    let next = if found.len() < limit { stop } else { found.last().map(|delivery| delivery.id) };
    Ok(Page { items: found, next })
}

fn list_deeds(reader: &Reader, filter: &DeedFilter) -> Result<Page<Happening, u64>, Failure> {
    let (rows, limit) = (reader.rows::<Happening>()?, bounded(filter.limit));
    let before = filter.before.map(u64::to_be_bytes);
    let to = before.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
    let Looked { found, stopped } = collect(rows.range(Bound::Unbounded, to)?.rev(), limit, |_, deed: Happening| {
        let of_kind = |wanted: &String| match wanted.strip_suffix('*') {
            Some(beginning) => deed.kind.starts_with(beginning),
            None => deed.kind == *wanted,
        };
        let is_wanted = (filter.kinds.is_empty() || filter.kinds.iter().any(of_kind))
            && filter.actor.as_ref().is_none_or(|actor| deed.actor.as_ref().is_some_and(|by| by.contains(actor)));
        Ok(is_wanted.then_some(deed))
    })?;
    let stop = stopped.and_then(|key| Some(u64::from_be_bytes(key.try_into().ok()?)));
    let next = if found.len() < limit { stop } else { found.last().map(|deed| deed.seq) };
    Ok(Page { items: found, next })
}

/// A delivery's own calls and those of its tasks.
fn list_outbox(
    reader: &Reader,
    task: Option<TaskId>,
    delivery: Option<DeliveryId>,
) -> Result<Vec<OutboxItem>, Failure> {
    let mut owners: BTreeSet<Uuid> = task.map(|id| id.0).into_iter().chain(delivery.map(|id| id.0)).collect();
    if let Some(delivery) = delivery {
        owners.extend(task_ids_of(reader, delivery)?.into_iter().map(|id| id.0));
    }
    let calls = reader.rows::<CallRow>()?;
    let mut items = Vec::new();
    for owner in owners {
        for key in calls.keys_under(owner.as_bytes(), LIST_MAX)? {
            let Some(id) = second_id(&key).map(OutboxId) else { continue };
            let row = match reader.rows::<PendingRow>()?.get(id.as_bytes())? {
                Some(pending) => Some(pending.item),
                None => reader.rows::<OutboxRow>()?.get(&join(owner.as_bytes(), id.as_bytes()))?,
            };
            items.extend(row.zip(calls.get(&key)?).map(|(row, call)| row.with(call)));
        }
    }
    items.sort_by_key(|item| (item.created_at, item.part, item.id));
    Ok(items)
}

fn read_happenings(reader: &Reader, since: u64, limit: usize) -> Result<Vec<Happening>, Failure> {
    let rows = reader.rows::<HappeningRow>()?;
    let from = since.saturating_add(1).to_be_bytes();
    // The row that holds the first wanted one begins at it or before it.
    let first = rows.range(Bound::Unbounded, Bound::Included(&from))?.next_back().transpose()?;
    let first = first.map_or(from.to_vec(), |(key, _)| key);
    let mut found = Vec::new();
    for entry in rows.range(Bound::Included(&first), Bound::Unbounded)? {
        let (_, row) = entry?;
        let row = skip_damaged(row.map(Some).map_err(Failure::from))?;
        let wanted = row.into_iter().flat_map(|row| row.happenings).filter(|happening| happening.seq > since);
        found.extend(wanted.take(limit - found.len()));
        if found.len() >= limit {
            break;
        }
    }
    Ok(found)
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

/// What a look through rows found, and the last key that it came to if it did not look at all of them.
struct Looked<T> {
    found: Vec<T>,
    stopped: Option<Vec<u8>>,
}

/// Rows that `pick` wants, up to `limit`. A damaged row is left out and said; the list goes on without it.
fn collect<R: Row, T>(
    rows: impl Iterator<Item = Entry<R>>,
    limit: usize,
    pick: impl Fn(&[u8], R) -> Result<Option<T>, Failure>,
) -> Result<Looked<T>, Failure> {
    let mut found = Vec::new();
    for (number, entry) in rows.enumerate() {
        if found.len() >= limit {
            break;
        }
        let (key, row) = entry?;
        found.extend(skip_damaged(row.map_err(Failure::from).and_then(|row| pick(&key, row)))?);
        if number + 1 >= SCANNED_MAX {
            return Ok(Looked { found, stopped: Some(key) });
        }
    }
    Ok(Looked { found, stopped: None })
}

pub(super) fn skip_damaged<T>(row: Result<Option<T>, Failure>) -> Result<Option<T>, Failure> {
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
