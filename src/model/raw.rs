//! `webhook_config` as it stands in a file: field by field, before anything is checked.
//!
//! These types are the file format and nothing else: unknown fields are refused, a value is never guessed at, and
//! nothing is `flatten` or `untagged`, since both lose the place of a mistake. What the values mean is decided in
//! `check`. The same types publish the JSON Schema for editors ([`schema`]); what stands in the comments of their
//! fields is what an editor shows.

mod scalar;
mod secret;

pub use scalar::{Duration, ReplyField, Several, Text};
pub use secret::{Plain, SecretName, SecretPlace, Secrets};

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::spec::{AckMode, Action, MatchMode, PermissionRule};

/// Routes a provider's deliveries to agents. Stands in the frontmatter of `.claude/skills/NAME/SKILL.md`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "webhook_config", extend("required" = ["provider"]))]
#[serde(deny_unknown_fields)]
pub struct RawWebhook {
    /// A provider of the catalogue, of `.claude/providers`, or `custom`. A list only where the skill extends the
    /// built-in webhooks of several providers.
    #[serde(default, deserialize_with = "present")]
    pub provider: Option<Several<Text>>,
    /// Makes this a webhook of its own at `/webhooks/{provider}/{id}`. Without it the skill extends the provider's
    /// built-in webhook.
    #[serde(default, deserialize_with = "present")]
    pub id: Option<Text>,
    /// The same as `id`, written as `/webhooks/{provider}/{id}`.
    #[serde(default, deserialize_with = "present")]
    pub endpoint: Option<Text>,
    /// What people call the webhook.
    #[serde(default, deserialize_with = "present")]
    pub name: Option<Text>,
    /// What the webhook is for.
    #[serde(default, deserialize_with = "present")]
    pub description: Option<Text>,
    /// Whether deliveries are taken; `true` when absent.
    #[serde(default, deserialize_with = "present")]
    pub enabled: Option<bool>,
    /// The agent of commands that name none; `brain` when absent.
    #[serde(default, deserialize_with = "present")]
    pub target_agent: Option<Text>,
    /// `false` takes unsigned deliveries; only where the operator allows it.
    #[serde(default, deserialize_with = "present")]
    pub requires_signature: Option<bool>,
    /// The header that carries the signature, where it is not the provider's usual one.
    #[serde(default, deserialize_with = "present")]
    pub signature_header: Option<Text>,
    /// How deliveries are verified, in the schema of provider definitions.
    #[serde(default, deserialize_with = "present")]
    pub verify: Option<Value>,
    /// How the event is named, in the schema of provider definitions.
    #[serde(default, deserialize_with = "present")]
    pub event: Option<Value>,
    /// Where the text of a delivery stands, in the schema of provider definitions.
    #[serde(default, deserialize_with = "present")]
    pub text: Option<Value>,
    /// Who caused the event, in the schema of provider definitions.
    #[serde(default, deserialize_with = "present")]
    pub actor: Option<Value>,
    /// What the event is about, in the schema of provider definitions.
    #[serde(default, deserialize_with = "present")]
    pub resource: Option<Value>,
    /// What tells a delivery from another, in the schema of provider definitions.
    #[serde(default, deserialize_with = "present")]
    pub delivery: Option<Value>,
    /// Environment variables that hold the secret; with several, any may match (rotation).
    #[serde(default, deserialize_with = "present")]
    pub secret_env_var: Option<Several<SecretName>>,
    /// Files below the operator's secret directory that hold the secret; with several, any may match.
    #[serde(default, deserialize_with = "present")]
    pub secret_file: Option<Several<SecretName>>,
    /// Never the secret itself: that belongs into an environment variable or a file.
    #[serde(default, deserialize_with = "present")]
    pub secret: Option<Plain>,
    /// For providers with several secrets: the name of each, and where it is.
    #[serde(default, deserialize_with = "present")]
    pub secrets: Option<Secrets>,
    /// What a text must have before the name of a command, for example `@agent`.
    #[serde(default, deserialize_with = "present")]
    pub command_prefix: Option<Several<Text>>,
    /// The command that runs when no name follows the prefix.
    #[serde(default, deserialize_with = "present")]
    pub default_command: Option<Text>,
    /// What the webhook can do.
    #[serde(default, deserialize_with = "present")]
    pub commands: Option<Vec<RawCommand>>,
    /// Whether all matching commands run, or only the first by priority; `all` when absent.
    #[serde(default, deserialize_with = "present")]
    pub r#match: Option<MatchMode>,
    /// Who may trigger.
    #[serde(default, deserialize_with = "present")]
    pub allow: Option<RawAllow>,
    /// How many runs there may be at once.
    #[serde(default, deserialize_with = "present")]
    pub concurrency: Option<RawConcurrency>,
    /// How many deliveries are taken in a time.
    #[serde(default, deserialize_with = "present")]
    pub rate_limit: Option<RawRateLimit>,
    /// What its runs may use in one day.
    #[serde(default, deserialize_with = "present")]
    pub budget: Option<RawBudget>,
    /// How long a run may take; 15 minutes when absent.
    #[serde(default, deserialize_with = "present")]
    pub timeout: Option<Duration>,
    /// How often a failed run is tried again; 2 when absent.
    #[serde(default, deserialize_with = "present")]
    pub retries: Option<u32>,
    /// What happens at the source at once; `reaction` when absent.
    #[serde(default, deserialize_with = "present")]
    pub ack: Option<AckMode>,
    /// What happens at the source after the run, or how, in the schema of provider definitions.
    #[serde(default, deserialize_with = "present")]
    pub reply: Option<ReplyField>,
    /// Refuses a delivery whose template misses a value, instead of leaving it empty.
    #[serde(default, deserialize_with = "present")]
    pub strict_templates: Option<bool>,
}

