//! Which task is next: the lowest (priority, age) among those that are due, whose webhook has room and whose
//! conversation has nothing running. Exact, and logarithmic in the number of tasks, however many are blocked.
//!
//! Ready tasks stand in *groups* of one webhook, one limit and one conversation. A group shows its first task to its
//! *lane* (webhook and limit) while the conversation is free; a lane shows its first task to the whole while the
//! webhook has room. The first of those shown is the next one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Due;
use super::timers::Timers;
use crate::ledger::store::kept::LiveRow;
use crate::ledger::{Depth, Interrupted};
use crate::model::digest::Digest;
use crate::model::ids::TaskId;
use crate::model::task::TaskState;

/// Priority, birth, id: lower runs first.
type Order = (i32, Timestamp, TaskId);
/// `u32::MAX` where there is no limit.
type Limit = u32;
type Conversation = Option<Arc<str>>;
/// Webhook and conversation.
type Place = (Arc<str>, Conversation);

/// How far the clock may step back before waits are looked at again.
const STEP_BACK_MAX: SignedDuration = SignedDuration::from_secs(1);

#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<TaskId, Entry>,
    webhooks: HashMap<Arc<str>, Webhook>,
    conversations: HashMap<Arc<str>, Talk>,
    /// What the lanes show.
    heads: BTreeSet<Order>,
    delayed: Timers<TaskId>,
    checking: Timers<TaskId>,
    /// Queued tasks by birth.
    ages: BTreeSet<(Timestamp, TaskId)>,
    running: BTreeMap<TaskId, u32>,
    /// Tasks that wait for an approval, by webhook and conversation.
    approvals: BTreeMap<Place, BTreeSet<TaskId>>,
    /// Until when something waits for a person.
    waiting: Timers<TaskId>,
    /// Tasks that wait for the next message of their conversation, by webhook and conversation.
    asking: BTreeMap<Place, BTreeSet<TaskId>>,
    revisions: BTreeMap<Digest, usize>,
    /// Webhooks whose tasks a person holds back.
    suspended: BTreeSet<Arc<str>>,
    last_now: Option<Timestamp>,
    /// Nothing begins before this.
    paused_until: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    state: TaskState,
    order: Order,
    webhook: Arc<str>,
    limit: Limit,
    conversation: Conversation,
    due: Due,
    revision: Digest,
    /// In its group, rather than waiting for its time.
    ready: bool,
}

#[derive(Debug, Default)]
struct Webhook {
    running: u32,
    lanes: BTreeMap<Limit, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    groups: HashMap<Conversation, Group>,
    firsts: BTreeSet<Order>,
    shown: Option<Order>,
}

#[derive(Debug, Default)]
struct Group {
    tasks: BTreeSet<Order>,
    shown: Option<Order>,
}

/// A conversation that something runs or waits in.
#[derive(Debug, Default)]
struct Talk {
    running: u32,
    lanes: BTreeSet<(Arc<str>, Limit)>,
}

impl Entry {
    fn place(&self) -> (Arc<str>, Conversation) {
        (Arc::clone(&self.webhook), self.conversation.clone())
    }
}

impl Queue {
    /// Puts a task where its state says, wherever it was before; a task that has ended is forgotten.
    pub fn put(&mut self, id: TaskId, row: &LiveRow) {
        self.remove(id);
        if row.task.state.is_terminal() {
            return;
        }
        let conversation = Some(row.conversation.as_str()).filter(|text| !text.is_empty());
        let entry = Entry {
            state: row.task.state,
            order: (row.priority, row.created_at, id),
            webhook: row.task.webhook.as_str().into(),
            limit: row.concurrency.unwrap_or(Limit::MAX),
            conversation: conversation.map(Arc::from),
            due: Due { at: row.task.not_before, delay_ms: row.delay_ms },
            revision: row.revision,
            ready: false,
        };
        *self.revisions.entry(entry.revision).or_default() += 1;
        match entry.state {
            TaskState::Checking => self.checking.set(id, entry.due),
            TaskState::Queued => {
                self.ages.insert((row.created_at, id));
                if self.last_now.is_none_or(|now| now < entry.due.at) {
                    self.delayed.set(id, entry.due);
                } else {
                    self.entries.insert(id, entry);
                    self.enter_group(id);
                    return;
                }
            }
            TaskState::Running => {
                self.running.insert(id, row.task.attempt);
                self.count_running(&entry, 1);
            }
            TaskState::AwaitingApproval => {
                self.approvals.entry(entry.place()).or_default().insert(id);
                self.waiting.set(id, entry.due);
            }
            TaskState::WaitingInput => {
                self.asking.entry(entry.place()).or_default().insert(id);
                self.waiting.set(id, entry.due);
            }
            TaskState::Succeeded | TaskState::Dead | TaskState::Cancelled | TaskState::Refused | TaskState::Expired => {
            }
        }
        self.entries.insert(id, entry);
    }

