//! Which call is next: calls of one task go one after the other, in the order of their parts.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::Due;
use super::timers::Timers;
use crate::ledger::store::kept::PendingRow;
use crate::model::ids::{DeliveryId, OutboxId, TaskId};

/// Birth, part, id.
type Order = (Timestamp, u32, OutboxId);

/// Whose calls go one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sequence {
    Task(TaskId),
    /// The parts of an answer that has no task.
    Delivery(DeliveryId),
    Alone(OutboxId),
}

#[derive(Debug, Default)]
pub struct Outbox {
    entries: HashMap<OutboxId, Entry>,
    sequences: HashMap<Sequence, BTreeSet<Order>>,
    /// The first of every sequence, unless it is on its way.
    waiting: Timers<OutboxId>,
    /// Claimed by somebody of this process.
    on_their_way: BTreeSet<OutboxId>,
    last_now: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    sequence: Sequence,
    order: Order,
    due: Due,
}

impl Outbox {
    /// Puts it where its row says, wherever it was before. `on_its_way`: somebody of this process has claimed it.
    pub fn put(&mut self, id: OutboxId, row: &PendingRow, on_its_way: bool) {
        self.remove(id);
        if on_its_way {
            self.on_their_way.insert(id);
        }
        let sequence = match (row.task, row.delivery) {
            (Some(task), _) => Sequence::Task(task),
            (None, Some(delivery)) if row.parts > 1 => Sequence::Delivery(delivery),
            (None, _) => Sequence::Alone(id),
        };
        let order = (row.created_at, row.part, id);
        let due = Due { at: row.item.not_before, delay_ms: row.delay_ms };
        self.entries.insert(id, Entry { sequence, order, due });
        self.hide_first(sequence);
        self.sequences.entry(sequence).or_default().insert(order);
        self.show_first(sequence);
    }

    pub fn remove(&mut self, id: OutboxId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.waiting.remove(id);
        self.on_their_way.remove(&id);
        if let Some(orders) = self.sequences.get_mut(&entry.sequence) {
            orders.remove(&entry.order);
            if orders.is_empty() {
                self.sequences.remove(&entry.sequence);
            }
        }
        self.show_first(entry.sequence);
    }

    /// Whoever claimed it is gone.
    pub fn let_go(&mut self, id: OutboxId) {
        self.on_their_way.remove(&id);
        if let Some(sequence) = self.entries.get(&id).map(|entry| entry.sequence) {
            self.show_first(sequence);
        }
    }

    /// Those that may be sent now, earliest first.
    pub fn due(&mut self, now: Timestamp, limit: usize) -> Vec<OutboxId> {
        if self.last_now.is_none_or(|last| last > now) {
            self.waiting.clamp(now);
        }
        self.last_now = Some(now);
        self.waiting.due(now).take(limit).collect()
    }

    pub fn first_due(&self) -> Option<Timestamp> {
        self.waiting.first_due()
    }

    pub fn contains(&self, id: OutboxId) -> bool {
        self.entries.contains_key(&id)
    }

    pub fn on_their_way(&self) -> &BTreeSet<OutboxId> {
        &self.on_their_way
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn first(&self, sequence: Sequence) -> Option<OutboxId> {
        self.sequences.get(&sequence)?.first().map(|order| order.2)
    }

    fn hide_first(&mut self, sequence: Sequence) {
        if let Some(id) = self.first(sequence) {
            self.waiting.remove(id);
        }
    }

    fn show_first(&mut self, sequence: Sequence) {
        let Some(id) = self.first(sequence) else { return };
        if let Some(entry) = self.entries.get(&id).filter(|_| !self.on_their_way.contains(&id)) {
            self.waiting.set(id, entry.due);
        }
    }
}