/// One thing that the webhook can do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "command", extend("required" = ["name"]))]
#[serde(deny_unknown_fields)]
pub struct RawCommand {
    /// The word by which it is called.
    #[serde(default, deserialize_with = "present")]
    pub name: Option<Text>,
    /// Other words for the same.
    #[serde(default, deserialize_with = "present")]
    pub aliases: Option<Several<Text>>,
    #[serde(default, deserialize_with = "present")]
    pub description: Option<Text>,
    /// The agent that runs it.
    #[serde(default, deserialize_with = "present")]
    pub target_agent: Option<Text>,
    /// The prompt, in Tera's syntax over the payload.
    #[serde(default, deserialize_with = "present")]
    pub prompt_template: Option<Text>,
    /// A file of the skill that holds the prompt.
    #[serde(default, deserialize_with = "present")]
    pub template_file: Option<Text>,
    /// The events on which it runs by itself, exact or with `*`. Without any it is called by text.
    #[serde(default, deserialize_with = "present")]
    pub trigger: Option<Several<Text>>,
    /// What the payload must say: `{"label.name": bug}`, operators (`in`, `not`, `matches`, `exists`, `gt`, `lt`,
    /// `prefix`, `suffix`), and `all`, `any`, `not`.
    #[serde(default, deserialize_with = "present")]
    pub conditions: Option<Value>,
    /// Lower runs first; 100 when absent.
    #[serde(default, deserialize_with = "present")]
    pub priority: Option<i32>,
    /// What happens when it matches; `create_task` when absent.
    #[serde(default, deserialize_with = "present")]
    pub action: Option<Action>,
    /// For `forward`: the name of a target of the operator's `[forward.NAME]` settings.
    #[serde(default, deserialize_with = "present")]
    pub forward_to: Option<Text>,
    /// Whether its events must also call it by the prefix.
    #[serde(default, deserialize_with = "present")]
    pub requires_prefix: Option<bool>,
    /// The model of the run.
    #[serde(default, deserialize_with = "present")]
    pub model: Option<Text>,
    /// The tools that the run may use.
    #[serde(default, deserialize_with = "present")]
    pub tools: Option<Several<Text>>,
    #[serde(default, deserialize_with = "present")]
    pub max_turns: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    pub budget_usd: Option<f64>,
    /// How long the run may take.
    #[serde(default, deserialize_with = "present")]
    pub timeout: Option<Duration>,
    /// Whether a person must agree before it runs.
    #[serde(default, deserialize_with = "present")]
    pub requires_approval: Option<bool>,
    /// Who may agree, and how long that is waited for.
    #[serde(default, deserialize_with = "present")]
    pub approval: Option<RawApproval>,
    /// Whether the run gets the files of the repository that it is about.
    #[serde(default, deserialize_with = "present")]
    pub checkout: Option<bool>,
    /// Which operations of providers the run may use: `comment` at what the delivery is about, `jira.issue` at any
    /// resource of that provider. When absent, those that read what the delivery is about.
    #[serde(default, deserialize_with = "present")]
    pub provider_calls: Option<Several<Text>>,
}

