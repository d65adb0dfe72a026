//! Retention: finds what is old by reading, and has the writer forget it in small commits.

use std::ops::Bound;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::Ledger;
use super::command::{Answer, Command, Forget};
use super::lanes::Lane;
use super::reads::{guarded, skip_damaged};
use super::rows::{Delivery, Happening, KeptAnswer};
use super::store::Failure;
use super::store::codec::Row;
use super::store::kept::{ConversationRow, DedupeRow, LogSizeRow, TaskRow};
use super::store::tables::Reader;
use super::transition::FORGOTTEN_ROWS_MAX;
use crate::error::{Code, Context as _, Result};
use crate::model::ids::{DeliveryId, TaskId};

/// Most deliveries and tasks that one pass forgets; the next pass goes on.
const FORGOTTEN_A_PASS_MAX: usize = 10_000;
/// Most commands for one delivery in one pass (each removes up to 500 rows).
const COMMANDS_A_DELIVERY_MAX: usize = 100;

impl Ledger {
    /// Forgets what is older than `keep`, the oldest of what takes more room than `keep_bytes`, and expired dedupe keys, a
    /// bounded number of rows a commit. Returns the rows that were removed.
    pub async fn maintain(&self, now: Timestamp) -> Result<usize> {
        let shared = std::sync::Arc::clone(self.shared());
        let keep = SignedDuration::try_from(shared.keep).unwrap_or(SignedDuration::MAX);
        let before = now.checked_sub(keep).unwrap_or(Timestamp::MIN);
        let keep_deeds = SignedDuration::try_from(shared.keep_deeds).unwrap_or(SignedDuration::MAX);
        let deeds_before = now.checked_sub(keep_deeds).unwrap_or(Timestamp::MIN);
        let look = move || {
            let reader = shared.store.begin_read()?;
            let mut old = old_rows(&reader, before, now)?;
            old.extend(excess(&reader, shared.keep_bytes, now)?);
            for numbers in old_keys::<Happening>(&reader, |row| row.at < deeds_before)?.chunks(FORGOTTEN_ROWS_MAX) {
                old.push(Forget::Deeds { numbers: numbers.to_vec() });
            }
            Ok(old)
        };
        let looking = tokio::task::spawn_blocking(move || guarded(&look));
        let old = looking.await.context(Code::LedgerUnavailable, "the ledger cannot be read")??;
        let mut removed = 0;
        for forget in old {
            removed += self.forget(forget).await?;
        }
        Ok(removed)
    }

    async fn forget(&self, forget: Forget) -> Result<usize> {
        let mut removed = 0;
        let again = match &forget {
            Forget::Delivery { id, before } => Some(Again::Delivery(*id, *before)),
            Forget::Task { id, before } => Some(Again::Task(*id, *before)),
            Forget::Dedupe { .. } | Forget::Conversations { .. } | Forget::Answers { .. } | Forget::Deeds { .. } => {
                None
            }
        };
        let mut next = Some(forget);
        for _ in 0..COMMANDS_A_DELIVERY_MAX {
            let Some(forget) = next.take() else { break };
            if let Answer::Forgotten { rows, more } = self.ask(Lane::Slow, 0, Command::Forget(forget)).await? {
                removed += rows;
                next = again.as_ref().filter(|_| more).map(Again::forget);
            }
        }
        Ok(removed)
    }
}

/// What takes more than one commit to forget.
enum Again {
    Delivery(DeliveryId, Timestamp),
    Task(TaskId, Timestamp),
}

impl Again {
    fn forget(&self) -> Forget {
        match self {
            Again::Delivery(id, before) => Forget::Delivery { id: *id, before: *before },
            Again::Task(id, before) => Forget::Task { id: *id, before: *before },
        }
    }
}

