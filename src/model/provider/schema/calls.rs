//! What a definition says about answers and about calls to the provider's API.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Format;
use super::credentials::Credential;
use crate::model::provider::condition::Condition;
use crate::model::provider::json_template::JsonTemplate;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::selector::Selector;
use crate::model::provider::template::{Expression, Template};

/// Slowest pace, in milliseconds between two messages.
const PACE_MILLISECONDS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// An answer in the HTTP response itself.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncAnswer {
    pub status: u16,
    #[serde(default)]
    pub headers: BTreeMap<String, Template>,
    pub json: Option<JsonTemplate>,
    pub text: Option<Template>,
    pub content_type: Option<String>,
}

/// The provider's API.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// What `cfg:api_base` means unless the operator sets it.
    pub base: Option<Template>,
    /// Sent with every call that is not `no_auth`.
    pub headers: BTreeMap<String, Template>,
    /// Ways to authenticate that the provider knows besides a token; those that work here stand in `credentials`.
    pub auth_alternatives: Vec<AuthAlternative>,
    /// Ways to get a token instead of holding one, the first one that is set up goes first.
    pub credentials: Vec<Credential>,
    pub rate: Rate,
    pub success: Option<Success>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthAlternative {
    GithubAppInstallation,
    OauthClientCredentials,
}

/// How the API tells to slow down, and how fast messages may follow each other. The texts are for readers.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rate {
    pub retry_headers: Vec<String>,
    pub retry_body: Option<Pointer>,
    /// An answer that means that the call may work later, whatever its status.
    pub again: Option<Again>,
    /// Least times between two messages.
    pub spacing: Vec<Spacing>,
    pub primary: Option<String>,
    pub secondary: Option<String>,
    pub global: Option<String>,
    pub per_channel: Option<String>,
    pub per_chat: Option<String>,
    pub per_group: Option<String>,
    pub per_token: Option<String>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// A place in the answer.
    pub sel: Selector,
    pub r#in: Vec<Value>,
}

/// Messages to one place are not sent faster than this.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spacing {
    #[serde(default)]
    pub when: Vec<Condition>,
    /// What names the place: a channel, a chat, or nothing but a word for all of them.
    pub of: Template,
    pub pace: Pace,
}

/// So many in a time, as `1/s`, `20/min`, `100/10s`: the time between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pace {
    pub milliseconds: u64,
}

impl TryFrom<String> for Pace {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let (count, span) = text.split_once('/')?;
            let digits = span.find(|c: char| !c.is_ascii_digit())?;
            let (number, unit) = span.split_at(digits);
            let number: u64 = if number.is_empty() { 1 } else { number.parse().ok()? };
            let unit = match unit {
                "s" => 1_000,
                "min" => 60_000,
                "h" => 3_600_000,
                _ => return None,
            };
            let milliseconds = number.checked_mul(unit)?.div_ceil(count.parse().ok().filter(|count| *count > 0)?);
            (1..=PACE_MILLISECONDS_MAX).contains(&milliseconds).then_some(Self { milliseconds })
        };
        parse().ok_or_else(|| format!("`{text}` is no pace such as `1/s`, `20/min` or `100/10s`"))
    }
}

/// What an answer must say besides its status.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Success {
    pub sel: Selector,
    /// The value that stands there.
    pub eq: Option<Value>,
    /// Whether anything stands there.
    pub exists: Option<bool>,
    /// An answer that is no JSON means success too: some addresses answer with a word.
    #[serde(default)]
    pub plain: bool,
    /// Where the answer says what was wrong.
    pub says: Option<Pointer>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub method: CallMethod,
    pub url: Template,
    pub json: Option<JsonTemplate>,
    pub form: Option<BTreeMap<String, Template>>,
    #[serde(default)]
    pub headers: BTreeMap<String, Template>,
    /// Credentials of the API stay away from it.
    #[serde(default)]
    pub no_auth: bool,
    #[serde(default)]
    pub allow_hosts: Vec<Template>,
    /// For how many seconds after the delivery the call works.
    pub ttl: Option<u64>,
    pub max_uses: Option<u32>,
    /// What its answer must say, where that is not what the API's answers say.
    pub success: Option<Success>,
    /// The call for further parts; body and authentication are this one's unless it says otherwise.
    pub next: Option<Box<Call>>,
}

impl Call {
    /// Every hole of it, without those of the call that follows it.
    pub fn expressions(&self) -> Vec<&Expression> {
        let mut holes: Vec<&Expression> =
            self.url.holes().chain(self.headers.values().flat_map(Template::holes)).collect();
        holes.extend(self.json.iter().flat_map(|json| json.holes()));
        holes.extend(self.form.iter().flat_map(|form| form.values()).flat_map(Template::holes));
        holes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum CallMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl CallMethod {
    pub fn as_str(self) -> &'static str {
        match self {
            CallMethod::Get => "GET",
            CallMethod::Post => "POST",
            CallMethod::Put => "PUT",
            CallMethod::Patch => "PATCH",
            CallMethod::Delete => "DELETE",
        }
    }
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Enrich {
    #[serde(default)]
    pub when: Vec<Condition>,
    pub call: Call,
    /// Field of the event: where it stands in the answer.
    pub take: BTreeMap<String, Pointer>,
}

/// The sign of having seen a delivery: in the response, or by a call.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    #[serde(default)]
    pub when: Vec<Condition>,
    pub sync: Option<SyncAnswer>,
    pub call: Option<Call>,
}

/// An answer in the HTTP response, with `ctx:reply`.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    #[serde(default)]
    pub when: Vec<Condition>,
    pub answer: SyncAnswer,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    pub format: Format,
    /// Longest message in characters.
    pub max_chars: Option<usize>,
    /// Longest message in bytes of UTF-8, where the provider counts those too.
    pub max_bytes: Option<usize>,
    /// Where messages are better split.
    pub soft_max_chars: Option<usize>,
    #[serde(default)]
    pub overflow: Overflow,
    pub dedupe_note: Option<String>,
    /// How a message is marked so that it can be found again.
    #[serde(default)]
    pub marker: MarkerKind,
    /// Fields that join the JSON body where it is asked whether a task may run (null takes one away): buttons that
    /// carry `{ctx:task} {ctx:digest}`.
    #[serde(default)]
    pub approval: BTreeMap<String, JsonTemplate>,
    pub rules: Vec<ReplyRule>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    #[default]
    Split,
    Truncate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkerKind {
    /// Nothing: the reader would see it.
    #[default]
    None,
    /// An HTML comment, which the provider keeps and does not show.
    HtmlComment,
}

/// How a reply reaches the source. The first rule whose conditions hold and whose call can be filled decides.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplyRule {
    #[serde(default)]
    pub when: Vec<Condition>,
    pub format: Option<Format>,
    pub call: Call,
    /// How to look whether the reply stands there already.
    pub find: Option<Find>,
    /// Where the answer to the call names what it made.
    pub created: Option<Created>,
    /// Changes what the call made, which `{ctx:reply_id}` names.
    pub edit: Option<Call>,
    /// Says that a question is decided, in its place.
    pub decided: Option<Call>,
}

/// Lists what stands at the source.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Find {
    pub call: Call,
    /// The list within the answer.
    #[serde(default)]
    pub list: Pointer,
    /// The text within an element.
    pub text: Pointer,
    pub id: Option<Pointer>,
    pub url: Option<Pointer>,
}

#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Created {
    pub id: Option<Pointer>,
    pub url: Option<Pointer>,
}