/// The terms of an approval.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "approval")]
#[serde(deny_unknown_fields)]
pub struct RawApproval {
    /// Whether whoever asked for the run may agree to it; true when absent.
    #[serde(default, deserialize_with = "present")]
    pub self_approval: Option<bool>,
    /// Ids of the people who may agree; when absent all who may start runs.
    #[serde(default, deserialize_with = "present")]
    pub approvers: Option<Several<Text>>,
    /// After this the task has expired; 24 hours when absent.
    #[serde(default, deserialize_with = "present")]
    pub expires: Option<Duration>,
}

/// What the runs of a webhook may use in one day (UTC); further ones are refused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "budget")]
#[serde(deny_unknown_fields)]
pub struct RawBudget {
    #[serde(default, deserialize_with = "present")]
    pub usd_per_day: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    pub runs_per_day: Option<u32>,
}

/// Who may trigger.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "allow")]
#[serde(deny_unknown_fields)]
pub struct RawAllow {
    /// `write`: who may change the resource. `any`: everyone who can cause the event.
    #[serde(default, deserialize_with = "present")]
    pub permission: Option<PermissionRule>,
    /// Only these people, by the provider's login or id.
    #[serde(default, deserialize_with = "present")]
    pub actors: Option<Several<Text>>,
    /// Only people who are this to the repository, for example `MEMBER`.
    #[serde(default, deserialize_with = "present")]
    pub associations: Option<Several<Text>>,
    /// Bots that may trigger; no other bot may.
    #[serde(default, deserialize_with = "present")]
    pub bots: Option<Several<Text>>,
    /// Only these repositories; `*` stands for any characters.
    #[serde(default, deserialize_with = "present")]
    pub repositories: Option<Several<Text>>,
    /// Only these projects; `*` stands for any characters.
    #[serde(default, deserialize_with = "present")]
    pub projects: Option<Several<Text>>,
    /// Only these channels; `*` stands for any characters.
    #[serde(default, deserialize_with = "present")]
    pub channels: Option<Several<Text>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "concurrency")]
#[serde(deny_unknown_fields)]
pub struct RawConcurrency {
    /// At most this many runs at once; further ones wait.
    pub max: u32,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "rate_limit")]
#[serde(deny_unknown_fields)]
pub struct RawRateLimit {
    /// At most this many deliveries in any `per`.
    pub max: u32,
    pub per: Duration,
}

/// The JSON Schema (draft 2020-12) of `webhook_config`.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    settings.into_generator().into_root_schema_for::<RawWebhook>()
}

/// A field that is there must have a value: `name:` with nothing behind it is a mistake, not an absence.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The schema says the same as [`present`].
fn without_null(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (key, value) in only {
                schema.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_schema_is_published_and_accepts_what_is_read() {
        let schema = schema();
        assert_eq!(schema.get("$schema"), Some(&json!("https://json-schema.org/draft/2020-12/schema")));
        assert!(!schema.as_value().to_string().contains("null"), "absent is the only way to say nothing");
        assert!(schema.as_value()["properties"]["provider"]["description"].as_str().unwrap().starts_with("A provider"));
        let validator = jsonschema::validator_for(schema.as_value()).unwrap();
        for good in [
            json!({"provider": "github", "commands": [{"name": "a", "prompt_template": "x", "trigger": "push"}]}),
            json!({"provider": ["github", "gitlab"], "command_prefix": ["@agent", "@bot"]}),
            json!({"provider": "custom", "id": "x", "timeout": "15m", "rate_limit": {"max": 1, "per": 60}, "reply": "none",
                "secrets": {"webhook_secret": [{"env": "A"}, {"file": "b"}]}, "allow": {"permission": "any"}}),
            json!({"provider": "custom", "reply": {"format": "plain"}}),
        ] {
            assert!(validator.is_valid(&good), "{good}");
            serde_json::from_value::<RawWebhook>(good).unwrap();
        }
        for bad in [
            json!({}),
            json!({"provider": null}),
            json!({"provider": 7}),
            json!({"provider": "github", "comands": []}),
            json!({"provider": "github", "commands": [{}]}),
            json!({"provider": "github", "reply": "shout"}),
            json!({"provider": "github", "allow": {"permission": "read"}}),
            json!({"provider": "github", "secret": "hunter2"}),
        ] {
            assert!(!validator.is_valid(&bad), "{bad}");
        }
    }
}
