//! Writes of webhooks: each is an edit of a file that `change` makes, checks and commits.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use warp::http::StatusCode;

use super::listing::Listing;
use super::not_found;
use super::request::Asked;
use super::state::ApiState;
use crate::change::operations::{self, CreateWebhook};
use crate::change::{Applied, Changes, Refused, Status, Wait};
use crate::error::{Code, Error, Result};
use crate::http::answer::Answer;
use crate::model::change::{Authority, ChangeSet, Edit, Origin};
use crate::model::ids::{SkillName, WebhookId};
use crate::model::raw::RawWebhook;

/// What every new skill says when nothing else was given.
const INSTRUCTIONS: &str = "Do what the command asks for, and say what you did.\n";

/// A webhook to be made: the fields of `webhook_config`, and where it is written.
#[derive(Debug, Deserialize)]
pub struct NewWebhook {
    /// The skill that gets it; made when there is none of that name.
    #[serde(default)]
    skill: Option<String>,
    /// Of a new skill.
    #[serde(default)]
    description: Option<String>,
    /// Of a new skill: its text.
    #[serde(default)]
    instructions: Option<String>,
    #[serde(flatten)]
    config: Map<String, Value>,
}

impl JsonSchema for NewWebhook {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NewWebhook".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawWebhook::json_schema(generator);
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            for (name, summary) in [
                ("skill", "The skill that gets it; made when there is none of that name"),
                ("description", "Of a new skill"),
                ("instructions", "Of a new skill: its text"),
            ] {
                properties.entry(name).or_insert_with(|| json!({ "type": "string", "description": summary }));
            }
        }
        schema
    }
}

/// Fields of `webhook_config` to be set; `null` removes one, and what is not named stays.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct WebhookFields(Map<String, Value>);

impl JsonSchema for WebhookFields {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "WebhookFields".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = RawWebhook::json_schema(generator);
        schema.remove("required");
        schema
    }
}

/// One command of a webhook, as in `webhook_config.commands`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct NewCommand(Map<String, Value>);

impl JsonSchema for NewCommand {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "NewCommand".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<crate::model::raw::RawCommand>()
    }
}

/// The maker of changes, where there is one.
pub fn changes(state: &ApiState) -> Result<&Changes> {
    state.changes.as_ref().ok_or_else(|| Error::new(Code::NotReady, "files cannot be changed here"))
}

/// With whose authority, and how far the change is waited for.
pub fn on_behalf(asked: &Asked<'_>) -> Result<operations::Asked> {
    let origin = match asked.caller {
        super::access::Caller::Local => Origin::Cli,
        super::access::Caller::Anonymous | super::access::Caller::Token(_) => Origin::Api,
    };
    let mut by = Authority::of_person(origin, asked.caller.actor());
    by.propose = asked.query.flag("propose")?;
    let wait =
        if asked.query.text("wait").is_some() && !asked.query.flag("wait")? { Wait::No } else { Wait::Committed };
    Ok(operations::Asked { by, wait })
}

/// How a change is answered: 200, 201 for something new, 202 while it is not in force.
pub async fn answer(state: &ApiState, made: Result<Applied, Refused>, done: StatusCode) -> Answer {
    let mut applied = match made {
        Ok(applied) => applied,
        Err(refused) => return refusal(refused),
    };
    if let (Status::Live | Status::Committed, Some(digest)) = (applied.status, applied.index_digest) {
        state.index.shows(digest).await;
    }
    if let (Status::Proposed, Some(branch), Some(commit)) = (applied.status, &applied.branch, &applied.commit) {
        applied.pr_url = state.index.proposed(branch, commit).await;
    }
    let status = match applied.status {
        Status::Unchanged => StatusCode::OK,
        Status::Live | Status::Committed => done,
        Status::Written | Status::Proposed => StatusCode::ACCEPTED,
    };
    Answer::json(status, &serde_json::to_value(&applied).unwrap_or_default())
}

fn refusal(refused: Refused) -> Answer {
    let diagnostics = serde_json::to_value(&refused.diagnostics).unwrap_or_default();
    Answer::problem_with(refused.error, json!({ "diagnostics": diagnostics }))
}

/// Makes a webhook; for a provider that has one, adds the commands to that, unless an `id` of its own is given.
pub async fn create(state: &ApiState, asked: &Asked<'_>) -> Result<Answer> {
    let mut new: NewWebhook = asked.json()?;
    super::secrets::seal_fields(state, &mut new.config)?;
    let changes = changes(state)?;
    let provider = new.config.get("provider").and_then(Value::as_str).unwrap_or_default();
    let known = WebhookId::parse(provider).ok().filter(|id| is_known(changes, id));
    if let (Some(id), false) = (known, new.config.contains_key("id")) {
        return Ok(answer(state, add_commands(changes, &id, &new.config, asked).await, StatusCode::CREATED).await);
    }
    let skill = match &new.skill {
        Some(name) => SkillName::parse(name),
        None => SkillName::parse(&own_name(&new.config)),
    };
    let skill = skill.map_err(|message| Error::new(Code::Usage, message))?;
    let create = CreateWebhook {
        description: new.description.unwrap_or_else(|| format!("Answers webhooks of {provider}.")),
        body: new.instructions.unwrap_or_else(|| INSTRUCTIONS.to_owned()),
        config: Value::Object(new.config),
        skill,
    };
    Ok(answer(state, changes.create_webhook(create, on_behalf(asked)?).await, StatusCode::CREATED).await)
}

fn is_known(changes: &Changes, id: &WebhookId) -> bool {
    changes.published().is_ok_and(|published| published.state.observed.webhooks.contains_key(id))
}