fn old_rows(reader: &Reader, before: Timestamp, now: Timestamp) -> Result<Vec<Forget>, Failure> {
    let mut old = Vec::new();
    let id = |key: &[u8]| Uuid::from_slice(key).ok();
    for key in old_keys::<Delivery>(reader, |row| row.received_at < before)? {
        old.extend(id(&key).map(|id| Forget::Delivery { id: DeliveryId(id), before }));
    }
    let alone = |row: &TaskRow| row.delivery.is_none() && row.updated_at < before;
    for key in old_keys::<TaskRow>(reader, alone)? {
        old.extend(id(&key).map(|id| Forget::Task { id: TaskId(id), before }));
    }
    let expired = |row: &DedupeRow| row.keys.iter().all(|(_, expires_at)| *expires_at <= now);
    for numbers in old_keys::<DedupeRow>(reader, expired)?.chunks(FORGOTTEN_ROWS_MAX) {
        old.push(Forget::Dedupe { numbers: numbers.to_vec(), now });
    }
    for ids in old_keys::<ConversationRow>(reader, |row| row.updated_at < before)?.chunks(FORGOTTEN_ROWS_MAX) {
        old.push(Forget::Conversations { ids: ids.to_vec(), before });
    }
    for ids in old_keys::<KeptAnswer>(reader, |row| row.expires_at <= now)?.chunks(FORGOTTEN_ROWS_MAX) {
        old.push(Forget::Answers { ids: ids.to_vec(), now });
    }
    Ok(old)
}

/// The oldest work, as long as all of it takes more than that. What is not done is not removed for it.
fn excess(reader: &Reader, bytes_max: u64, now: Timestamp) -> Result<Vec<Forget>, Failure> {
    let Some(last) = last_in_excess(reader, bytes_max)? else { return Ok(Vec::new()) };
    let mut old = Vec::new();
    for entry in reader.rows::<Delivery>()?.range(Bound::Unbounded, Bound::Included(&last))?.take(FORGOTTEN_A_PASS_MAX)
    {
        let (key, _) = entry?;
        old.extend(Uuid::from_slice(&key).ok().map(|id| Forget::Delivery { id: DeliveryId(id), before: now }));
    }
    for entry in reader.rows::<TaskRow>()?.range(Bound::Unbounded, Bound::Included(&last))? {
        let (key, row) = entry?;
        if old.len() >= 2 * FORGOTTEN_A_PASS_MAX {
            break;
        }
        if row.is_ok_and(|row| row.delivery.is_none()) {
            old.extend(Uuid::from_slice(&key).ok().map(|id| Forget::Task { id: TaskId(id), before: now }));
        }
    }
    Ok(old)
}

/// The key of the newest delivery or task that has no room any more. Both kinds of keys begin with their time.
fn last_in_excess(reader: &Reader, bytes_max: u64) -> Result<Option<Vec<u8>>, Failure> {
    let (deliveries, tasks, logs) =
        (reader.rows::<Delivery>()?, reader.rows::<TaskRow>()?, reader.rows::<LogSizeRow>()?);
    let (mut deliveries, mut tasks) = (deliveries.all()?.rev(), tasks.all()?.rev());
    let (mut delivery, mut task) = (deliveries.next().transpose()?, tasks.next().transpose()?);
    let mut bytes = 0_u64;
    loop {
        let key = match (delivery.take(), task.take()) {
            (Some((key, row)), other) if other.as_ref().is_none_or(|(second, _)| key > *second) => {
                bytes = bytes.saturating_add(row.map_or(0, |row| row.body_bytes));
                (delivery, task) = (deliveries.next().transpose()?, other);
                key
            }
            (other, Some((key, row))) => {
                let row = row.ok();
                // It goes with its delivery, which may have the later key.
                let owner = row.as_ref().and_then(|row| row.delivery).map(|id| id.as_bytes().to_vec());
                let answer = row.and_then(|row| row.result).map_or(0, |result| result.text.len() as u64);
                let logged = skip_damaged(logs.get(&key))?.map_or(0, |size| size.bytes);
                bytes = bytes.saturating_add(answer).saturating_add(logged);
                (delivery, task) = (other, tasks.next().transpose()?);
                owner.filter(|owner| *owner > key).unwrap_or(key)
            }
            (_, None) => return Ok(None),
        };
        if bytes > bytes_max {
            return Ok(Some(key));
        }
    }
}

/// Damaged rows stay: they are evidence.
fn old_keys<R: Row>(reader: &Reader, is_old: impl Fn(&R) -> bool) -> Result<Vec<Vec<u8>>, Failure> {
    let mut keys = Vec::new();
    for entry in reader.rows::<R>()?.all()? {
        let (key, row) = entry?;
        if keys.len() >= FORGOTTEN_A_PASS_MAX {
            break;
        }
        if row.is_ok_and(|row| is_old(&row)) {
            keys.push(key);
        }
    }
    Ok(keys)
}
