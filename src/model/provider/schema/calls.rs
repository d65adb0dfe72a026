//! What a definition says about answers and about calls to the provider's API.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::Format;
use crate::model::provider::condition::Condition;
use crate::model::provider::json_template::JsonTemplate;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::selector::Selector;
use crate::model::provider::template::Template;

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
    pub auth_alternatives: Vec<AuthAlternative>,
    pub rate: Rate,
    pub success: Option<Success>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthAlternative {
    GithubAppInstallation,
    OauthClientCredentials,
}

/// How the API tells to slow down.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rate {
    pub retry_headers: Vec<String>,
    pub retry_body: Option<Pointer>,
    pub primary: Option<String>,
    pub secondary: Option<String>,
    pub global: Option<String>,
    pub per_channel: Option<String>,
    pub per_chat: Option<String>,
    pub per_group: Option<String>,
    pub per_token: Option<String>,
}

/// What an answer must say besides its status.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Success {
    pub sel: Selector,
    pub eq: Value,
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
    /// The call for further parts; body and authentication are this one's unless it says otherwise.
    pub next: Option<Box<Call>>,
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
