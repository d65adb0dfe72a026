//! What the writer knows in memory, read from the file when it is opened.
//!
//! At the first start all that runs was broken off by the end of the last process. After an I/O error in the middle of
//! the work the writer remembers what it had handed out; what the file says beyond that was never answered.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::encode;
use super::memory::Due;
use super::rows::Happening;
use super::store::Failure;
use super::store::codec::Row;
use super::store::kept::{CallRow, OpenRow, OutboxRow, PendingRow, SpecRow, TaskRow};
use super::store::tables::{DeadMark, Reader};
use super::transition::Memory;
use crate::model::ids::{OutboxId, TaskId};
use crate::model::task::TaskState;

/// What this process has handed out and not got back, as of the last commit.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub running: BTreeMap<TaskId, u32>,
    pub interrupted: BTreeMap<TaskId, u32>,
    pub claimed: BTreeSet<OutboxId>,
}

impl Held {
    pub fn of(memory: &Memory) -> Self {
        Self {
            running: memory.queue.running().map(|lease| (lease.task, lease.attempt)).collect(),
            interrupted: memory.interrupted.clone(),
            claimed: memory.outbox.on_their_way().clone(),
        }
    }
}

/// `held`: `None` at the first start. With the tasks that run according to the file but were never handed out.
pub fn load(reader: &Reader, held: Option<&Held>, now: Timestamp) -> Result<(Memory, Vec<(TaskId, u32)>), Failure> {
    let mut memory = Memory::default();
    let mut orphans = Vec::new();
    for entry in reader.rows::<OpenRow>()?.all()? {
        let (key, row) = entry?;
        let Some(id) = id_of(&key).map(TaskId) else { continue };
        let row = match row {
            Ok(row) => row,
            Err(error) => match rebuilt_open_row(reader, id, now)? {
                Some(row) => row,
                None => {
                    tracing::error!(task = %id, error = %error.internal(), "a task of the queue cannot be read");
                    continue;
                }
            },
        };
        memory.queue.put(id, &row);
        if row.state == TaskState::Running {
            match held {
                None => drop(memory.interrupted.insert(id, row.attempt)),
                Some(held) if held.running.get(&id) != Some(&row.attempt) => orphans.push((id, row.attempt)),
                Some(held) => memory.interrupted.extend(held.interrupted.get(&id).map(|attempt| (id, *attempt))),
            }
        }
    }
    load_outbox(reader, &mut memory, held, now)?;
    let happenings = reader.rows::<Happening>()?;
    memory.first_seq = happenings.first_key()?.and_then(|key| seq_of(&key)).unwrap_or(1);
    memory.next_seq = happenings.last_key()?.and_then(|key| seq_of(&key)).map_or(1, |seq| seq.saturating_add(1));
    memory.dead = usize::try_from(reader.rows::<DeadMark>()?.count()?).unwrap_or(usize::MAX);
    Ok((memory, orphans))
}

fn load_outbox(reader: &Reader, memory: &mut Memory, held: Option<&Held>, now: Timestamp) -> Result<(), Failure> {
    for entry in reader.rows::<PendingRow>()?.all()? {
        let (key, row) = entry?;
        let Some(id) = id_of(&key).map(OutboxId) else { continue };
        let row = match row {
            Ok(row) => row,
            Err(error) => match rebuilt_pending_row(reader, id, now)? {
                Some(row) => row,
                None => {
                    tracing::error!(call = %id, error = %error.internal(), "a call of the outbox cannot be read");
                    continue;
                }
            },
        };
        let on_its_way = row.sending && held.is_some_and(|held| held.claimed.contains(&id));
        memory.outbox.put(id, &row, on_its_way);
    }
    Ok(())
}

/// A damaged row of the queue can be had from the task itself.
fn rebuilt_open_row(reader: &Reader, id: TaskId, now: Timestamp) -> Result<Option<OpenRow>, Failure> {
    let task = readable(reader.rows::<TaskRow>()?.get(id.as_bytes()))?;
    let spec = readable(reader.rows::<SpecRow>()?.get(id.as_bytes()))?;
    Ok(task.zip(spec).map(|(task, spec)| {
        let due = Due::until(now, task.not_before);
        encode::open_row(&spec.spec, &task, due)
    }))
}

fn rebuilt_pending_row(reader: &Reader, id: OutboxId, now: Timestamp) -> Result<Option<PendingRow>, Failure> {
    let row = readable(reader.rows::<OutboxRow>()?.get(id.as_bytes()))?;
    let call = readable(reader.rows::<CallRow>()?.get(id.as_bytes()))?;
    Ok(row.zip(call).map(|(row, call)| PendingRow::in_doubt(&call.0, &row, now)))
}

fn readable<R: Row>(row: Result<Option<R>, Failure>) -> Result<Option<R>, Failure> {
    match row {
        Err(Failure::Refused(_)) => Ok(None),
        other => other,
    }
}

fn id_of(key: &[u8]) -> Option<uuid::Uuid> {
    uuid::Uuid::from_slice(key).ok()
}

fn seq_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}
