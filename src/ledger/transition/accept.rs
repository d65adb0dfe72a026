//! A delivery comes in, with everything that follows from it.

use super::{Ledgers, Step, wrong_state};
use crate::error::{Code, Error};
use crate::ledger::Accepted;
use crate::ledger::encode::{EncodedAccept, EncodedTask};
use crate::ledger::memory::Due;
use crate::ledger::store::Failure;
use crate::ledger::store::tables::{TaskOf, join};
use crate::model::ids::{DeliveryId, TaskId, WebhookId};
use crate::model::task::TaskState;

impl Ledgers<'_, '_> {
    pub(super) fn accept(&mut self, accept: &EncodedAccept) -> Step<Accepted> {
        if let Some(of) = self.seen_before(accept)? {
            return Ok(Accepted::Duplicate { of });
        }
        self.refuse_known_ids(accept)?;
        self.refuse_what_waits_no_more(accept)?;
        let key = accept.id.as_bytes();
        self.tables.deliveries.put_encoded(key, &accept.delivery)?;
        self.tables.bodies.put_encoded(key, &accept.body)?;
        if !accept.dedupe.keys.is_empty() {
            let number = self.memory.dedupe.next();
            self.tables.dedupe.put(&number.to_be_bytes(), &accept.dedupe)?;
            self.memory.dedupe.put(number, &accept.dedupe);
        }
        let started = format!("{} tasks, {} calls", accept.tasks.len(), accept.outbox.len());
        self.happen("delivery.received", Some(&accept.webhook), (Some(accept.id), None), started);
        for task in &accept.tasks {
            self.insert_task(&accept.webhook, task)?;
        }
        for call in &accept.outbox {
            self.insert_call(call)?;
        }
        Ok(Accepted::Fresh)
    }

    /// A key that has expired counts as never seen, whether it is still there or not; so does one that is damaged
    /// (work done twice is better than work lost).
    fn seen_before(&self, accept: &EncodedAccept) -> Step<Option<DeliveryId>> {
        for (key, _) in &accept.dedupe.keys {
            let Some(number) = self.memory.dedupe.find(key) else { continue };
            match self.tables.dedupe.get(&number.to_be_bytes()) {
                Ok(Some(row)) => {
                    let counts = |(seen, expires_at): &&(_, _)| seen == key && *expires_at > accept.received_at;
                    if row.keys.iter().find(counts).is_some() {
                        return Ok(Some(row.of));
                    }
                }
                Ok(None) => {}
                Err(Failure::Refused(error)) => tracing::error!(error = %error.internal(), "dedupe key ignored"),
                Err(storage) => return Err(storage),
            }
        }
        Ok(None)
    }

    fn refuse_known_ids(&self, accept: &EncodedAccept) -> Step<()> {
        let mut known = self.tables.deliveries.has(accept.id.as_bytes())?;
        for task in &accept.tasks {
            known |= self.memory.queue.contains(task.id) || self.tables.tasks.has(task.id.as_bytes())?;
        }
        for call in accept.outbox.iter().chain(accept.tasks.iter().flat_map(|task| &task.calls)) {
            known |= self.memory.outbox.contains(call.id) || self.tables.outbox.has(&call.key)?;
        }
        match known {
            false => Ok(()),
            true => Err(Error::new(Code::Conflict, "an id of the delivery is taken already").into()),
        }
    }

    /// What a task waits for can be said once.
    fn refuse_what_waits_no_more(&self, accept: &EncodedAccept) -> Step<()> {
        for id in accept.tasks.iter().filter_map(|task| task.continues) {
            let (_, row) = self.load(id)?;
            if row.state != TaskState::WaitingInput {
                return Err(wrong_state(id, row.state, "continued").into());
            }
        }
        Ok(())
    }

    /// The child goes on with it; its own part is done.
    pub(super) fn hand_over(&mut self, parent: TaskId, child: TaskId) -> Step<()> {
        let (spec, mut row) = self.load(parent)?;
        let was = row.state;
        row.state = TaskState::Succeeded;
        row.reason = None;
        row.updated_at = self.now;
        self.save(&spec, &mut row, was, Due::at_once(self.now))?;
        let message = format!("`{}` was answered and goes on as `{child}`", spec.spec.command);
        self.happen("task.continued", Some(&spec.spec.webhook), (spec.spec.delivery, Some(parent)), message);
        Ok(())
    }

    /// A task of its own, or a child of a task whose delivery was accepted before.
    pub(super) fn create(&mut self, webhook: &WebhookId, task: &EncodedTask) -> Step<()> {
        if self.memory.queue.contains(task.id) || self.tables.tasks.has(task.id.as_bytes())? {
            return Err(Error::new(Code::Conflict, format!("the task `{}` exists already", task.id)).into());
        }
        self.insert_task(webhook, task)
    }

    fn insert_task(&mut self, webhook: &WebhookId, task: &EncodedTask) -> Step<()> {
        if let Some(parent) = task.continues {
            self.hand_over(parent, task.id)?;
        }
        let key = task.id.as_bytes();
        self.tables.specs.put_encoded(key, &task.spec)?;
        match task.live.task.state.is_terminal() {
            true => self.tables.tasks.put_encoded(key, &task.row)?,
            false => self.tables.live.put_encoded(key, &task.row)?,
        }
        if let Some(delivery) = task.delivery.filter(|_| task.came_later) {
            self.tables.tasks_of.put(&join(delivery.as_bytes(), key), &TaskOf)?;
        }
        self.memory.queue.put(task.id, &task.live);
        *self.work = true;
        let mut state = task.live.task.state;
        if state == TaskState::Queued && task.needs_admission {
            let (spec, mut row) = self.load(task.id)?;
            let due = self.admit(&spec, &mut row, task.live.task.updated_at)?;
            self.save(&spec, &mut row, state, due)?;
            state = row.state;
        }
        let message = format!("`{}` is {}", task.name, state.as_str());
        self.happen("task.created", Some(webhook), (task.delivery, Some(task.id)), message);
        for call in &task.calls {
            self.insert_call(call)?;
        }
        Ok(())
    }
}
