//! `logs`, `retry`, `cancel`, `approve` and `reject`: one task, followed and steered.

use clap::Args;
use serde_json::Value;

use super::client::{Client, DEADLINE, Route};
use super::context::Context;
use super::exit::Exit;
use super::get::items_of;
use super::output::{BAD, CARE, STRONG, harmless, harmless_lines};
use super::sheet;
use crate::error::{Code, Error, Result};
use crate::model::task::TaskState;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skillhook logs tsk_0197a3c0de7d7f0b8a5d3c2b1a098765
  skillhook logs task/tsk_0197a3c0de7d7f0b8a5d3c2b1a098765 -f")]
pub struct Logs {
    /// The task's id
    task: String,
    /// Stay until the task has ended
    #[arg(short, long)]
    follow: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A task that is dead, cancelled, refused or succeeded is put in the queue again, with the prompt that it had.

Examples:
  skillhook retry tsk_0197a3c0de7d7f0b8a5d3c2b1a098765")]
pub struct Retry {
    /// The task's id
    task: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A task that waits is cancelled at once; a running one is asked to stop, and its agent is ended.

Examples:
  skillhook cancel tsk_0197a3c0de7d7f0b8a5d3c2b1a098765
  skillhook cancel tsk_0197a3c0de7d7f0b8a5d3c2b1a098765 -y")]
pub struct Cancel {
    /// The task's id
    task: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Say what would be cancelled, and cancel nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Lets a task run that waits for an approval. `skillhook get approvals` lists those, `skillhook describe task ID` shows
the prompt. With --digest the approval counts only if the prompt is still the one that was looked at.

Examples:
  skillhook approve tsk_0197a3c0de7d7f0b8a5d3c2b1a098765
  skillhook approve tsk_0197a3c0de7d7f0b8a5d3c2b1a098765 --digest 5f8b2c01a9d3")]
pub struct Approve {
    /// The task's id
    task: String,
    /// The SHA-256 of the prompt that was looked at, or its beginning
    #[arg(long, value_name = "SHA-256")]
    digest: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Ends a task that waits for an approval; its source is told so.

Examples:
  skillhook reject tsk_0197a3c0de7d7f0b8a5d3c2b1a098765
  skillhook reject tsk_0197a3c0de7d7f0b8a5d3c2b1a098765 --reason 'not before the release'")]
pub struct Reject {
    /// The task's id
    task: String,
    /// Said at the source
    #[arg(long)]
    reason: Option<String>,
}

impl Approve {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let route = Route::api(&["tasks", bare(&self.task), "approve"]).with_some("digest", self.digest);
        decided(context, route).await
    }
}

impl Reject {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let route = Route::api(&["tasks", bare(&self.task), "reject"]).with_some("reason", self.reason);
        decided(context, route).await
    }
}

async fn decided(context: &Context, route: Route) -> Result<Exit> {
    let task = context.client()?.post(route, DEADLINE).await?;
    context.output.value(&task, |task| format!("{}\n", one_line(task)));
    Ok(Exit::Done)
}

impl Logs {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let client = context.client()?;
        let id = bare(&self.task);
        let mut place = Place::default();
        let ended = place.read(&client, id, context).await?;
        if self.follow && !ended {
            follow(&client, id, &mut place, context).await?;
            place.read(&client, id, context).await?;
        }
        let silent = place.next == 0;
        if silent {
            context.output.note("the agent has not said anything");
        }
        if ended || self.follow || silent {
            let task = client.get(Route::api(&["tasks", id]), DEADLINE).await?;
            let reason = task.pointer("/reason/message").and_then(Value::as_str).map(harmless);
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            context.output.note(&format!("{}{reason}", one_line(&task)));
        }
        Ok(Exit::Done)
    }
}

/// How far a log has been printed.
#[derive(Default)]
struct Place {
    next: u64,
}

impl Place {
    /// Prints what there is, and tells whether the task has ended.
    async fn read(&mut self, client: &Client, id: &str, context: &Context) -> Result<bool> {
        loop {
            let told = client.get(Route::api(&["tasks", id, "logs"]).with("from", self.next), DEADLINE).await?;
            let ended = told["ended"].as_bool().unwrap_or(true);
            self.next = told["next"].as_u64().unwrap_or(self.next);
            let (lines, _) = items_of(told);
            lines.iter().for_each(|line| print(context, line));
            if lines.is_empty() || context.output.is_closed() {
                return Ok(ended);
            }
        }
    }
}

/// Prints what the agent says until its task has ended.
async fn follow(client: &Client, id: &str, place: &mut Place, context: &Context) -> Result<()> {
    let route = Route::api(&["stream"]).with("task", id).with("from", place.next);
    let mut told = client.follow(route).await?;
    // It may have ended before the stream began.
    let mut ended = has_ended(&client.get(Route::api(&["tasks", id]), DEADLINE).await?);
    while !ended && !context.output.is_closed() {
        let Some(told) = told.next().await? else { return Ok(()) };
        match told.kind.as_str() {
            "task.output" => {
                print(context, &told.data);
                place.next = told.data["number"].as_u64().map_or(place.next, |number| number + 1);
            }
            "stream.ended" => return Ok(()),
            _ => ended = has_ended(&client.get(Route::api(&["tasks", id]), DEADLINE).await?),
        }
    }
    Ok(())
}

impl Retry {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let task = context.client()?.post(Route::api(&["tasks", bare(&self.task), "retry"]), DEADLINE).await?;
        context.output.value(&task, |task| format!("{}\n", one_line(task)));
        Ok(Exit::Done)
    }
}

