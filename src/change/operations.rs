//! What the API, the command line and the MCP tools do to skills, agents and webhooks, each as one change set.
//!
//! An operation reads the present files, makes its edit and names the versions that it has read, so two of them never
//! mix; one that finds a file changed meanwhile begins again, unless its caller named a version itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Applied, Changes, Refused, Wait};
use crate::error::{Code, Error, Result};
use crate::model::change::{Authority, ChangeSet, Edit, Expect};
use crate::model::digest::Digest;
use crate::model::edit::{self, Change};
use crate::model::entry::{Observed, WebhookEntry};
use crate::model::ids::{AgentName, ProviderName, SkillName, WebhookId};
use crate::model::merge::editing_skill;
use crate::model::snapshot::{agent_path, skill_path};

/// How often an operation begins again because a file has changed meanwhile.
const TRIES_MAX: usize = 5;
/// Keys of a built-in webhook that no file of its own may set.
const FIXED: [&str; 12] = [
    "id",
    "endpoint",
    "provider",
    "verify",
    "requires_signature",
    "signature_header",
    "secret",
    "secrets",
    "secret_env_var",
    "secret_file",
    "event",
    "reply_calls",
];

/// A file as it is to be, made of what stands there now.
type Edited<'a> = dyn Fn(Option<&[u8]>) -> Result<Vec<u8>> + Sync + 'a;

/// Who asks, and for how much of it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub by: Authority,
    pub wait: Wait,
}

/// A skill to be put: its SKILL.md and other files, by their paths inside its directory.
#[derive(Clone, Debug)]
pub struct PutSkill {
    pub name: SkillName,
    pub content: String,
    pub files: BTreeMap<String, Vec<u8>>,
    /// Of the SKILL.md.
    pub expect: Expect,
}

/// A webhook to be made, in a skill that is made for it or that has none yet.
#[derive(Clone, Debug)]
pub struct CreateWebhook {
    pub skill: SkillName,
    pub description: String,
    /// The whole `webhook_config`.
    pub config: Value,
    /// What the skill says below its frontmatter.
    pub body: String,
}

impl PutSkill {
    pub fn edits(self) -> Vec<Edit> {
        let main = skill_path(self.name.as_str());
        let base = main.trim_end_matches("SKILL.md").to_owned();
        let mut edits = vec![Edit::put(&*main, self.content.into_bytes(), self.expect)];
        for (relative, bytes) in self.files {
            let executable = bytes.starts_with(b"#!");
            edits.push(Edit { executable, ..Edit::put(format!("{base}{relative}"), bytes, Expect::Any) });
        }
        edits
    }
}

/// The skill in which a built-in webhook of this provider is edited.
pub fn home_of_edits(provider: &ProviderName) -> String {
    editing_skill(provider)
}

impl Changes {
    /// Makes or replaces a skill; files of it that are not named stay.
    ///
    /// # Errors
    /// As [`Changes::apply`].
    pub async fn put_skill(&self, put: PutSkill, asked: Asked) -> Result<Applied, Refused> {
        let title = format!("Put the skill {}", put.name);
        self.make(put.edits(), title, asked).await
    }

    /// Makes or replaces an agent.
    ///
    /// # Errors
    /// As [`Changes::apply`].
    pub async fn put_agent(
        &self,
        name: &AgentName,
        content: String,
        expect: Expect,
        asked: Asked,
    ) -> Result<Applied, Refused> {
        let edit = Edit::put(agent_path(name.as_str()), content.into_bytes(), expect);
        self.make(vec![edit], format!("Put the agent {name}"), asked).await
    }

    /// Deletes a skill with all its files, and so the webhook that it makes.
    ///
    /// # Errors
    /// SH0901, SH0722 for what is built in, and as [`Changes::apply`].
    pub async fn delete_skill(&self, name: &SkillName, expect: Expect, asked: Asked) -> Result<Applied, Refused> {
        let edits = self.skill_deletion(name, expect)?;
        self.make(edits, format!("Delete the skill {name}"), asked).await
    }

