//! What people and dashboards follow: a numbered row for everything that happens, the latest of them kept.

use super::{Ledgers, Step};
use crate::ledger::rows::Happening;
use crate::ledger::store::kept::{SpecRow, TaskRow};
use crate::model::ids::{DeliveryId, TaskId, WebhookId};

/// So many happenings are kept.
pub const HAPPENINGS_MAX: u64 = if cfg!(test) { 1_000 } else { 100_000 };
/// They are dropped so many at a time.
const DROPPED_AT_ONCE: u64 = 256;
/// Longest message in bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;

impl Ledgers<'_, '_> {
    pub(super) fn note(&mut self, kind: &str, webhook: Option<&WebhookId>, message: &str) -> Step<()> {
        self.happen(kind, webhook, (None, None), message.to_owned())
    }

    pub(super) fn happen(
        &mut self,
        kind: &str,
        webhook: Option<&WebhookId>,
        (delivery, task): (Option<DeliveryId>, Option<TaskId>),
        mut message: String,
    ) -> Step<()> {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        let seq = self.memory.next_seq;
        let happening =
            Happening { seq, at: self.now, kind: kind.to_owned(), webhook: webhook.cloned(), delivery, task, message };
        self.tables.happenings.put(&seq.to_be_bytes(), &happening)?;
        self.memory.next_seq += 1;
        if self.memory.next_seq - self.memory.first_seq >= HAPPENINGS_MAX + DROPPED_AT_ONCE {
            for old in self.memory.first_seq..self.memory.first_seq + DROPPED_AT_ONCE {
                self.tables.happenings.remove(&old.to_be_bytes())?;
            }
            self.memory.first_seq += DROPPED_AT_ONCE;
        }
        Ok(())
    }

    pub(super) fn happen_to(&mut self, kind: &str, spec: &SpecRow, row: &TaskRow) -> Step<()> {
        let message = match &row.reason {
            Some(reason) => format!("`{}` is {}: {}", spec.spec.command, row.state.as_str(), reason.message),
            None => format!("`{}` is {}", spec.spec.command, row.state.as_str()),
        };
        self.happen(kind, Some(&spec.spec.webhook), (spec.spec.delivery, Some(spec.spec.id)), message)
    }
}
