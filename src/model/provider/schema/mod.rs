//! The schema `skillhook.provider/v1`: a webhook sender as data.
//!
//! Each type is what stands in the file, with selectors, templates and regular expressions already parsed. Unknown
//! fields are refused. What the fields do is decided where they are used; this module only says what may be written.

pub mod calls;
pub mod credentials;
pub mod proposals;
pub mod repository;
pub mod verify;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

mod written;

pub use calls::{Ack, Api, Call, Enrich, Find, Reply, ReplyRule, Respond, SyncAnswer};
pub use verify::{Policy, Scheme, Verify};

use super::condition::Condition;
use super::pointer::Pointer;
use super::selector::Selector;
use super::template::Template;
use crate::model::ids::ProviderName;

/// The only version there is.
pub const SCHEMA: &str = "skillhook.provider/v1";

/// The JSON Schema (draft 2020-12) of a definition.
pub fn json_schema() -> schemars::Schema {
    schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Document>()
}

/// A whole definition.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    pub schema: SchemaName,
    #[schemars(with = "String")]
    pub name: ProviderName,
    pub title: String,
    pub secrets: BTreeMap<String, Slot>,
    pub receive: Receive,
    #[serde(default)]
    pub sender: Sender,
    pub verify: Verify,
    #[serde(default)]
    pub challenge: Vec<Challenge>,
    /// Where the items of a batch stand: pointers in which a step `*` means every element.
    #[serde(default)]
    pub split: Vec<SplitPath>,
    /// The event of a batch without items.
    pub empty_event: Option<String>,
    pub event: Vec<EventRule>,
    /// When all of these hold, there is nothing to do by contract.
    #[serde(default)]
    pub noop: Vec<Condition>,
    pub delivery: DeliveryIds,
    pub text: Vec<TextRule>,
    /// Events whose text may carry commands; absent: every event with text.
    pub command_events: Option<Vec<String>>,
    pub actor: ActorRule,
    pub resource: ResourceRule,
    /// Which deliveries tell that somebody pressed a button of `reply.approval`.
    #[serde(default)]
    pub pressed: Vec<PressedRule>,
    /// Calls that fetch what the delivery only names.
    #[serde(default)]
    pub enrich: Vec<Enrich>,
    #[serde(default)]
    pub api: Api,
    pub ack: Vec<Ack>,
    /// How an answer stands in the HTTP response, where the sender shows that to people.
    #[serde(default)]
    pub respond: Vec<Respond>,
    pub reply: Reply,
    /// Where repositories are kept that people propose changes to.
    pub proposals: Option<proposals::Proposals>,
    /// Where git finds the repository of a delivery.
    pub repository: Option<repository::Repositories>,
    /// What runs may ask the provider to do.
    #[serde(default)]
    pub operations: repository::Operations,
}

/// The text `skillhook.provider/v1`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SchemaName;

impl TryFrom<String> for SchemaName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == SCHEMA { Ok(Self) } else { Err(format!("the schema must be `{SCHEMA}`, not `{text}`")) }
    }
}

/// A secret that the definition needs.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    pub from: Option<SlotOrigin>,
    #[serde(default)]
    pub required: bool,
    #[serde(default)]
    pub r#for: SlotUse,
    pub note: Option<String>,
    /// A regular expression for the characters that the sender allows.
    pub charset: Option<String>,
}

/// Who makes up the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotOrigin {
    Provider,
    Integrator,
    /// The sender sends it once, in a handshake.
    Handshake,
    Either,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotUse {
    #[default]
    Verify,
    Reply,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receive {
    pub methods: Vec<Method>,
    pub decode: Vec<DecodeRule>,
    /// How long the sender waits for an answer.
    pub deadline_ms: u64,
    /// Largest body in bytes.
    pub max_body: u64,
    pub ok: Accepted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    Options,
    Post,
    Put,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
            Method::Post => "POST",
            Method::Put => "PUT",
        }
    }
}

/// How bodies of one media type are read. The first rule that fits decides.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecodeRule {
    /// A media type, or `*/*`.
    pub r#type: String,
    pub r#as: DecodeAs,
    /// The form field that holds JSON.
    pub field: Option<String>,
    /// Applies only to forms with this field.
    pub when_field: Option<String>,
    pub envelope: Option<Envelope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecodeAs {
    Json,
    Form,
    FormJson,
    Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Envelope {
    /// Attributes in `ce-` headers, data in the body.
    CloudeventsBinary,
}

/// What an accepted delivery is answered with.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    pub status: u16,
    pub body: Option<String>,
    pub content_type: Option<String>,
}