    /// The edits that delete a skill.
    ///
    /// # Errors
    /// SH0901, SH0722 for what is built in.
    pub fn skill_deletion(&self, name: &SkillName, expect: Expect) -> Result<Vec<Edit>> {
        let published = self.published()?;
        let main = skill_path(name.as_str());
        let base = main.trim_end_matches("SKILL.md");
        let Some(found) = published.snapshot.skills.get(name) else {
            return Err(nothing_to_delete("skill", name.as_str(), self.shared.embedded.skills.contains_key(name)));
        };
        let below = |path: &&String| path.starts_with(base) && **path != main;
        let others = found.files.keys().filter(below).map(|path| Edit::delete(&**path, Expect::Any));
        Ok(others.chain([Edit::delete(&*main, expect)]).collect())
    }

    /// Deletes an agent that nothing names any more.
    ///
    /// # Errors
    /// SH0721 with the commands that name it, SH0901, SH0722, and as [`Changes::apply`].
    pub async fn delete_agent(&self, name: &AgentName, expect: Expect, asked: Asked) -> Result<Applied, Refused> {
        let edits = self.agent_deletion(name, expect)?;
        self.make(edits, format!("Delete the agent {name}"), asked).await
    }

    /// The edit that deletes an agent.
    ///
    /// # Errors
    /// SH0721 with the commands that name it, SH0901, SH0722.
    pub fn agent_deletion(&self, name: &AgentName, expect: Expect) -> Result<Vec<Edit>> {
        let published = self.published()?;
        let built_in = self.shared.embedded.agents.contains_key(name);
        if !published.snapshot.agents.contains_key(name) {
            return Err(nothing_to_delete("agent", name.as_str(), built_in));
        }
        let named = naming(&published.state.observed, name);
        if !built_in && !named.is_empty() {
            let message = format!("the agent `{name}` is named by `{}`", named.join("`, `"));
            let hint = "let these commands name another agent first";
            return Err(Error::new(Code::StillReferenced, message).hint(hint));
        }
        Ok(vec![Edit::delete(agent_path(name.as_str()), expect)])
    }

    /// Makes a webhook, in a new skill or in one that makes none yet.
    ///
    /// # Errors
    /// SH0903 when the skill makes a webhook already, and as [`Changes::apply`].
    pub async fn create_webhook(&self, create: CreateWebhook, asked: Asked) -> Result<Applied, Refused> {
        let path = skill_path(create.skill.as_str());
        let title = format!("Add the webhook of {}", create.skill);
        self.edit_file(&path, title, asked, &|now| match now {
            None => {
                let CreateWebhook { skill, description, config, body } = &create;
                new_skill(skill, description, config, body)
            }
            Some(bytes) if block(bytes).is_some() => {
                let message = format!("the skill `{}` makes a webhook already", create.skill);
                Err(Error::new(Code::Conflict, message).hint("add a command to it, or choose another skill"))
            }
            Some(bytes) => edit::edit(&path, bytes, &Change::Set(&["webhook_config"], &create.config)),
        })
        .await
    }

    /// Removes the webhook of a skill, and keeps the skill.
    ///
    /// # Errors
    /// SH0722 for a built-in one, SH0901, and as [`Changes::apply`].
    pub async fn delete_webhook(&self, id: &WebhookId, asked: Asked) -> Result<Applied, Refused> {
        let entry = self.webhook(id)?;
        if entry.spec.builtin {
            let message = format!("`{id}` is a built-in webhook: it can be disabled, not deleted");
            return Err(Error::new(Code::BuiltinStays, message).hint("set `enabled: false` instead").into());
        }
        let (path, _) = self.home(&entry)?;
        self.edit_file(&path, format!("Remove the webhook {id}"), asked, &|now| {
            let (bytes, keys) = present(&path, now)?;
            edit::edit(&path, bytes, &Change::Remove(keys))
        })
        .await
    }

