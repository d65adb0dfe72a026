//! Conversations with the service: a message becomes a task, whose agent answers. Their history is that of the tasks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::changes::changes;
use super::listing::Listing;
use super::query::Query;
use super::request::Asked;
use super::state::ApiState;
use super::table::Operation;
use super::{not_found, ok, shown};
use crate::change::{Applied, Status, Wait};
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::ledger::{NewTask, TaskFilter};
use crate::model::change::{Authority, ChangeSet, Origin, Shown};
use crate::model::chat::{self, Message};
use crate::model::ids::{AgentName, TaskId};
use crate::model::task::{Agreed, CHANGE, Task};
use crate::seam::fresh_id;

/// Messages that are looked through for conversations.
const MESSAGES_MAX: usize = 10_000;
/// Of those so many at once.
const READ_AT_ONCE: usize = 500;
/// Longest name of a conversation in characters.
const CONVERSATION_CHARS_MAX: usize = 64;

/// Something that is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Say {
    message: String,
    /// The conversation that it belongs to; without it, one begins.
    #[serde(default)]
    conversation: Option<String>,
    /// The agent that answers; `brain` if not given.
    #[serde(default)]
    agent: Option<String>,
    /// The person wants what the message asks for to be done at once.
    #[serde(default)]
    confirm: bool,
    /// The digest of the change that the person has seen and agrees to, as `GET …/messages` tells it. Without it, `yes`
    /// agrees to what was shown last.
    #[serde(default)]
    digest: Option<String>,
}

/// One of the operations on conversations.
pub async fn answer(state: &ApiState, operation: Operation, id: &str, asked: &Asked<'_>) -> Result<Answer> {
    match operation {
        Operation::Conversations => conversations(state, asked.query).await.map(|value| ok(&value)),
        Operation::Conversation => conversation(state, id).await.map(|value| ok(&value)),
        Operation::Messages => messages(state, id, asked.query).await.map(|value| ok(&value)),
        _ => say(state, asked).await,
    }
}

/// Begins the task that answers a message.
async fn say(state: &ApiState, asked: &Asked<'_>) -> Result<Answer> {
    let say: Say = asked.json()?;
    let text = say.message.trim();
    if text.is_empty() || text.len() > chat::MESSAGE_BYTES_MAX {
        let message = format!("a message has between 1 and {} bytes", chat::MESSAGE_BYTES_MAX);
        return Err(Error::new(Code::Usage, message));
    }
    let view = state.index.current();
    let view = view.ok_or_else(|| Error::new(Code::NotReady, "the first pass has not been applied yet"))?;
    let name = say.agent.as_deref().unwrap_or(chat::AGENT_DEFAULT);
    let agent = AgentName::parse(name).map_err(|message| Error::new(Code::Usage, message))?;
    if !view.agents.iter().any(|known| known.name == agent) {
        return Err(not_found("agent", name));
    }
    let known = match &say.conversation {
        Some(id) => Some(known(state, id).await?),
        None => None,
    };
    let yes = chat::agrees(text);
    let agreed = match known.as_ref().filter(|_| yes || say.digest.is_some()) {
        Some(known) => agree(state, known, say.digest.as_deref(), asked).await?,
        None => None,
    };
    // A bare yes agrees to what was shown before; with nothing shown, there is nothing to agree to.
    let confirmed = say.confirm && !yes && agreed.is_none();
    let applied = agreed.as_ref().map(|agreed| agreed.applied);
    let conversation = known.map_or_else(|| format!("cnv_{}", fresh_id().simple()), |known| known.id);
    let message = Message {
        conversation: conversation.clone(),
        text: text.to_owned(),
        agent,
        actor: asked.caller.actor(),
        confirmed,
        agreed,
    };
    let id = TaskId(fresh_id());
    // What was agreed to is in force by now, and the run sees it.
    let revision = state.index.current().map_or(view.revision, |now| now.revision);
    let spec = chat::task(id, &message, revision, state.clock.now());
    let task = NewTask { spec, lookup: None, reply: None, continues: None, says: None };
    state.ledger.create(task, &chat::provider(), state.clock.now()).await?;
    let answer = json!({
        "conversation": conversation, "task": id, "confirmed": confirmed || applied == Some(true), "applied": applied,
    });
    Ok(Answer::json(StatusCode::ACCEPTED, &answer))
}

/// Carries out the change that was shown last, exactly as it was shown. What stands in its way is for the agent to tell,
/// with what would have to be done now.
async fn agree(state: &ApiState, known: &Known, digest: Option<&str>, asked: &Asked<'_>) -> Result<Option<Agreed>> {
    if known.tasks.first().is_some_and(|task| !task.state.is_terminal()) {
        return Err(Error::new(Code::Conflict, "the last message is not answered yet: there is nothing to agree to"));
    }
    // Without its digest it is what the last answer showed: whoever has said something since may mean that.
    let last = known.tasks.first().map(|task| task.spec.id);
    let Some((task, shown)) = known.shown().filter(|(task, _)| digest.is_some() || Some(*task) == last) else {
        return match digest {
            Some(_) => Err(Error::new(Code::Outdated, "no change of this conversation waits for somebody to agree")),
            None => Ok(None),
        };
    };
    if digest.is_some_and(|digest| digest != shown.digest.to_string()) {
        let message = format!("another change was shown since: it has the digest {}", shown.digest);
        return Err(Error::new(Code::Outdated, message).hint("look at it, and agree to that one"));
    }
    let set = ChangeSet {
        edits: shown.edits,
        title: format!("Apply what {task} has shown"),
        authority: Authority::of_person(Origin::Chat, asked.caller.actor()),
        proposal: None,
    };
    let made = changes(state)?.apply(set, Wait::Committed).await;
    if let Ok(Applied { index_digest: Some(digest), .. }) = &made {
        state.index.shows(*digest).await;
    }
    let (applied, outcome) = match made {
        Ok(made) if made.status == Status::Proposed => {
            let branch = made.branch.unwrap_or_default();
            (true, format!("here changes are not made at once, it is a proposal on the branch `{branch}`."))
        }
        Ok(made) => {
            let commit = made.commit.map(|commit| format!(" and committed as `{commit}`")).unwrap_or_default();
            (true, format!("it is in force{commit}."))
        }
        Err(refused) => {
            let found: Vec<String> = refused.diagnostics.iter().map(ToString::to_string).collect();
            let message =
                format!("it could not be made, and nothing was changed: {} {}", refused.error, found.join("; "));
            (false, format!("{} Propose what would be right now, and show that.", message.trim_end()))
        }
    };
    Ok(Some(Agreed { task, applied, outcome }))
}

