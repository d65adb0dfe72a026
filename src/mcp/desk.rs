//! Answers calls of tools, in the service, with the authority of the task that the caller's token was made for.

use std::sync::{Arc, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::grants::Granted;
use super::tools::{
    AddCommand, CreateTask, Files, GetTask, Named, Nothing, OpenPullRequest, ProviderCall, PutAgent, PutSkill,
};
use crate::change::operations;
use crate::change::{Changes, Refused, Wait};
use crate::error::{Code, Error, Result};
use crate::ledger::{Ledger, NewTask};
use crate::model::change::{ChangeSet, Edit, Expect};
use crate::model::chat;
use crate::model::digest::Digest;
use crate::model::entry::WebhookEntry;
use crate::model::ids::{AgentName, ProviderName, SkillName, TaskId, WebhookId};
use crate::model::snapshot::skill_path;
use crate::model::task::{Task, TaskSpec};
use crate::outward::{Asked, Outward, PullRequest};
use crate::seam::{Clock, fresh_id};

/// Tasks that one run may start.
const CHILDREN_MAX: usize = 5;
/// Calls to providers that one run may ask for.
const CALLS_MAX: usize = 200;
/// How many tasks may stand above one another.
const DEPTH_MAX: usize = 3;
/// Longest prompt of a task that a run starts, in bytes.
const PROMPT_BYTES_MAX: usize = 64 * 1024;

/// What the tools work with. A cheap handle.
#[derive(Clone, Debug)]
pub struct Desk {
    pub changes: Changes,
    pub ledger: Ledger,
    pub outward: Outward,
    pub clock: Clock,
}

impl Desk {
    /// One call. What went wrong is for the agent to read, with what it can do about it.
    ///
    /// # Errors
    /// As the operation that the tool stands for; SH0901 for an unknown tool, SH0902 for arguments that do not fit.
    pub async fn call(&self, granted: &Arc<Granted>, tool: &str, arguments: Value) -> Result<Value, Refused> {
        match tool {
            "list_webhooks" => {
                let Nothing {} = read(arguments)?;
                self.list_webhooks()
            }
            "describe_webhook" => self.describe_webhook(&read(arguments)?).await,
            "explain_provider" => self.explain_provider(&read(arguments)?),
            "add_command" => self.add_command(granted, read(arguments)?).await,
            "put_skill" => self.put_skill(granted, read(arguments)?).await,
            "put_agent" => self.put_agent(granted, read(arguments)?).await,
            "delete_skill" => self.delete_skill(granted, &read(arguments)?).await,
            "delete_agent" => self.delete_agent(granted, &read(arguments)?).await,
            "validate" => self.try_out(granted, read(arguments)?, false).await,
            "plan" => self.try_out(granted, read(arguments)?, true).await,
            "get_task" => self.get_task(granted, &read(arguments)?).await,
            "create_task" => self.create_task(granted, read(arguments)?).await,
            "provider_call" => self.provider_call(granted, read(arguments)?).await,
            "open_pull_request" => self.open_pull_request(granted, read(arguments)?).await,
            _ => Err(Error::new(Code::NotFound, format!("there is no tool `{}`", tool.escape_default())).into()),
        }
    }

    fn list_webhooks(&self) -> Result<Value, Refused> {
        let published = self.changes.published()?;
        let line = |entry: &WebhookEntry| {
            let spec = &entry.spec;
            json!({
                "name": spec.id, "provider": spec.provider, "endpoint": spec.endpoint, "built_in": spec.builtin,
                "enabled": spec.enabled, "prefixes": spec.prefixes,
                "commands": spec.commands.iter().map(|command| &command.name).collect::<Vec<_>>(),
            })
        };
        let providers: Vec<_> = published.catalogue.names().collect();
        Ok(json!({
            "webhooks": published.state.observed.webhooks.values().map(line).collect::<Vec<_>>(),
            "providers": providers,
        }))
    }

    async fn describe_webhook(&self, named: &Named) -> Result<Value, Refused> {
        let id = parsed(&named.name, WebhookId::parse)?;
        let published = self.changes.published()?;
        let entry = published.state.observed.webhooks.get(&id);
        let entry = entry.ok_or_else(|| Error::new(Code::NotFound, format!("there is no webhook `{id}`")))?;
        let mut files = serde_json::Map::new();
        for skill in &entry.sources {
            let path = skill_path(skill.as_str());
            let digest = self.changes.read(&path).await?.map(|bytes| Digest::of(&bytes));
            files.insert(path, json!(digest));
        }
        Ok(json!({ "spec": shown(&entry.spec)?, "generation": entry.generation, "files": files }))
    }

    fn explain_provider(&self, named: &Named) -> Result<Value, Refused> {
        let published = self.changes.published()?;
        let Some(definition) = published.catalogue.get(&named.name) else {
            let near = crate::model::diagnostic::did_you_mean(
                &named.name,
                published.catalogue.names().map(ProviderName::as_str),
            );
            let error = Error::new(Code::NotFound, format!("there is no provider `{}`", named.name.escape_default()));
            return Err(near
                .into_iter()
                .fold(error, |error, near| error.hint(format!("did you mean `{near}`?")))
                .into());
        };
        let built_in = published.state.observed.webhooks.get(named.name.as_str()).filter(|entry| entry.spec.builtin);
        Ok(json!({
            "title": definition.title(),
            "definition": definition.written(),
            "built_in_webhook": built_in.map(|entry| shown(&entry.spec)).transpose()?,
            "editing_skill": operations::home_of_edits(definition.name()),
        }))
    }

    async fn add_command(&self, granted: &Arc<Granted>, add: AddCommand) -> Result<Value, Refused> {
        let id = parsed(&add.webhook, WebhookId::parse)?;
        let (command, replace) = (Value::Object(add.command), add.replace);
        let edits = self.changes.command_edits(&id, &command, replace, &proposed(granted)).await?;
        let name = command.get("name").and_then(Value::as_str).unwrap_or_default();
        self.make(granted, edits, format!("Add the command {name} to {id}")).await
    }

    async fn put_skill(&self, granted: &Arc<Granted>, put: PutSkill) -> Result<Value, Refused> {
        let name = parsed(&put.name, SkillName::parse)?;
        let files = put.files.into_iter().map(|(path, text)| (path, text.into_bytes())).collect();
        let put = operations::PutSkill { name, content: put.content, files, expect: expect(put.digest.as_deref())? };
        let title = format!("Put the skill {}", put.name);
        self.make(granted, put.edits(), title).await
    }

    async fn put_agent(&self, granted: &Arc<Granted>, put: PutAgent) -> Result<Value, Refused> {
        let name = parsed(&put.name, AgentName::parse)?;
        let path = crate::model::snapshot::agent_path(name.as_str());
        let edit = Edit::put(path, put.content.into_bytes(), expect(put.digest.as_deref())?);
        self.make(granted, vec![edit], format!("Put the agent {name}")).await
    }

    async fn delete_skill(&self, granted: &Arc<Granted>, named: &Named) -> Result<Value, Refused> {
        let name = parsed(&named.name, SkillName::parse)?;
        let edits = self.changes.skill_deletion(&name, Expect::Any)?;
        self.make(granted, edits, format!("Delete the skill {name}")).await
    }

    async fn delete_agent(&self, granted: &Arc<Granted>, named: &Named) -> Result<Value, Refused> {
        let name = parsed(&named.name, AgentName::parse)?;
        let edits = self.changes.agent_deletion(&name, Expect::Any)?;
        self.make(granted, edits, format!("Delete the agent {name}")).await
    }

    /// Applies or proposes. What a run proposes is one proposal: later edits join the earlier ones.
    async fn make(&self, granted: &Arc<Granted>, edits: Vec<Edit>, title: String) -> Result<Value, Refused> {
        let mut all = proposed(granted);
        for mut edit in edits {
            if let Some(old) = all.iter().position(|old| old.path == edit.path) {
                // It was made upon the version that the earlier edit was made upon.
                edit.expect = all.remove(old).expect;
            }
            all.push(edit);
        }
        let set = ChangeSet {
            edits: all.clone(),
            title,
            authority: granted.authority.clone(),
            proposal: Some(granted.task.id.to_string().replace('_', "-")),
        };
        let applied = self.changes.apply(set, Wait::Committed).await?;
        if applied.status == crate::change::Status::Proposed {
            *granted.proposed.lock().unwrap_or_else(PoisonError::into_inner) = all;
        }
        tracing::info!(task = %granted.task.id, status = ?applied.status, "a run changed configuration");
        Ok(shown(&applied)?)
    }

    async fn try_out(&self, granted: &Arc<Granted>, files: Files, whole: bool) -> Result<Value, Refused> {
        let mut edits = proposed(granted);
        edits.retain(|old| !files.files.contains_key(&old.path));
        let put = |(path, text): (String, String)| Edit::put(path, text.into_bytes(), Expect::Any);
        edits.extend(files.files.into_iter().map(put));
        let authority = granted.authority.clone();
        let set = ChangeSet { edits, title: "Try".to_owned(), authority, proposal: None };
        let preview = match self.changes.preview(set).await {
            Err(refused) if refused.error.code() == Code::ChangeInvalid => {
                return Ok(json!({ "valid": false, "diagnostics": shown(&refused.diagnostics)? }));
            }
            preview => preview?,
        };
        if !whole {
            return Ok(json!({ "valid": true, "diagnostics": shown(&preview.warnings)? }));
        }
        let mut value = shown(&preview)?;
        value["valid"] = json!(true);
        Ok(value)
    }

    async fn get_task(&self, granted: &Arc<Granted>, get: &GetTask) -> Result<Value, Refused> {
        let own = &granted.task;
        let id = get.id.as_deref().map_or(Ok(own.id), |id| parsed(id, TaskId::parse))?;
        let found = self.ledger.task(id).await?;
        // What was said about another thing is not for a run that a stranger may have steered.
        let visible = |task: &Task| granted.authority.may_widen || task.spec.source.flow_id == own.source.flow_id;
        let task = found.filter(visible);
        let task = task.ok_or_else(|| Error::new(Code::NotFound, format!("there is no task `{id}` of this flow")))?;
        Ok(json!({
            "id": task.spec.id, "state": task.state, "reason": task.reason, "agent": task.spec.agent,
            "webhook": task.spec.webhook, "command": task.spec.command, "prompt": task.spec.prompt,
            "answer": task.result.as_ref().map(|result| &result.text),
        }))
    }

    async fn create_task(&self, granted: &Arc<Granted>, create: CreateTask) -> Result<Value, Refused> {
        let own = &granted.task;
        if create.prompt.trim().is_empty() || create.prompt.len() > PROMPT_BYTES_MAX {
            let message = format!("the prompt must have between 1 and {PROMPT_BYTES_MAX} bytes");
            return Err(Error::new(Code::Usage, message).into());
        }
        let agent = create.agent.as_deref().map(|name| parsed(name, AgentName::parse)).transpose()?;
        let published = self.changes.published()?;
        if let Some(name) = agent.as_ref().filter(|name| !published.state.observed.agents.contains_key(*name)) {
            return Err(Error::new(Code::ReferenceMissing, format!("there is no agent `{name}`")).into());
        }
        if self.depth(own).await? >= DEPTH_MAX {
            return Err(
                Error::new(Code::Refused, format!("at most {DEPTH_MAX} tasks may stand above one another")).into()
            );
        }
        {
            let mut started = granted.started.lock().unwrap_or_else(PoisonError::into_inner);
            if *started >= CHILDREN_MAX {
                return Err(Error::new(Code::Refused, format!("one run may start at most {CHILDREN_MAX} tasks")).into());
            }
            *started += 1;
        }
        let child = self.child(own, create.prompt, agent);
        let id = child.id;
        let provider = self.provider_of(own);
        let task = NewTask { spec: child, lookup: None, reply: None, continues: None, says: None };
        self.ledger.create(task, &provider, self.clock.now()).await?;
        Ok(json!({ "id": id, "state": "queued" }))
    }

    async fn provider_call(&self, granted: &Arc<Granted>, call: ProviderCall) -> Result<Value, Refused> {
        let Some(operation) = call.operation else {
            return Ok(json!({ "operations": self.outward.operations(&granted.task) }));
        };
        {
            let mut asked = granted.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if *asked >= CALLS_MAX {
                let message = format!("one run may ask providers at most {CALLS_MAX} times");
                return Err(Error::new(Code::Refused, message).into());
            }
            *asked += 1;
        }
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let values = call.values.into_iter().map(|(name, value)| (name, text(value))).collect();
        let asked = Asked { provider: call.provider, operation, values };
        Ok(self.outward.call(&granted.task, asked).await?)
    }

    async fn open_pull_request(&self, granted: &Arc<Granted>, open: OpenPullRequest) -> Result<Value, Refused> {
        let task = &granted.task;
        let found = self.ledger.task(task.id).await?;
        let approved = found.and_then(|found| found.approved);
        let agreed = task.run.approval.is_some() && approved.is_some_and(|given| given.covers(&task.prompt));
        let wanted = PullRequest { title: open.title, text: open.text, base: open.base };
        // One after the other: a second call builds upon the branch of the first.
        let _one = granted.opening.lock().await;
        Ok(shown(&self.outward.open_pull_request(task, agreed, wanted).await?)?)
    }

    /// The same settings and authority; a conversation of its own, because the parent's is busy.
    fn child(&self, parent: &TaskSpec, prompt: String, agent: Option<AgentName>) -> TaskSpec {
        let id = TaskId(fresh_id());
        let mut child = parent.clone();
        child.source.conversation_id = format!("{}/{id}", parent.source.conversation_id);
        child.source.text = None;
        TaskSpec {
            id,
            parent: Some(parent.id),
            agent: agent.or_else(|| parent.agent.clone()),
            prompt,
            missing: Vec::new(),
            created_at: self.clock.now(),
            ..child
        }
    }

    async fn depth(&self, task: &TaskSpec) -> Result<usize> {
        let (mut depth, mut parent) = (0, task.parent);
        while let Some(id) = parent
            && depth < DEPTH_MAX
        {
            depth += 1;
            parent = self.ledger.task(id).await?.and_then(|task| task.spec.parent);
        }
        Ok(depth)
    }

    fn provider_of(&self, task: &TaskSpec) -> ProviderName {
        let published = self.changes.published().ok();
        let of_webhook =
            published.and_then(|it| Some(it.state.observed.webhooks.get(&task.webhook)?.spec.provider.clone()));
        of_webhook.unwrap_or_else(chat::provider)
    }
}

fn proposed(granted: &Granted) -> Vec<Edit> {
    granted.proposed.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn read<T: DeserializeOwned>(arguments: Value) -> Result<T> {
    serde_json::from_value(arguments)
        .map_err(|error| Error::new(Code::Usage, format!("the arguments do not fit the tool: {error}")))
}

fn shown<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::new(Code::Bug, "the answer cannot be written").detail(error))
}

fn parsed<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T> {
    parse(text).map_err(|message| Error::new(Code::Usage, message))
}

fn expect(digest: Option<&str>) -> Result<Expect> {
    Ok(match digest {
        Some(digest) => Expect::Is(parsed(digest, Digest::parse)?),
        None => Expect::Absent,
    })
}