    /// Sets keys of a webhook's `webhook_config`; `Null` removes one. A built-in webhook is edited in the skill that
    /// stands for that, which is made when it is absent.
    ///
    /// # Errors
    /// SH0904 for what is fixed of a built-in webhook, SH0901, and as [`Changes::apply`].
    pub async fn edit_webhook(
        &self,
        id: &WebhookId,
        fields: Map<String, Value>,
        asked: Asked,
    ) -> Result<Applied, Refused> {
        let entry = self.webhook(id)?;
        if entry.spec.builtin
            && let Some(key) = fields.keys().find(|key| FIXED.contains(&key.as_str()))
        {
            let message = format!("`{key}` of the built-in webhook `{id}` cannot be set");
            return Err(Error::new(Code::Refused, message).hint("make a webhook of its own, with an `id`").into());
        }
        let (path, start) = self.home(&entry)?;
        self.edit_file(&path, format!("Edit the webhook {id}"), asked, &|now| {
            let mut bytes = begin(now, start.as_deref())?;
            for (key, value) in &fields {
                let mut keys = block(&bytes).unwrap_or(&["webhook_config"]).to_vec();
                keys.push(key);
                let change = if value.is_null() { Change::Remove(&keys) } else { Change::Set(&keys, value) };
                bytes = edit::edit(&path, &bytes, &change)?;
            }
            Ok(bytes)
        })
        .await
    }

    /// As [`Changes::edit_webhook`] with `enabled` alone.
    ///
    /// # Errors
    /// As there.
    pub async fn set_enabled(&self, id: &WebhookId, enabled: bool, asked: Asked) -> Result<Applied, Refused> {
        self.edit_webhook(id, Map::from_iter([("enabled".to_owned(), json!(enabled))]), asked).await
    }

    /// Adds a command to a webhook that is there; `replace` lets it take the place of one with its name.
    ///
    /// # Errors
    /// SH0903 when the webhook has a command of that name, SH0901, and as [`Changes::apply`].
    pub async fn add_command(
        &self,
        id: &WebhookId,
        command: Value,
        replace: bool,
        asked: Asked,
    ) -> Result<Applied, Refused> {
        let (path, start) = self.home_of_command(id, &command, replace)?;
        let title = format!("Add the command {} to {id}", name_of(&command));
        self.edit_file(&path, title, asked, &|now| with_command(&path, now, start.as_deref(), &command)).await
    }

    /// The edits that add a command, upon edits that are not made yet.
    ///
    /// # Errors
    /// As [`Changes::add_command`].
    pub async fn command_edits(
        &self,
        id: &WebhookId,
        command: &Value,
        replace: bool,
        pending: &[Edit],
    ) -> Result<Vec<Edit>> {
        let (path, start) = self.home_of_command(id, command, replace)?;
        let standing = self.read(&path).await?;
        let expect = standing.as_deref().map_or(Expect::Absent, |bytes| Expect::Is(Digest::of(bytes)));
        let now = match pending.iter().find(|edit| edit.path == path) {
            Some(edit) => edit.content.as_deref().map(<[u8]>::to_vec),
            None => standing,
        };
        Ok(vec![Edit::put(&*path, with_command(&path, now.as_deref(), start.as_deref(), command)?, expect)])
    }

    /// Where a command is added, and what that file begins with where it may be absent.
    fn home_of_command(&self, id: &WebhookId, command: &Value, replace: bool) -> Result<(String, Option<Vec<u8>>)> {
        let entry = self.webhook(id)?;
        let name = name_of(command);
        if name.is_empty() {
            return Err(Error::new(Code::Usage, "the command has no `name`"));
        }
        let known = entry.spec.command(name);
        if known.is_some() && !replace {
            let message = format!("`{id}` has a command `{name}` already");
            return Err(Error::new(Code::Conflict, message).hint("choose another name, or replace it"));
        }
        match known.map(|known| &known.source).filter(|skill| self.is_own(skill)) {
            Some(skill) => Ok((skill_path(skill.as_str()), None)),
            None => self.home(&entry),
        }
    }

