//! A message that calls no command by its name may be what a task waits for.

use jiff::Timestamp;

use super::{Plan, PlannedAck, PlannedTask};
use crate::model::event::Event;
use crate::model::ids::TaskId;
use crate::model::matching::Selected;
use crate::model::provider::{PreparedCall, PreparedLookup};
use crate::model::task::{Source, Task, TaskSpec};
use crate::model::untrusted::for_prompt;

/// What somebody said in a conversation, who may start work there.
#[derive(Debug)]
pub struct Message {
    pub text: String,
    pub source: Source,
    /// Asked before it counts.
    pub lookup: Option<PreparedLookup>,
    pub reply: Option<PreparedCall>,
    pub ack: Option<PlannedAck>,
}

/// Whether the event is words of a person at all.
pub(super) fn text_of(event: &Event) -> Option<&str> {
    let speaks = event.carries_commands && !event.noop;
    event.text.as_deref().map(str::trim).filter(|text| speaks && !text.is_empty())
}

/// The task that tells somebody's answer to the one that asked.
pub fn answered(question: &TaskSpec, who: &str, text: &str, id: TaskId, now: Timestamp) -> TaskSpec {
    TaskSpec {
        id,
        parent: Some(question.id),
        prompt: format!(
            "You asked a question in this conversation. This is the answer of {}:\n\n{}\n\nGo on with the task.",
            for_prompt(who),
            for_prompt(text)
        ),
        missing: Vec::new(),
        created_at: now,
        ..question.clone()
    }
}

/// The plan, with a task that tells the message to the one that asked, in place of what else it started.
pub fn go_on(plan: &mut Plan, asked: &Task, message: Message, id: TaskId, now: Timestamp) {
    let question = &asked.spec;
    let who = message.source.actor.as_deref().unwrap_or("somebody");
    let spec = TaskSpec {
        delivery: Some(plan.delivery),
        source: Source { conversation_id: question.source.conversation_id.clone(), ..message.source.clone() },
        ..answered(question, who, &message.text, id, now)
    };
    let why = format!("it answers the question of task `{}`", question.id);
    plan.decision.selected = vec![Selected { command: spec.command.clone(), args: message.text, by_default: true }];
    for rule in &mut plan.decision.rules {
        let goes_on = rule.command == spec.command;
        if goes_on || rule.matched {
            rule.why = if goes_on { why.clone() } else { format!("{}, but {why}", rule.why) };
        }
        rule.matched = goes_on;
    }
    plan.decision.ignored = None;
    plan.response = None;
    plan.acks = message.ack.into_iter().collect();
    plan.tasks = vec![PlannedTask {
        lookup: message.lookup,
        reply: message.reply,
        continues: Some(question.id),
        says: None,
        spec,
    }];
}
