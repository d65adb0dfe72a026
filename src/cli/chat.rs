//! `chat`: a conversation with the running service. Each message is a task; what its agent does is shown as it does it.

use std::io::BufRead as _;
use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::client::{Client, DEADLINE, Route};
use super::context::Context;
use super::exit::Exit;
use super::get::items_of;
use super::output::{STRONG, harmless_lines};
use crate::error::{Code, Error, Result};
use crate::model::change::Shown;
use crate::model::chat;
use crate::model::task::CHANGE;

/// How often the log of the running task is asked for more.
const FOLLOW_EVERY: Duration = Duration::from_millis(300);

#[derive(Debug, Args)]
#[command(after_help = "\
Without MESSAGE the conversation goes on until the input ends; an empty line is passed over.
What the agent wants to change becomes a proposal (a branch). `yes` as the next message applies exactly what was shown;
--yes with a message lets the agent do what it asks for without showing it first. Then it is written, in force at once,
and committed.

Examples:
  skillhook chat 'Which webhooks do we have?'
  skillhook chat --yes 'Add a command to review PRs to the GitHub webhook'
  skillhook chat --conversation cnv_0197a3c0de7d7f0b8a5d3c2b1a098765 yes")]
pub struct Chat {
    /// What to say
    #[arg(value_name = "MESSAGE")]
    message: Vec<String>,
    /// Go on with this conversation
    #[arg(long, value_name = "ID")]
    conversation: Option<String>,
    /// The agent that answers; brain if not given
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Confirm what the message asks for: changes are made at once
    #[arg(short, long)]
    yes: bool,
}

impl Chat {
    pub async fn run(self, context: &Context) -> Result<Exit> {
        let client = context.client()?;
        let mut conversation = self.conversation.clone();
        if !self.message.is_empty() {
            return self.say(context, &client, (&mut conversation, &mut None), &self.message.join(" ")).await;
        }
        let mut seen = None;
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Error::new(Code::Usage, "the input cannot be read").detail(error))?;
            if line.trim().is_empty() {
                continue;
            }
            let exit = self.say(context, &client, (&mut conversation, &mut seen), &line).await?;
            if exit != Exit::Done || context.output.is_closed() {
                return Ok(exit);
            }
        }
        Ok(Exit::Done)
    }

    async fn say(
        &self,
        context: &Context,
        client: &Client,
        (conversation, seen): (&mut Option<String>, &mut Option<String>),
        text: &str,
    ) -> Result<Exit> {
        let mut body = json!({ "message": text, "confirm": self.yes });
        if let Some(digest) = seen.take().filter(|_| chat::agrees(text)) {
            body["digest"] = json!(digest);
        }
        if let Some(id) = &conversation {
            body["conversation"] = json!(id);
        }
        if let Some(agent) = &self.agent {
            body["agent"] = json!(agent);
        }
        let begun = client.send(Method::POST, Route::api(&["chat"]), &body, DEADLINE).await?;
        let task = begun["task"].as_str().unwrap_or_default().to_owned();
        if conversation.is_none() {
            *conversation = begun["conversation"].as_str().map(str::to_owned);
            context.output.note(&format!("conversation {}", conversation.as_deref().unwrap_or_default()));
        }
        follow(context, client, &task).await?;
        let ended = client.get(Route::api(&["tasks", &task]), DEADLINE).await?;
        let state = ended["state"].as_str().unwrap_or_default();
        if let Some(shown) = ended.pointer(&format!("/result/artefacts/{CHANGE}")).and_then(Value::as_str)
            && let Some(shown) = Shown::read(shown)
        {
            let files: Vec<&str> = shown.edits.iter().map(|edit| edit.path.as_str()).collect();
            context.output.note(&format!("`yes` applies the change {} of {}", shown.digest, files.join(", ")));
            *seen = Some(shown.digest.to_string());
        }
        context.output.value(&shown(&ended, conversation.as_deref()), |shown| {
            format!("{}\n", harmless_lines(shown["answer"].as_str().unwrap_or_default()))
        });
        Ok(if state == "succeeded" { Exit::Done } else { Exit::Difference })
    }
}

/// Shows what the agent does, until the task has ended.
async fn follow(context: &Context, client: &Client, task: &str) -> Result<()> {
    let mut from = 0;
    loop {
        let told = client.get(Route::api(&["tasks", task, "logs"]).with("from", from), DEADLINE).await?;
        let ended = told["ended"].as_bool().unwrap_or(true);
        from = told["next"].as_u64().unwrap_or(from);
        let (lines, _) = items_of(told);
        for line in &lines {
            let (kind, text) = (line["kind"].as_str().unwrap_or_default(), line["text"].as_str().unwrap_or_default());
            if kind != "agent" {
                context.output.note(&format!("{STRONG}{kind}{STRONG:#} {}", harmless_lines(text)));
            }
        }
        if context.output.is_closed() || (lines.is_empty() && ended) {
            return Ok(());
        }
        if lines.is_empty() {
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }
}

fn shown(task: &Value, conversation: Option<&str>) -> Value {
    let answer = task.pointer("/result/text").and_then(Value::as_str).filter(|text| !text.is_empty());
    let reason = task.pointer("/reason/message").and_then(Value::as_str);
    json!({
        "conversation": conversation,
        "task": task["id"],
        "state": task["state"],
        "answer": answer.or(reason).unwrap_or("the agent said nothing"),
    })
}
