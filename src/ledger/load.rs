//! What the writer knows in memory, read from the file when it is opened.
//!
//! At the first start all that runs was broken off by the end of the last process. After an I/O error in the middle of
//! the work the writer remembers what it had handed out; what the file says beyond that was never answered.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;
use uuid::Uuid;

use super::memory::Due;
use super::migrate::{UNFINISHED, unfinished};
use super::rows::Suspension;
use super::store::Failure;
use super::store::codec::Row as _;
use super::store::kept::{CallRow, DedupeRow, HappeningRow, LayoutRow, LiveRow, PendingRow, TaskRow};
use super::store::shared::{Hand, Hands};
use super::store::tables::{DeadMark, Reader};
use super::transition::Memory;
use crate::error::Code;
use crate::model::ids::{DeliveryId, OutboxId, TaskId};
use crate::model::task::TaskState;

/// More than one row of happenings has.
const HAPPENINGS_SKIPPED: u64 = 10_000;

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

/// What was found in the file, and what has to be put right in it.
#[derive(Debug, Default)]
pub struct Loaded {
    pub memory: Memory,
    /// They run according to the file, but were never handed out.
    pub orphans: Vec<(TaskId, u32)>,
    /// Tasks whose row is damaged.
    pub lost_tasks: Vec<TaskId>,
    /// Calls whose row is damaged, with what it may be again.
    pub lost_calls: Vec<(OutboxId, PendingRow)>,
}

/// `held`: `None` at the first start.
pub fn load(reader: &Reader, held: Option<&Held>, now: Timestamp) -> Result<Loaded, Failure> {
    let mut loaded = Loaded::default();
    let hands = reader.hands()?;
    if let Reader::Shared(shared) = reader {
        shared.is_loaded()?;
    }
    if reader.rows::<LayoutRow>()?.has(UNFINISHED)? {
        return Err(unfinished().into());
    }
    loaded.memory.queue.notice(now);
    for entry in reader.rows::<LiveRow>()?.all()? {
        let (key, row) = entry?;
        let Some(id) = id_of(&key).map(TaskId) else { continue };
        match row {
            Ok(row) => loaded.add_task(id, row, hands.of(LiveRow::TABLE, &key), held, now),
            Err(_) => loaded.lost_tasks.push(id),
        }
    }
    for entry in reader.rows::<Suspension>()?.all()? {
        // Even where the row is damaged: held back too long is better than let go too soon.
        let (key, _) = entry?;
        if let Ok(webhook) = std::str::from_utf8(&key) {
            loaded.memory.queue.suspend(webhook, true);
        }
    }
    loaded.add_outbox(reader, &hands, held, now)?;
    let memory = &mut loaded.memory;
    add_dedupe(reader, memory)?;
    let happenings = reader.rows::<HappeningRow>()?;
    memory.first_seq = happenings.first_key()?.and_then(|key| number_of(&key)).unwrap_or(1);
    memory.next_seq = match happenings.all()?.next_back().transpose()? {
        Some((key, row)) => {
            // Of a damaged row the length is not known: numbers that were used may not be used again.
            let length = row.map_or(HAPPENINGS_SKIPPED, |row| row.happenings.len() as u64);
            number_of(&key).unwrap_or(0).saturating_add(length)
        }
        None => 1,
    };
    memory.dead = usize::try_from(reader.rows::<DeadMark>()?.count()?).unwrap_or(usize::MAX);
    Ok(loaded)
}

impl Loaded {
    fn add_task(&mut self, id: TaskId, mut row: LiveRow, hand: Hand, held: Option<&Held>, now: Timestamp) {
        // A clock that was set back while nothing ran must not make it wait longer than it was meant to.
        row.task.not_before = Due { at: row.task.not_before, delay_ms: row.delay_ms }.clamped(now).at;
        self.memory.queue.put(id, &row);
        // The task that met the limit waits for its end, and so does everything else.
        if row.task.state == TaskState::Queued && row.task.reason.as_ref().is_some_and(|it| it.code == Code::AgentLimit)
        {
            self.memory.queue.pause(row.task.not_before);
        }
        let TaskRow { state, attempt, .. } = row.task;
        if state == TaskState::Running {
            match (hand, held) {
                (Hand::Another, _) => drop(self.memory.elsewhere.insert(id)),
                (Hand::Nobody, _) => self.orphans.push((id, attempt)),
                (Hand::Mine, None) => drop(self.memory.interrupted.insert(id, attempt)),
                (Hand::Mine, Some(held)) if held.running.get(&id) != Some(&attempt) => self.orphans.push((id, attempt)),
                (Hand::Mine, Some(held)) => {
                    self.memory.interrupted.extend(held.interrupted.get(&id).map(|attempt| (id, *attempt)))
                }
            }
        }
    }

    fn add_outbox(
        &mut self,
        reader: &Reader,
        hands: &Hands,
        held: Option<&Held>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let mut damaged = HashSet::new();
        for entry in reader.rows::<PendingRow>()?.all()? {
            let (key, row) = entry?;
            let Some(id) = id_of(&key).map(OutboxId) else { continue };
            match row {
                Ok(row) => {
                    let in_hand = match hands.of(PendingRow::TABLE, &key) {
                        Hand::Another => true,
                        Hand::Nobody => false,
                        Hand::Mine => held.is_some_and(|held| held.claimed.contains(&id)),
                    };
                    let on_its_way = row.is_sending() && in_hand;
                    self.memory.outbox.put(id, &row, on_its_way);
                }
                Err(_) => drop(damaged.insert(id)),
            }
        }
        if damaged.is_empty() {
            return Ok(());
        }
        // What stands with them is lost; as they were born they are still there, under their owners.
        for entry in reader.rows::<CallRow>()?.all()? {
            let call = entry?.1.ok().map(|call| call.0).filter(|call| damaged.contains(&call.id));
            self.lost_calls.extend(call.map(|call| (call.id, PendingRow::in_doubt(&call, now))));
        }
        Ok(())
    }
}

fn add_dedupe(reader: &Reader, memory: &mut Memory) -> Result<(), Failure> {
    for entry in reader.rows::<DedupeRow>()?.all()? {
        let (key, row) = entry?;
        let Some(number) = number_of(&key) else { continue };
        let row = row.unwrap_or_else(|error| {
            tracing::error!(error = %error.internal(), "the keys of a delivery are lost: it would be taken twice");
            DedupeRow { of: DeliveryId(Uuid::nil()), keys: Vec::new() }
        });
        memory.dedupe.put(number, &row);
    }
    Ok(())
}

fn id_of(key: &[u8]) -> Option<Uuid> {
    Uuid::from_slice(key).ok()
}

fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}
