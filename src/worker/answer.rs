//! What is said at the source when an attempt ends its task: the agent's answer, or in plain words why there is none.

use crate::ledger::Finish;
use crate::model::provider::PreparedCall;
use crate::model::task::Task;
use crate::model::untrusted;

/// The messages for the source, made safe, marked and split; none when there is nothing to say.
pub(super) fn parts(call: &PreparedCall, task: &Task, finish: &Finish) -> Vec<String> {
    let Some(text) = text(task, finish) else { return Vec::new() };
    let safe = untrusted::outgoing(&text);
    match &call.reply {
        Some(traits) => traits.messages(&safe, task.spec.id),
        None => vec![safe],
    }
}

fn text(task: &Task, finish: &Finish) -> Option<String> {
    let command = &task.spec.command;
    match finish {
        Finish::Succeeded { result } => Some(if result.text.trim().is_empty() {
            format!("`{command}` is done; the agent had nothing to say about it.")
        } else {
            result.text.clone()
        }),
        Finish::Failed { reason, .. } | Finish::Dead { reason, .. } => {
            let id = task.spec.id;
            Some(format!(
                "`{command}` failed: {} ({}). A person with access to the service can try again with `skillhook retry {id}`.",
                reason.message, reason.code
            ))
        }
        Finish::Cancelled { .. } => Some(format!("`{command}` was cancelled.")),
        Finish::Released { .. } => None,
    }
}
