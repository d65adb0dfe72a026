//! What is said at the source when an attempt ends its task: the agent's answer, or in plain words why there is none.

use crate::ledger::Finish;
use crate::model::provider::PreparedCall;
use crate::model::secret::SecretValue;
use crate::model::spec::Action;
use crate::model::task::Task;
use crate::model::untrusted::Outgoing;

/// The messages for the source, made safe, marked and split; none when there is nothing to say.
pub(super) fn parts(call: &PreparedCall, task: &Task, finish: &Finish, known: Vec<SecretValue>) -> Vec<String> {
    let Some(text) = text(task, finish) else { return Vec::new() };
    if task.spec.action == Action::Forward {
        // A post to the operator's target: the text as it is, or nothing.
        return if matches!(finish, Finish::Succeeded { .. }) { vec![text] } else { Vec::new() };
    }
    let safe = safe(task, &text, known);
    match &call.reply {
        Some(traits) => traits.messages(&safe, task.spec.id),
        None => vec![safe],
    }
}

/// Without secrets, and without words that would start another run.
fn safe(task: &Task, text: &str, known: Vec<SecretValue>) -> String {
    match Outgoing::new(task.spec.prefixes.iter().map(String::as_str)) {
        Ok(outgoing) => outgoing.knowing(known).clean(text).text,
        Err(error) => {
            tracing::error!(task = %task.spec.id, error = error.internal(), "the answer cannot be made safe");
            format!("`{}` is done; its answer could not be shown here.", task.spec.command)
        }
    }
}

fn text(task: &Task, finish: &Finish) -> Option<String> {
    let command = &task.spec.command;
    match finish {
        Finish::Succeeded { result } | Finish::Asked { result, .. } => Some(if result.text.trim().is_empty() {
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
        Finish::Refused { reason } => Some(format!("`{command}` did not run: {} ({}).", reason.message, reason.code)),
        Finish::Cancelled { .. } => Some(format!("`{command}` was cancelled.")),
        Finish::Released { .. } => None,
    }
}