    pub fn remove(&mut self, id: TaskId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        if let Some(count) = self.revisions.get_mut(&entry.revision) {
            *count -= 1;
            if *count == 0 {
                self.revisions.remove(&entry.revision);
            }
        }
        match entry.state {
            TaskState::Checking => self.checking.remove(id),
            TaskState::Queued => {
                self.ages.remove(&(entry.order.1, id));
                self.delayed.remove(id);
                if entry.ready {
                    self.leave_group(&entry);
                }
            }
            TaskState::Running => {
                self.running.remove(&id);
                self.count_running(&entry, -1);
            }
            TaskState::AwaitingApproval => {
                leave(&mut self.approvals, entry.place(), id);
                self.waiting.remove(id);
            }
            TaskState::WaitingInput => {
                leave(&mut self.asking, entry.place(), id);
                self.waiting.remove(id);
            }
            TaskState::Succeeded | TaskState::Dead | TaskState::Cancelled | TaskState::Refused | TaskState::Expired => {
            }
        }
    }

    /// The task that may run next, if one may.
    pub fn next(&mut self, running_max: usize, now: Timestamp) -> Option<TaskId> {
        self.notice(now);
        while let Some(id) = self.delayed.take_due(now) {
            self.enter_group(id);
        }
        self.paused_until = self.paused_until.filter(|until| now < *until);
        let room = self.running.len() < running_max && self.paused_until.is_none();
        let held = |task: &TaskId| self.entries.get(task).is_some_and(|entry| self.suspended.contains(&entry.webhook));
        self.heads.iter().filter(|_| room).map(|order| order.2).find(|task| !held(task))
    }

    /// Holds a webhook's tasks back, or lets them go.
    pub fn suspend(&mut self, webhook: &str, on: bool) {
        if on {
            self.suspended.insert(Arc::from(webhook));
        } else {
            self.suspended.remove(webhook);
        }
    }

    /// Tasks whose check is due, earliest first.
    pub fn checks(&mut self, now: Timestamp, limit: usize) -> Vec<TaskId> {
        self.notice(now);
        self.checking.due(now).take(limit).collect()
    }

    /// When something that waits for its time will be due.
    pub fn first_due(&self) -> Option<Timestamp> {
        let timers = [&self.delayed, &self.checking, &self.waiting].into_iter().filter_map(Timers::first_due);
        timers.chain(self.paused_until).min()
    }

    /// Nothing begins until then: whatever began would only meet the same limit.
    pub fn pause(&mut self, until: Timestamp) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    /// Tasks that waited for a person for too long, the longest overdue first.
    pub fn overdue(&mut self, now: Timestamp, limit: usize) -> Vec<TaskId> {
        self.notice(now);
        self.waiting.due(now).take(limit).collect()
    }

    /// Tasks of this conversation that wait for an approval, oldest first.
    pub fn awaiting(&self, webhook: &str, conversation: &str) -> Vec<TaskId> {
        let conversation = Some(conversation).filter(|text| !text.is_empty()).map(Arc::from);
        self.approvals.get(&(Arc::from(webhook), conversation)).into_iter().flatten().copied().collect()
    }

    /// The task whose question the next message of this conversation answers: the one that asked last.
    pub fn asking(&self, webhook: &str, conversation: &str) -> Option<TaskId> {
        let tasks = self.asking.get(&(Arc::from(webhook), Some(Arc::from(conversation))))?;
        tasks.last().copied()
    }

    pub fn contains(&self, id: TaskId) -> bool {
        self.entries.contains_key(&id)
    }

    pub fn running(&self) -> impl Iterator<Item = Interrupted> {
        self.running.iter().map(|(task, attempt)| Interrupted { task: *task, attempt: *attempt })
    }

    pub fn revisions(&self) -> Vec<Digest> {
        self.revisions.keys().copied().collect()
    }

    /// Without what this does not know: dead letters and the outbox.
    pub fn depth(&self) -> Depth {
        let (queued, running) = (self.ages.len(), self.running.len());
        let awaiting_approval = self.approvals.values().map(BTreeSet::len).sum();
        let waiting_input = self.asking.values().map(BTreeSet::len).sum();
        Depth {
            checking: self.entries.len() - queued - running - awaiting_approval - waiting_input,
            awaiting_approval,
            queued,
            running,
            waiting_input,
            oldest_queued_at: self.ages.first().map(|(at, _)| *at),
            paused_until: self.paused_until,
            ..Depth::default()
        }
    }

