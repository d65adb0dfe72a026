//! What people and dashboards follow: everything that happens is numbered, and the latest of it is kept. What somebody
//! did is kept apart too, and longer.

use super::{Ledgers, Memory, Step};
use crate::ledger::rows::{Deed, Happening, Used};
use crate::ledger::store::kept::{HappeningRow, SpecRow, TaskRow};
use crate::ledger::store::tables::Tables;
use crate::model::ids::{DeliveryId, TaskId, WebhookId};
use crate::model::task::{TaskSpec, TaskState};

/// So many happenings are kept, and up to one commit's more.
pub const HAPPENINGS_MAX: u64 = if cfg!(test) { 1_000 } else { 100_000 };
/// Most happenings in one row.
const HAPPENINGS_A_ROW: usize = 500;
/// Most rows that one commit drops.
const ROWS_DROPPED_MAX: usize = 64;
/// Longest message in bytes.
const MESSAGE_BYTES_MAX: usize = 2_000;

impl Ledgers<'_, '_> {
    pub(super) fn note(&mut self, kind: &str, webhook: Option<&WebhookId>, message: &str) {
        self.happen(kind, webhook, (None, None), message.to_owned());
    }

    pub(super) fn happen(
        &mut self,
        kind: &str,
        webhook: Option<&WebhookId>,
        (delivery, task): (Option<DeliveryId>, Option<TaskId>),
        message: String,
    ) {
        let (kind, webhook) = (kind.to_owned(), webhook.cloned());
        self.number(Happening {
            seq: 0,
            at: self.now,
            kind,
            webhook,
            delivery,
            task,
            message,
            actor: None,
            used: None,
        });
    }

    pub(super) fn record(&mut self, deed: &Deed) {
        let Deed { kind, actor, webhook, delivery, task, message } = deed.clone();
        let (at, actor) = (self.now, Some(actor));
        self.number(Happening { seq: 0, at, kind, webhook, delivery, task, message, actor, used: None });
    }

    fn number(&mut self, mut happening: Happening) {
        let message = &mut happening.message;
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        happening.seq = self.memory.next_seq;
        self.memory.next_seq += 1;
        self.happened.push(happening);
    }

    pub(super) fn happen_to(&mut self, kind: &str, spec: &SpecRow, row: &TaskRow) {
        self.happen(kind, Some(&spec.spec.webhook), (spec.spec.delivery, Some(spec.spec.id)), standing(spec, row));
    }

    /// As [`Self::happen_to`], with who did it.
    pub(super) fn done_to(&mut self, kind: &str, actor: String, spec: &SpecRow, row: &TaskRow) {
        self.record(&Deed {
            kind: kind.to_owned(),
            actor,
            webhook: Some(spec.spec.webhook.clone()),
            delivery: spec.spec.delivery,
            task: Some(spec.spec.id),
            message: standing(spec, row),
        });
    }

    /// What a running task has used so far. One that has ended meanwhile has said so itself.
    pub(super) fn measured(&mut self, id: TaskId, used: Used) -> Step<()> {
        let (spec, row) = self.load(id)?;
        if row.state == TaskState::Running {
            self.used(&spec.spec, used);
        }
        Ok(())
    }

    pub(super) fn used(&mut self, spec: &TaskSpec, used: Used) {
        let message = format!("{} tokens in, {} tokens out", used.input_tokens, used.output_tokens);
        self.number(Happening {
            seq: 0,
            at: self.now,
            kind: "task.metrics".to_owned(),
            webhook: Some(spec.webhook.clone()),
            delivery: spec.delivery,
            task: Some(spec.id),
            message,
            actor: None,
            used: Some(used),
        });
    }
}

fn standing(spec: &SpecRow, row: &TaskRow) -> String {
    match &row.reason {
        Some(reason) => format!("`{}` is {}: {}", spec.spec.command, row.state.as_str(), reason.message),
        None => format!("`{}` is {}", spec.spec.command, row.state.as_str()),
    }
}

/// At the end of a commit: writes what happened in it, and drops the oldest.
pub fn write_happenings(tables: &mut Tables<'_>, memory: &mut Memory, happened: Vec<Happening>) -> Step<()> {
    for deed in happened.iter().filter(|happening| happening.actor.is_some()) {
        tables.deeds.put(&deed.seq.to_be_bytes(), deed)?;
    }
    let mut happened = happened.into_iter().peekable();
    while let Some(first) = happened.peek().map(|happening| happening.seq) {
        let happenings = happened.by_ref().take(HAPPENINGS_A_ROW).collect();
        tables.happenings.put(&first.to_be_bytes(), &HappeningRow { happenings })?;
    }
    if memory.next_seq - memory.first_seq <= HAPPENINGS_MAX + HAPPENINGS_A_ROW as u64 {
        return Ok(());
    }
    // A row may go when the one behind it still has all that is to be kept.
    let oldest = memory.next_seq - HAPPENINGS_MAX;
    let keys = tables.happenings.keys_under(&[], ROWS_DROPPED_MAX)?;
    for (key, next) in keys.iter().zip(keys.iter().skip(1)) {
        let Some(next) = <[u8; 8]>::try_from(next.as_slice()).ok().map(u64::from_be_bytes) else { continue };
        if next > oldest {
            break;
        }
        tables.happenings.remove(key)?;
        memory.first_seq = next;
    }
    Ok(())
}
