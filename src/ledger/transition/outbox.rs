//! Calls to providers: claimed durably before they are made, so that a crash leaves a mark.

use jiff::Timestamp;

use super::{Ledgers, Step};
use crate::error::{Code, Error};
use crate::ledger::command::OutboxDone;
use crate::ledger::memory::Due;
use crate::ledger::rows::{OutboxItem, OutboxState};
use crate::ledger::store::Failure;
use crate::ledger::store::kept::{CallRow, OutboxRow, PendingRow};
use crate::ledger::store::tables::join;
use crate::model::backoff;
use crate::model::ids::OutboxId;
use crate::model::task::Reason;

impl Ledgers<'_, '_> {
    /// With each item whether a call may already have gone out for it.
    pub(super) fn claim_outbox(&mut self, now: Timestamp, limit: usize) -> Step<Vec<(OutboxItem, bool)>> {
        let mut claimed = Vec::new();
        for id in self.memory.outbox.due(now, limit) {
            match self.load_call(id) {
                Ok((call, mut pending)) => {
                    pending.in_doubt |= pending.is_sending();
                    pending.item.state = OutboxState::Sending;
                    pending.item.attempts += 1;
                    pending.item.updated_at = now;
                    self.save_pending(id, &pending, true)?;
                    claimed.push((pending.item.with(call), pending.in_doubt));
                }
                Err(Failure::Refused(error)) => self.lay_call_aside(id, &error)?,
                Err(storage) => return Err(storage),
            }
        }
        Ok(claimed)
    }

    pub(super) fn outbox_done(&mut self, done: &OutboxDone) -> Step<()> {
        let id = done.id;
        let (call, mut pending) = self.load_call(id)?;
        if !pending.is_sending() {
            return Err(not_sending(id).into());
        }
        let row = &mut pending.item;
        row.state = done.state;
        row.updated_at = self.now;
        // What waits without a reason was not tried, and keeps what was wrong before.
        let untried = done.state == OutboxState::Waiting && done.error.is_none();
        if untried {
            row.attempts = row.attempts.saturating_sub(1);
        } else {
            row.error.clone_from(&done.error);
        }
        if done.url.is_some() {
            row.url.clone_from(&done.url);
        }
        match done.state {
            OutboxState::Sending => Err(Error::new(Code::Usage, "a call is never done by being `sending`").into()),
            OutboxState::Waiting => {
                let mut due = Due::until(self.now, done.not_before);
                due.delay_ms = due.delay_ms.min(u64::try_from(backoff::WAIT_MAX.as_millis()).unwrap_or(u64::MAX));
                let due = due.clamped(self.now);
                row.not_before = due.at;
                pending.delay_ms = due.delay_ms;
                // Doubt stays until the call is done: a definite answer to a look-up says nothing of earlier calls.
                pending.in_doubt |= done.error.as_ref().is_some_and(|reason| leaves_doubt(reason.code));
                self.save_pending(id, &pending, false)
            }
            OutboxState::Sent | OutboxState::Failed => {
                self.tables.outbox.put(&call_key(id, &pending), &pending.item)?;
                self.tables.pending.remove(id.as_bytes())?;
                self.memory.outbox.remove(id);
                *self.work = true;
                self.happen_to_call(&call.0, &pending.item);
                Ok(())
            }
        }
    }

    /// The claim reached nobody: as if it had not been.
    pub(super) fn unclaim(&mut self, ids: &[OutboxId]) -> Step<()> {
        for id in ids {
            let Ok((_, mut pending)) = self.load_call(*id) else { continue };
            if pending.is_sending() {
                pending.item.state = OutboxState::Waiting;
                pending.item.attempts = pending.item.attempts.saturating_sub(1);
                self.save_pending(*id, &pending, false)?;
            }
        }
        Ok(())
    }

    fn load_call(&self, id: OutboxId) -> Step<(CallRow, PendingRow)> {
        let pending = self.tables.pending.get(id.as_bytes())?.ok_or_else(|| not_sending(id))?;
        let call = self.tables.calls.get(&call_key(id, &pending))?.ok_or_else(|| call_missing(id))?;
        Ok((call, pending))
    }

    fn save_pending(&mut self, id: OutboxId, pending: &PendingRow, claimed: bool) -> Step<()> {
        self.tables.pending.put(id.as_bytes(), pending)?;
        self.memory.outbox.put(id, pending, claimed);
        *self.work |= !claimed;
        Ok(())
    }

    /// A call whose rows are damaged can never be made: it must not hold up the next part.
    fn lay_call_aside(&mut self, id: OutboxId, error: &Error) -> Step<()> {
        tracing::error!(call = %id, error = %error.internal(), "a call cannot be read and is given up");
        self.memory.outbox.remove(id);
        match self.tables.pending.get(id.as_bytes()) {
            Ok(Some(pending)) => {
                let (state, error) = (OutboxState::Failed, Some(Reason::from(error)));
                let row = OutboxRow { state, error, updated_at: self.now, ..pending.item.clone() };
                self.tables.outbox.put(&call_key(id, &pending), &row)?;
            }
            Ok(None) | Err(Failure::Refused(_)) => {}
            Err(storage) => return Err(storage),
        }
        self.tables.pending.remove(id.as_bytes())?;
        Ok(())
    }

    fn happen_to_call(&mut self, item: &OutboxItem, row: &OutboxRow) {
        let part = format!("part {} of {}", item.part + 1, item.parts.max(1));
        let (kind, message) = match (&row.error, row.state) {
            (_, OutboxState::Sent) => ("reply.sent", part),
            (Some(reason), _) => ("reply.failed", format!("{part}: {}", reason.message)),
            (None, _) => ("reply.failed", part),
        };
        self.happen(kind, Some(&item.webhook), (item.delivery, item.task), message);
    }
}

fn call_key(id: OutboxId, pending: &PendingRow) -> Vec<u8> {
    join(pending.owner(id).as_bytes(), id.as_bytes())
}

/// Whether a call that ended like this may have reached the provider all the same.
fn leaves_doubt(code: Code) -> bool {
    !matches!(
        code,
        Code::ReplyRefused
            | Code::ReplyTarget
            | Code::RateLimited
            | Code::SecretMissing
            | Code::CredentialRefused
            | Code::PermissionDenied
            | Code::Refused
            | Code::NotFound
    )
}

fn call_missing(id: OutboxId) -> Error {
    Error::new(Code::LedgerDamaged, format!("a row of outbox item `{id}` is missing in the ledger"))
}

fn not_sending(id: OutboxId) -> Error {
    Error::new(Code::WrongState, format!("outbox item `{id}` is not being sent"))
}