impl Cancel {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let client = context.client()?;
        let id = bare(&self.task);
        let task = client.get(Route::api(&["tasks", id]), DEADLINE).await?;
        if has_ended(&task) {
            return Err(Error::new(Code::WrongState, format!("the task has ended: {}", one_line(&task))));
        }
        if self.dry_run {
            context.output.value(&task, |task| format!("would cancel {}\n", one_line(task)));
            return Ok(Exit::Done);
        }
        if !self.yes && !context.output.confirmed(&format!("Cancel {}?", one_line(&task)))? {
            context.output.note("nothing was done");
            return Ok(Exit::Refused);
        }
        let task = cancelled(&client, id).await?;
        context.output.value(&task, |task| format!("{}\n", one_line(task)));
        Ok(Exit::Done)
    }
}

async fn cancelled(client: &Client, id: &str) -> Result<Value> {
    client.post(Route::api(&["tasks", id, "cancel"]), DEADLINE).await
}

/// The id out of `task/ID`, `approval/ID` or `dead-letter/ID`, as `-o name` prints it.
fn bare(task: &str) -> &str {
    let bare = |kind| task.strip_prefix(kind);
    bare("task/").or_else(|| bare("approval/")).or_else(|| bare("dead-letter/")).unwrap_or(task)
}

fn has_ended(task: &Value) -> bool {
    let state = serde_json::from_value::<TaskState>(task["state"].clone());
    state.is_ok_and(TaskState::is_terminal)
}

/// `task/ID queued: webhook github, command review`.
fn one_line(task: &Value) -> String {
    let said = |at: &[&str]| harmless(&sheet::text(sheet::find(task, at)));
    let (id, state) = (said(&["/id", "/spec/id"]), said(&["/state"]));
    let (webhook, command) = (said(&["/webhook", "/spec/webhook"]), said(&["/command", "/spec/command"]));
    format!("task/{id} {state}: webhook {webhook}, command {command}")
}

fn print(context: &Context, line: &Value) {
    if context.output.format.is_machine() {
        // One object a line: a log has no end to wait for.
        context.output.line(&line.to_string());
        return;
    }
    let at = line["at"].as_str().unwrap_or_default();
    let at = at.get(11..19).unwrap_or(at);
    let kind = line["kind"].as_str().unwrap_or_default();
    let style = match kind {
        "error" => BAD,
        "note" => CARE,
        _ => STRONG,
    };
    let text = harmless_lines(line["text"].as_str().unwrap_or_default());
    let text = text.trim_end().replace('\n', "\n                ");
    context.output.line(&format!("{} {style}{kind:<6}{style:#} {text}", harmless(at)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_task_is_named_in_one_line_in_either_shape() {
        let nested = json!({"spec": {"id": "tsk_1", "webhook": "github", "command": "review"}, "state": "queued"});
        let flat = json!({"id": "tsk_1", "webhook": "github", "command": "review", "state": "queued"});
        assert_eq!(one_line(&nested), "task/tsk_1 queued: webhook github, command review");
        assert_eq!(one_line(&nested), one_line(&flat));
    }

    #[test]
    fn only_states_that_last_have_ended() {
        for (state, ended) in
            [("running", false), ("checking", false), ("dead", true), ("succeeded", true), ("?", false)]
        {
            assert_eq!(has_ended(&json!({"state": state})), ended, "{state}");
        }
    }
}