    /// Removes a command that a file of the repository has added.
    ///
    /// # Errors
    /// SH0722 for a built-in one, SH0901, and as [`Changes::apply`].
    pub async fn remove_command(&self, id: &WebhookId, name: &str, asked: Asked) -> Result<Applied, Refused> {
        let entry = self.webhook(id)?;
        let Some(command) = entry.spec.command(name) else {
            return Err(Error::new(Code::NotFound, format!("`{id}` has no command `{name}`")).into());
        };
        if !self.is_own(&command.source) {
            let message = format!("the command `{name}` of `{id}` is built in");
            return Err(Error::new(Code::BuiltinStays, message).hint("a command of the same name overrides it").into());
        }
        let path = skill_path(command.source.as_str());
        self.edit_file(&path, format!("Remove the command {name} of {id}"), asked, &|now| {
            let (bytes, keys) = present(&path, now)?;
            let mut keys = keys.to_vec();
            keys.push("commands");
            edit::edit(&path, bytes, &Change::RemoveNamed(&keys, name))
        })
        .await
    }

    async fn make(&self, edits: Vec<Edit>, title: String, asked: Asked) -> Result<Applied, Refused> {
        self.apply(ChangeSet { edits, title, authority: asked.by, proposal: None }, asked.wait).await
    }

    /// Edits one file, from the version that is read for it.
    async fn edit_file(
        &self,
        path: &str,
        title: String,
        asked: Asked,
        edited: &Edited<'_>,
    ) -> Result<Applied, Refused> {
        let mut tries = 0;
        loop {
            tries += 1;
            let now = self.read(path).await?;
            let expect = now.as_deref().map_or(Expect::Absent, |bytes| Expect::Is(Digest::of(bytes)));
            let edit = Edit::put(path, edited(now.as_deref())?, expect);
            match self.make(vec![edit], title.clone(), asked.clone()).await {
                Err(refused) if refused.error.code() == Code::Conflict && tries < TRIES_MAX => {
                    // Somebody came first, or this change was overtaken once it was written: look which.
                    if self.read(path).await? == now {
                        return Err(refused);
                    }
                }
                made => return made,
            }
        }
    }

    fn webhook(&self, id: &WebhookId) -> Result<WebhookEntry> {
        let published = self.published()?;
        let found = published.state.observed.webhooks.get(id).cloned();
        found.ok_or_else(|| {
            let names = published.state.observed.webhooks.keys().map(WebhookId::as_str);
            let near = crate::model::diagnostic::did_you_mean(id.as_str(), names);
            let error = Error::new(Code::NotFound, format!("there is no webhook `{id}`"));
            near.into_iter().fold(error, |error, near| error.hint(format!("did you mean `{near}`?")))
        })
    }

    /// The file in which a webhook is edited, and what it begins with where it may be absent.
    fn home(&self, entry: &WebhookEntry) -> Result<(String, Option<Vec<u8>>)> {
        let spec = &entry.spec;
        if !spec.builtin {
            let owner = entry.sources.first();
            let owner = owner.ok_or_else(|| Error::new(Code::Bug, format!("no skill makes `{}`", spec.id)))?;
            return Ok((skill_path(owner.as_str()), None));
        }
        let name = editing_skill(&spec.provider);
        let skill = SkillName::parse(&name).map_err(|message| Error::new(Code::Bug, message))?;
        let description =
            format!("What this repository adds to the built-in {} webhook, and changes of it.", spec.name);
        let body = format!("# {} commands\n\nThe frontmatter adds to the built-in webhook `{}`.\n", spec.name, spec.id);
        let start = new_skill(&skill, &description, &json!({ "provider": spec.provider }), &body)?;
        Ok((skill_path(&name), Some(start)))
    }