/// The skill of a webhook that names none: after its id, its name, or its provider.
fn own_name(config: &Map<String, Value>) -> String {
    let text = |key: &str| config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let named = text("id").or(text("name")).or(text("provider")).unwrap_or("webhook");
    let words = named.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug: String = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    slug.chars().take(60).collect()
}

/// All of the commands in one change. One of a name that is built in overrides it.
async fn add_commands(
    changes: &Changes,
    id: &WebhookId,
    config: &Map<String, Value>,
    asked: &Asked<'_>,
) -> Result<Applied, Refused> {
    let commands = config.get("commands").and_then(Value::as_array).cloned().unwrap_or_default();
    if commands.is_empty() {
        let message = format!("there is a webhook `{id}`, and no command to add to it");
        return Err(Error::new(Code::Conflict, message).hint("send `commands`, or an `id` of its own").into());
    }
    let mut edits: Vec<Edit> = Vec::new();
    for command in &commands {
        let overrides = command["name"].as_str().is_some_and(|name| is_builtin(changes, id, name));
        for edit in changes.command_edits(id, command, overrides, &edits).await? {
            edits.retain(|earlier| earlier.path != edit.path);
            edits.push(edit);
        }
    }
    let behalf = on_behalf(asked)?;
    let title = format!("Add {} commands to {id}", commands.len());
    changes.apply(ChangeSet { edits, title, authority: behalf.by, proposal: None }, behalf.wait).await
}

/// Whether the command of that name is one of those that come with the program.
fn is_builtin(changes: &Changes, id: &WebhookId, name: &str) -> bool {
    let Ok(published) = changes.published() else { return false };
    let Some(entry) = published.state.observed.webhooks.get(id) else { return false };
    entry.spec.command(name).is_some_and(|command| !changes.is_own(&command.source))
}

pub async fn edit(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Answer> {
    let WebhookFields(mut fields) = asked.json()?;
    super::secrets::seal_fields(state, &mut fields)?;
    let id = webhook(id)?;
    if fields.is_empty() {
        return Err(Error::new(Code::Usage, "there is nothing to set").hint("send fields of `webhook_config`"));
    }
    Ok(answer(state, changes(state)?.edit_webhook(&id, fields, on_behalf(asked)?).await, StatusCode::OK).await)
}

/// As [`edit`], for a built-in webhook.
pub async fn edit_builtin(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Answer> {
    builtin(state, id)?;
    edit(state, id, asked).await
}

/// # Errors
/// SH0901 when no built-in webhook has that id.
pub fn builtin(state: &ApiState, id: &str) -> Result<()> {
    let index = super::index::index(state)?;
    let known = index.webhooks.iter().any(|webhook| webhook.spec.builtin && webhook.spec.id.as_str() == id);
    if known { Ok(()) } else { Err(not_found("built-in webhook", id)) }
}

pub async fn remove(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Answer> {
    Ok(answer(state, changes(state)?.delete_webhook(&webhook(id)?, on_behalf(asked)?).await, StatusCode::OK).await)
}

pub async fn enable(state: &ApiState, id: &str, enabled: bool, asked: &Asked<'_>) -> Result<Answer> {
    Ok(answer(state, changes(state)?.set_enabled(&webhook(id)?, enabled, on_behalf(asked)?).await, StatusCode::OK)
        .await)
}

pub async fn add_command(state: &ApiState, id: &str, asked: &Asked<'_>) -> Result<Answer> {
    let NewCommand(command) = asked.json()?;
    let (changes, id) = (changes(state)?, webhook(id)?);
    let overrides = command.get("name").and_then(Value::as_str).is_some_and(|name| is_builtin(changes, &id, name));
    let made = changes.add_command(&id, Value::Object(command), overrides, on_behalf(asked)?).await;
    Ok(answer(state, made, StatusCode::CREATED).await)
}

pub async fn put_command(state: &ApiState, id: &str, name: &str, asked: &Asked<'_>) -> Result<Answer> {
    let NewCommand(mut command) = asked.json()?;
    let named = command.entry("name").or_insert_with(|| json!(name));
    if named != name {
        return Err(Error::new(
            Code::Usage,
            format!("the body names another command than `{}`", name.escape_default()),
        ));
    }
    let made = changes(state)?.add_command(&webhook(id)?, Value::Object(command), true, on_behalf(asked)?).await;
    Ok(answer(state, made, StatusCode::OK).await)
}

pub async fn remove_command(state: &ApiState, id: &str, name: &str, asked: &Asked<'_>) -> Result<Answer> {
    Ok(answer(state, changes(state)?.remove_command(&webhook(id)?, name, on_behalf(asked)?).await, StatusCode::OK)
        .await)
}

/// The commands of a webhook, with the skill that each comes from.
pub fn commands(state: &ApiState, id: &str, query: &super::query::Query) -> Result<Value> {
    let index = super::index::index(state)?;
    let webhook = index.webhooks.iter().find(|webhook| webhook.spec.id.as_str() == id);
    let commands = &webhook.ok_or_else(|| not_found("webhook", id))?.spec.commands;
    Listing::by("name").page(query, super::index::each(commands)?)
}

fn webhook(id: &str) -> Result<WebhookId> {
    WebhookId::parse(id).map_err(|_| not_found("webhook", id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skill_is_named_after_its_webhook() {
        let name = |config: Value| own_name(config.as_object().unwrap());
        assert_eq!(name(json!({ "provider": "github", "name": "My Hook!" })), "my-hook");
        assert_eq!(name(json!({ "provider": "github", "id": "../../etc" })), "etc");
        assert_eq!(name(json!({})), "webhook");
    }
}