    /// Tells the time, so that what is due already need not wait to be asked for. A clock that was set back must not
    /// let anything wait longer than it was meant to.
    pub fn notice(&mut self, now: Timestamp) {
        let stepped_back = self.last_now.is_none_or(|last| last.duration_since(now) > STEP_BACK_MAX);
        if stepped_back {
            self.delayed.clamp(now);
            self.checking.clamp(now);
            self.waiting.clamp(now);
            // Whether the limit still holds is soon found out.
            self.paused_until = None;
        }
        self.last_now = Some(now);
    }

    fn enter_group(&mut self, id: TaskId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.ready = true;
        let (order, limit) = (entry.order, entry.limit);
        let (webhook, conversation) = (Arc::clone(&entry.webhook), entry.conversation.clone());
        let lane = self.webhooks.entry(Arc::clone(&webhook)).or_default().lanes.entry(limit).or_default();
        lane.groups.entry(conversation.clone()).or_default().tasks.insert(order);
        if let Some(conversation) = &conversation {
            let talk = self.conversations.entry(Arc::clone(conversation)).or_default();
            talk.lanes.insert((Arc::clone(&webhook), limit));
        }
        self.refresh(&webhook, limit, &conversation);
    }

    fn leave_group(&mut self, entry: &Entry) {
        let lane = self.webhooks.get_mut(&entry.webhook).and_then(|webhook| webhook.lanes.get_mut(&entry.limit));
        if let Some(group) = lane.and_then(|lane| lane.groups.get_mut(&entry.conversation)) {
            group.tasks.remove(&entry.order);
        }
        self.refresh(&entry.webhook, entry.limit, &entry.conversation);
    }

    fn count_running(&mut self, entry: &Entry, by: i32) {
        let webhook = self.webhooks.entry(Arc::clone(&entry.webhook)).or_default();
        webhook.running = webhook.running.saturating_add_signed(by);
        let limits: Vec<Limit> = webhook.lanes.keys().copied().collect();
        for limit in limits {
            self.refresh_lane(&entry.webhook, limit);
        }
        if let Some(conversation) = &entry.conversation {
            let talk = self.conversations.entry(Arc::clone(conversation)).or_default();
            talk.running = talk.running.saturating_add_signed(by);
            for (webhook, limit) in talk.lanes.clone() {
                self.refresh(&webhook, limit, &entry.conversation);
            }
        }
        self.tidy(&entry.webhook, &entry.conversation);
    }

    /// Sets anew what a group shows to its lane, and then what the lane shows.
    fn refresh(&mut self, webhook_name: &Arc<str>, limit: Limit, conversation: &Conversation) {
        let talk = conversation.as_ref().and_then(|name| self.conversations.get_mut(name));
        let free = talk.as_ref().is_none_or(|talk| talk.running == 0);
        let lane = self.webhooks.get_mut(webhook_name).and_then(|webhook| webhook.lanes.get_mut(&limit));
        let Some(lane) = lane else { return };
        let Some(group) = lane.groups.get_mut(conversation) else { return };
        let shows = group.tasks.first().copied().filter(|_| free);
        if let Some(old) = std::mem::replace(&mut group.shown, shows) {
            lane.firsts.remove(&old);
        }
        lane.firsts.extend(shows);
        if group.tasks.is_empty() {
            lane.groups.remove(conversation);
            if let Some(talk) = talk {
                talk.lanes.remove(&(Arc::clone(webhook_name), limit));
            }
        }
        self.refresh_lane(webhook_name, limit);
        self.tidy(webhook_name, conversation);
    }

    fn refresh_lane(&mut self, webhook_name: &Arc<str>, limit: Limit) {
        let Some(webhook) = self.webhooks.get_mut(webhook_name) else { return };
        let has_room = webhook.running < limit;
        let Some(lane) = webhook.lanes.get_mut(&limit) else { return };
        let shows = lane.firsts.first().copied().filter(|_| has_room);
        if let Some(old) = std::mem::replace(&mut lane.shown, shows) {
            self.heads.remove(&old);
        }
        self.heads.extend(shows);
        if lane.groups.is_empty() {
            webhook.lanes.remove(&limit);
        }
    }

    /// Forgets webhooks and conversations in which nothing runs or waits.
    fn tidy(&mut self, webhook: &Arc<str>, conversation: &Conversation) {
        if self.webhooks.get(webhook).is_some_and(|webhook| webhook.running == 0 && webhook.lanes.is_empty()) {
            self.webhooks.remove(webhook);
        }
        let Some(conversation) = conversation else { return };
        if self.conversations.get(conversation).is_some_and(|talk| talk.running == 0 && talk.lanes.is_empty()) {
            self.conversations.remove(conversation);
        }
    }
}

fn leave(places: &mut BTreeMap<Place, BTreeSet<TaskId>>, place: Place, id: TaskId) {
    if let Some(tasks) = places.get_mut(&place) {
        tasks.remove(&id);
        if tasks.is_empty() {
            places.remove(&place);
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