/// What is known of the sender's habits. `attempt` and `reason` are logged, `stop_header` and `stop_status` are
/// answered where nothing would change; the rest is for readers.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sender {
    pub retries: Option<String>,
    /// Which attempt at delivery this is.
    pub attempt: Option<Selector>,
    /// Whether the first attempt is number 1; else it has none, or 0.
    pub attempts_from_one: bool,
    pub reason: Option<Selector>,
    pub batch_max: Option<u64>,
    pub disables_after: Option<String>,
    pub manual_redelivery: Option<Redelivery>,
    pub max_payload: Option<u64>,
    pub ordered_per: Option<String>,
    pub revalidates: Option<String>,
    /// A header of our answer that stops retries.
    pub stop_header: BTreeMap<String, String>,
    pub stop_status: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Redelivery {
    SameId,
    NewId,
}

/// A handshake: a request that is answered from the definition and starts nothing.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    pub id: String,
    pub when: Vec<Condition>,
    /// Whether it is answered only after verification.
    pub verified: bool,
    /// Answered only while this slot holds no secret.
    pub only_when_unset: Option<String>,
    /// Slots that the handshake fills.
    #[serde(default)]
    pub persist: BTreeMap<String, Template>,
    #[serde(default)]
    pub check: Vec<Condition>,
    pub r#else: Option<Otherwise>,
    pub allow_list: Option<AllowList>,
    pub respond: SyncAnswer,
}

/// What is answered when the check of a handshake fails.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Otherwise {
    pub status: Option<u16>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowList {
    pub sel: Selector,
    /// A setting that lists what is allowed.
    pub cfg: String,
}

/// A JSON pointer whose `*` steps stand for every element.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SplitPath(pub Vec<SplitStep>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitStep {
    Into(String),
    Each,
}

impl TryFrom<String> for SplitPath {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or_else(|| format!("`{text}` must begin with `/`"))?;
        let step = |step: &str| match step {
            "*" => SplitStep::Each,
            name => SplitStep::Into(name.replace("~1", "/").replace("~0", "~")),
        };
        let steps: Vec<SplitStep> = rest.split('/').map(step).collect();
        if !steps.contains(&SplitStep::Each) {
            return Err(format!("`{text}` needs a step `*` that stands for every item"));
        }
        Ok(Self(steps))
    }
}

/// Names an event. The first rule whose conditions hold and whose name can be filled decides.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    #[serde(default)]
    pub when: Vec<Condition>,
    pub name: Template,
    #[serde(default)]
    pub aliases: Vec<Template>,
}

/// Where the sender's id of a delivery stands.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliveryIds {
    pub id: Vec<Template>,
    /// The id of one item of a batch.
    #[serde(default)]
    pub item_id: Vec<Template>,
    #[serde(default)]
    pub alt: Vec<Template>,
    pub fallback: Option<Fallback>,
    #[serde(default)]
    pub stable_across_retries: bool,
    pub note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    BodyHash,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextRule {
    #[serde(default)]
    pub when: Vec<Condition>,
    pub from: Selector,
    pub title: Option<Selector>,
    pub format: Format,
}

/// A dialect of marked-up text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Atlassian Document Format: a JSON tree.
    Adf,
    /// Either, as the value tells.
    AdfOrWiki,
    DiscordMd,
    Gfm,
    Html,
    JiraWiki,
    Markdown,
    /// Slack's.
    Mrkdwn,
    Plain,
    TelegramHtml,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PressedRule {
    pub when: Vec<Condition>,
    /// What the button says.
    pub approve: bool,
    /// What it carries: `{ctx:task} {ctx:digest}` of the question.
    pub about: Template,
}

#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorRule {
    pub id: Vec<Template>,
    pub bot: Option<AnyOf>,
    #[serde(rename = "self")]
    pub own: Option<AnyOf>,
    pub permission: Option<PermissionRule>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnyOf {
    pub any: Vec<Condition>,
}

/// How the actor's right to start work is told.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PermissionRule {
    /// The first of these that stands in the payload and is valid decides.
    pub from: Vec<PermissionSource>,
    pub trusted: Vec<String>,
    /// Must hold for any of the sources to count.
    pub valid_when: Vec<Condition>,
    /// The value is a number whose bits are rights.
    pub bitmask: bool,
    pub trusted_bits: u64,
    pub lookup: Option<Lookup>,
}

/// A place of an association, bare or with the conditions under which it speaks of the actor.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum PermissionSource {
    Bare(Selector),
    Guarded(GuardedSource),
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardedSource {
    pub sel: Selector,
    pub when: Vec<Condition>,
}

/// A question to the provider's API.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    pub method: Method,
    pub url: Template,
    pub take: Pointer,
    pub trusted: Option<Vec<Value>>,
    pub trusted_min: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceRule {
    pub id: Vec<Template>,
    #[serde(default)]
    pub thread: Vec<Template>,
    #[serde(default)]
    pub url: Vec<Template>,
}
