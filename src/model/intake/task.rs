//! The tasks that a delivery starts: rendered, with the calls that will answer for them.

use super::{Planner, prompt, says, source};
use crate::error::{Code, Error, Result};
use crate::model::forward;
use crate::model::ids::TaskId;
use crate::model::matching::Selected;
use crate::model::provider::{self, PreparedCall, PreparedLookup, Response};
use crate::model::spec::{Action, CommandSpec, ReplyMode};
use crate::model::task::{Calls, RunSettings, Source, TaskSpec};

/// A task to be written.
#[derive(Debug)]
pub struct PlannedTask {
    pub spec: TaskSpec,
    /// Asked before it may run.
    pub lookup: Option<PreparedLookup>,
    pub reply: Option<PreparedCall>,
    /// The task that this one goes on with, which waits for what was said.
    pub continues: Option<TaskId>,
    /// It runs no agent: these messages are all that it says.
    pub says: Option<Vec<String>>,
}

/// A task, and what the response to the delivery itself says for it.
type Planned = (PlannedTask, Option<Response>);

impl Planner<'_> {
    pub(super) fn task(&self, selected: &Selected, lookup: Option<&PreparedLookup>) -> Result<Planned> {
        let (spec, event) = (&self.grounds.route.spec, &self.item.event);
        let command = spec.command(selected.command.as_str()).ok_or_else(|| {
            Error::new(Code::Bug, format!("the command `{}` was selected and does not exist", selected.command))
        })?;
        let id = TaskId((self.lent.fresh_id)());
        let source = source::of(spec, event, self.delivery);
        let (text, missing) = self.text(command, selected, id, &source)?;
        let task = TaskSpec {
            id,
            delivery: Some(self.delivery),
            parent: None,
            webhook: spec.id.clone(),
            generation: self.grounds.route.generation,
            revision: self.revision,
            command: command.name.clone(),
            skill: command.source.clone(),
            agent: Some(command.target_agent.as_ref().unwrap_or(&spec.target_agent).clone()),
            action: command.action,
            prompt: text,
            prefixes: spec.prefixes.clone(),
            missing,
            source,
            priority: command.priority,
            max_attempts: spec.retries.saturating_add(1),
            run: RunSettings {
                model: command.model.clone(),
                tools: command.tools.clone(),
                max_turns: command.max_turns,
                budget_usd: command.budget_usd,
                timeout_seconds: command.timeout_seconds.unwrap_or(spec.timeout_seconds),
                approval: command.approval.clone().filter(|_| command.action.runs_agent()),
                daily: spec.budget,
                checkout: command.checkout.then(|| provider::checkout(&self.delivered)).flatten(),
                calls: command.action.runs_agent().then(|| self.calls(command)),
                authority: None,
            },
            webhook_concurrency: spec.concurrency_max,
            created_at: self.grounds.now,
        };
        let mut planned = PlannedTask { spec: task, lookup: lookup.cloned(), reply: None, continues: None, says: None };
        let response = match command.action {
            Action::CreateTask | Action::Ask => {
                planned.reply = match spec.reply {
                    ReplyMode::Comment => provider::reply_call(&self.delivered),
                    ReplyMode::None => None,
                };
                None
            }
            Action::Approve | Action::Reject => {
                planned.reply = provider::reply_call(&self.delivered);
                None
            }
            Action::Forward => {
                self.forward(command, &mut planned)?;
                None
            }
            Action::Comment | Action::Respond | Action::Help | Action::Status => self.speak(&mut planned)?,
        };
        Ok((planned, response))
    }

    fn calls(&self, command: &CommandSpec) -> Calls {
        Calls {
            provider: self.grounds.route.spec.provider.clone(),
            bound: provider::bound(&self.delivered),
            allowed: command.provider_calls.clone(),
        }
    }

    /// What the task is told, or says where it runs no agent; with the template's values that were missing.
    fn text(
        &self,
        command: &CommandSpec,
        selected: &Selected,
        id: TaskId,
        source: &Source,
    ) -> Result<(String, Vec<String>)> {
        match command.action {
            // What is said behind it names the task, or says why.
            Action::Approve | Action::Reject => return Ok((selected.args.clone(), Vec::new())),
            Action::Help if command.template.is_empty() => {
                return Ok((says::help(&self.grounds.route.spec), Vec::new()));
            }
            Action::Status if command.template.is_empty() => {
                let standing = (self.lent.standing)(&source.flow_id);
                return Ok((standing.unwrap_or_default(), Vec::new()));
            }
            Action::Forward if command.template.is_empty() => return Ok((self.item.payload.to_string(), Vec::new())),
            _ => {}
        }
        let template = (self.lent.template)(command)?;
        let facts = prompt::Facts {
            event: &self.item.event,
            args: &selected.args,
            command,
            webhook: &self.grounds.route.spec,
            task: id,
            source,
            now: self.grounds.now,
        };
        let rendered = template.render_visible(&prompt::context(&template, &self.item.payload, &facts))?;
        Ok((rendered.text, rendered.missing))
    }

    /// In the response to the delivery where people see that and nobody has to be asked first, else at the source.
    fn speak(&self, planned: &mut PlannedTask) -> Result<Option<Response>> {
        let spec = &planned.spec;
        let call = provider::reply_call(&self.delivered);
        // What can be asked is of our own making, and to be copied.
        let prefixes = if spec.action == Action::Help { &[][..] } else { &spec.prefixes };
        if spec.action.may_respond() && planned.lookup.is_none() {
            let text = match &call {
                Some(call) => says::messages(call, prefixes, &spec.prompt, spec.id)?,
                None => vec![says::safe(prefixes, &spec.prompt)?],
            };
            if let [text] = text.as_slice()
                && let Some(response) = provider::spoken_response(&self.delivered, text)
            {
                planned.says = Some(Vec::new());
                return Ok(Some(response));
            }
        }
        let Some(call) = call else {
            let message = "this event has no place where an answer could stand";
            return Err(Error::new(Code::ReplyTarget, message));
        };
        planned.says = Some(says::messages(&call, prefixes, &spec.prompt, spec.id)?);
        planned.reply = Some(call);
        Ok(None)
    }

    fn forward(&self, command: &CommandSpec, planned: &mut PlannedTask) -> Result<()> {
        let name = command.forward_to.as_deref().unwrap_or_default();
        let target = self.grounds.forward.get(name).ok_or_else(|| {
            Error::new(Code::ReplyTarget, format!("the operator has no target `{name}` to forward to"))
                .hint(format!("add `[forward.{name}]` with a `url` to `skillhook.toml`"))
        })?;
        if planned.spec.prompt.len() > forward::TEXT_BYTES_MAX {
            let message = format!("what is to be forwarded is larger than {} bytes", forward::TEXT_BYTES_MAX);
            return Err(Error::new(Code::TemplateLimit, message));
        }
        planned.says = Some(vec![planned.spec.prompt.clone()]);
        planned.reply = Some(PreparedCall::post(target.url()));
        Ok(())
    }
}