/// The conversations, the one with the newest message first.
async fn conversations(state: &ApiState, query: &Query) -> Result<Value> {
    let mut known: BTreeMap<String, Vec<Task>> = BTreeMap::new();
    for task in newest(state, None).await? {
        known.entry(task.spec.source.conversation_id.clone()).or_default().push(task);
    }
    let items = known.iter().map(|(id, tasks)| summary(id, tasks)).collect();
    Listing { name: "id", order: "-updated_at" }.page(query, items)
}

async fn conversation(state: &ApiState, id: &str) -> Result<Value> {
    let known = known(state, id).await?;
    Ok(summary(id, &known.tasks))
}

/// What was said, the oldest first: each message and, as far as there is one, its answer.
async fn messages(state: &ApiState, id: &str, query: &Query) -> Result<Value> {
    let mut items = Vec::new();
    for task in known(state, id).await?.tasks.iter().rev() {
        let (spec, source) = (&task.spec, &task.spec.source);
        let number = items.len();
        items.push(json!({ "number": number, "role": "user", "text": source.text, "actor": source.actor, "at": spec.created_at }));
        items.push(json!({
            "number": number + 1,
            "role": "agent",
            "text": task.result.as_ref().map(|result| &result.text).filter(|text| !text.is_empty()),
            "task": spec.id,
            "state": task.state,
            "shows": shown_by(task).map(|shown| json!({
                "digest": shown.digest,
                "files": shown.edits.iter().map(|edit| &edit.path).collect::<Vec<_>>(),
            })),
            "reason": shown(&task.reason)?,
            "at": task.updated_at,
        }));
    }
    Listing::by("number").page(query, items)
}

struct Known {
    id: String,
    /// The newest first.
    tasks: Vec<Task>,
}

impl Known {
    /// The change that was shown last, unless it was made since.
    fn shown(&self) -> Option<(TaskId, Shown)> {
        let made: Vec<TaskId> = self.tasks.iter().filter_map(made).collect();
        let (task, shown) = self.tasks.iter().find_map(|task| Some((task.spec.id, shown_by(task)?)))?;
        (!made.contains(&task)).then_some((task, shown))
    }
}

fn made(task: &Task) -> Option<TaskId> {
    task.spec.source.agreed.as_ref().filter(|agreed| agreed.applied).map(|agreed| agreed.task)
}

fn shown_by(task: &Task) -> Option<Shown> {
    Shown::read(task.result.as_ref()?.artefacts.get(CHANGE)?)
}

async fn known(state: &ApiState, id: &str) -> Result<Known> {
    let fits = id.chars().count() <= CONVERSATION_CHARS_MAX;
    let tasks = if fits { newest(state, Some(id)).await? } else { Vec::new() };
    match tasks.first() {
        Some(task) => Ok(Known { id: task.spec.source.conversation_id.clone(), tasks }),
        None => Err(not_found("conversation", id)),
    }
}

/// The newest messages first, of one conversation or of all.
async fn newest(state: &ApiState, conversation: Option<&str>) -> Result<Vec<Task>> {
    let mut tasks: Vec<Task> = Vec::new();
    while tasks.len() < MESSAGES_MAX {
        let before = tasks.last().map(|task| task.spec.id);
        let webhook = Some(chat::webhook());
        let filter = TaskFilter { webhook, before, limit: READ_AT_ONCE, ..TaskFilter::default() };
        let page = state.ledger.tasks(filter).await?;
        let is_last = page.len() < READ_AT_ONCE;
        tasks.extend(page);
        if is_last {
            break;
        }
    }
    tasks.retain(|task| {
        let source = &task.spec.source;
        source.event == chat::EVENT
            && task.spec.parent.is_none()
            && conversation.is_none_or(|id| source.conversation_id == id)
    });
    Ok(tasks)
}

fn summary(id: &str, tasks: &[Task]) -> Value {
    let (newest, oldest) = (tasks.first(), tasks.last());
    json!({
        "id": id,
        "messages": tasks.len(),
        "created_at": oldest.map(|task| task.spec.created_at),
        "created_by": oldest.and_then(|task| task.spec.source.actor.clone()),
        "title": oldest.and_then(|task| task.spec.source.text.as_ref()).map(|text| crate::model::change::title(text)),
        "updated_at": newest.map(|task| task.updated_at),
        "state": newest.map(|task| task.state),
    })
}
