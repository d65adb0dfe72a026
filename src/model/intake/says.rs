//! What commands say that run no agent.

use std::fmt::Write as _;

use crate::error::Result;
use crate::model::ids::TaskId;
use crate::model::provider::PreparedCall;
use crate::model::spec::{CommandSpec, WebhookSpec};
use crate::model::task::{Task, TaskState};
use crate::model::untrusted::Outgoing;

/// Most tasks that a `status` names.
const NAMED_MAX: usize = 10;

/// The messages that a text becomes at its place: without secrets, and without the words that start runs.
pub fn messages(call: &PreparedCall, prefixes: &[String], text: &str, task: TaskId) -> Result<Vec<String>> {
    let safe = safe(prefixes, text)?;
    Ok(match &call.reply {
        Some(traits) => traits.messages(&safe, task),
        None => vec![safe],
    })
}

pub fn safe(prefixes: &[String], text: &str) -> Result<String> {
    Ok(Outgoing::new(prefixes.iter().map(String::as_str))?.clean(text).text)
}

/// What can be asked of a webhook. The calls stand in code, where they call nothing.
pub fn help(spec: &WebhookSpec) -> String {
    let prefix = spec.prefixes.first().map(|prefix| format!("{prefix} ")).unwrap_or_default();
    let mut text = "This can be asked here:\n\n".to_owned();
    let (called, caused): (Vec<&CommandSpec>, Vec<&CommandSpec>) =
        spec.commands.iter().partition(|command| command.triggers.is_empty() || command.requires_prefix);
    for command in called {
        let _ = write!(text, "- `{prefix}{}`", command.name);
        if !command.aliases.is_empty() {
            let _ = write!(text, " (also `{}`)", command.aliases.join("`, `"));
        }
        if spec.default_command.as_ref() == Some(&command.name) {
            text.push_str(", when no other is named");
        }
        text.push_str(&described(command));
    }
    if !caused.is_empty() {
        text.push_str("\nThese run by themselves:\n\n");
        for command in caused {
            let _ = write!(text, "- `{}` on `{}`", command.name, command.triggers.join("`, `"));
            text.push_str(&described(command));
        }
    }
    text
}

fn described(command: &CommandSpec) -> String {
    match command.description.trim() {
        "" => "\n".to_owned(),
        description => format!(": {description}\n"),
    }
}

/// What runs and waits in a conversation, of `tasks` that are newest first, and what it ended with.
pub fn standing<'t>(tasks: impl Iterator<Item = &'t Task>) -> String {
    let (mut open, mut ended) = (Vec::new(), None);
    for task in tasks.filter(|task| task.spec.action.runs_agent()) {
        match task.state.is_terminal() {
            false => open.push(task),
            true if ended.is_none() => ended = Some(task),
            true => {}
        }
    }
    let mut text = match open.len() {
        0 => "Nothing runs or waits in this conversation.\n".to_owned(),
        1 => "In this conversation there is one task:\n\n".to_owned(),
        several => format!("In this conversation there are {several} tasks:\n\n"),
    };
    for task in open.iter().take(NAMED_MAX) {
        let _ = writeln!(
            text,
            "- `{}` {}{}, since {} (`{}`)",
            task.spec.command,
            doing(task.state),
            why(task),
            time(task),
            task.spec.id
        );
    }
    if let Some(task) = ended {
        let _ = write!(
            text,
            "\nThe last one to end was `{}`: it {}{} at {} (`{}`).\n",
            task.spec.command,
            doing(task.state),
            why(task),
            time(task),
            task.spec.id
        );
    }
    text
}

fn doing(state: TaskState) -> &'static str {
    match state {
        TaskState::Checking => "waits to hear whether its author may start it",
        TaskState::AwaitingApproval => "waits for an approval",
        TaskState::Queued => "waits for its turn",
        TaskState::Running => "runs",
        TaskState::WaitingInput => "waits for an answer to its question",
        TaskState::Succeeded => "succeeded",
        TaskState::Dead => "failed",
        TaskState::Cancelled => "was cancelled",
        TaskState::Refused => "was refused",
        TaskState::Expired => "was waited for in vain",
    }
}

fn why(task: &Task) -> String {
    task.reason.as_ref().map(|reason| format!(" ({})", reason.message)).unwrap_or_default()
}

fn time(task: &Task) -> String {
    task.updated_at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