    /// Whether a skill is a file of the repository and not of the built-in layer.
    pub fn is_own(&self, skill: &SkillName) -> bool {
        !self.shared.embedded.skills.contains_key(skill)
    }
}

fn name_of(command: &Value) -> &str {
    command.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn with_command(path: &str, now: Option<&[u8]>, start: Option<&[u8]>, command: &Value) -> Result<Vec<u8>> {
    let bytes = begin(now, start)?;
    let mut keys = block(&bytes).unwrap_or(&["webhook_config"]).to_vec();
    keys.push("commands");
    match edit::edit(path, &bytes, &Change::PutNamed(&keys, command)) {
        // There is no list yet.
        Err(_) if !has(&bytes, &keys) => edit::edit(path, &bytes, &Change::Set(&keys, &json!([command]))),
        edited => edited,
    }
}

fn nothing_to_delete(kind: &str, name: &str, built_in: bool) -> Error {
    if built_in {
        return Error::new(Code::BuiltinStays, format!("the {kind} `{name}` comes with the program: it has no file"));
    }
    Error::new(Code::NotFound, format!("there is no {kind} `{name}`"))
}

/// Everything that names the agent, as `webhook/command` or `webhook`.
fn naming(observed: &Observed, agent: &AgentName) -> Vec<String> {
    let mut named = Vec::new();
    for (id, entry) in &observed.webhooks {
        if entry.spec.target_agent == *agent {
            named.push(id.to_string());
        }
        let commands = entry.spec.commands.iter().filter(|command| command.target_agent.as_ref() == Some(agent));
        named.extend(commands.map(|command| format!("{id}/{}", command.name)));
    }
    named
}

/// The keys that lead to the webhook's block, in either of its forms.
fn block(bytes: &[u8]) -> Option<&'static [&'static str]> {
    const FORMS: [&[&str]; 2] = [&["webhook_config"], &["metadata", "webhook_config"]];
    FORMS.into_iter().find(|keys| has(bytes, keys))
}

fn has(bytes: &[u8], keys: &[&str]) -> bool {
    let Ok(document) = crate::model::frontmatter::split("", bytes) else { return false };
    let value = document.frontmatter.and_then(|block| serde_yaml::from_str::<Value>(block.text).ok());
    let found = value.as_ref().and_then(|value| keys.iter().try_fold(value, |at, key| at.get(*key)));
    found.is_some_and(|found| !found.is_null())
}

fn present<'b>(path: &str, now: Option<&'b [u8]>) -> Result<(&'b [u8], &'static [&'static str])> {
    let found = now.and_then(|bytes| Some((bytes, block(bytes)?)));
    found.ok_or_else(|| {
        Error::new(Code::Conflict, format!("`{path}` makes no webhook any more")).hint("read the present state")
    })
}

fn begin(now: Option<&[u8]>, start: Option<&[u8]>) -> Result<Vec<u8>> {
    match (now, start) {
        (Some(now), _) => Ok(now.to_vec()),
        (None, Some(start)) => Ok(start.to_vec()),
        (None, None) => Err(Error::new(Code::Conflict, "the file is gone").hint("read the present state")),
    }
}

fn new_skill(name: &SkillName, description: &str, config: &Value, body: &str) -> Result<Vec<u8>> {
    let written = |value: &Value| {
        serde_yaml::to_string(value).map_err(|error| Error::new(Code::Usage, "it cannot be written").detail(error))
    };
    let description: String = description.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = format!("---\nname: {name}\n{}webhook_config:\n", written(&json!({ "description": description }))?);
    for line in written(config)?.lines() {
        text.push_str(if line.is_empty() { "" } else { "  " });
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("---\n");
    text.push_str(body);
    Ok(text.into_bytes())
}
