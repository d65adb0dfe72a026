//! The query parameters of each address.

use super::Operation;

/// The most items of one page.
pub const LIMIT_MAX: u64 = 1_000;
/// The longest that an answer is held back.
pub const WAIT_SECONDS_MAX: u64 = 25;
/// What JSON readers keep exact.
const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A query parameter.
#[derive(Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub summary: &'static str,
    pub form: Form,
}

/// What a parameter's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// `true` or `false`.
    Flag,
    Number {
        least: u64,
        most: u64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
}

const fn parameter(name: &'static str, form: Form, summary: &'static str) -> Parameter {
    Parameter { name, summary, form }
}

const LIMIT: Parameter =
    parameter("limit", Form::Number { least: 1, most: LIMIT_MAX }, "At most this many items (else 50)");
const LIMIT_ALL: Parameter =
    parameter("limit", Form::Number { least: 1, most: LIMIT_MAX }, "At most this many items (else 1000)");
const BEFORE: Parameter = parameter("before", Form::Text, "Only items older than this id");
const AFTER: Parameter = parameter("after", Form::Text, "Only items newer than this id, the oldest first");
const BY_TIME: Parameter =
    sort(&["-created_at", "created_at"], "The newest first (else), or with `created_at` the oldest");
const BY_RECEIPT: Parameter =
    sort(&["-received_at", "received_at"], "The newest first (else), or with `received_at` the oldest");
const BEHIND: Parameter = parameter("after", Form::Text, "Only items that stand behind this one: the `next` of a page");
const ACTOR: Parameter = parameter("actor", Form::Text, "Only what somebody with this in his name did");
const DEED_KIND: Parameter =
    parameter("kind", Form::Text, "Only these kinds of deeds, separated by commas, for example `approval.*`");
const BEFORE_SEQ: Parameter =
    parameter("before", Form::Number { least: 0, most: NUMBER_MAX }, "Only deeds older than this number");
const BEFORE_COMMIT: Parameter = parameter("before", Form::Text, "Only commits behind this one");
const WEBHOOK: Parameter = parameter("webhook", Form::Text, "Only those of this webhook");
const STATE: Parameter = parameter("state", Form::Text, "Only tasks in these states, separated by commas");
const DELIVERY: Parameter = parameter("delivery", Form::Text, "Only tasks of this delivery");
const WAIT_LIVE: Parameter = parameter("wait", Form::Flag, "`false` answers before it is in force");
const PROPOSE: Parameter = parameter("propose", Form::Flag, "Asks for a branch that a person merges");
const DRY_RUN: Parameter = parameter("dry_run", Form::Flag, "`false` does it; else it is only tried");
const KIND: Parameter = parameter(
    "kind",
    Form::Text,
    "Only these kinds, separated by commas, for example `task.*`; `!task.output`: not this",
);
const STREAM_DELIVERY: Parameter = parameter("delivery", Form::Text, "Only what concerns this delivery");
const STREAM_TASK: Parameter = parameter("task", Form::Text, "Only what concerns this task");
const TICKET: Parameter = parameter("ticket", Form::Text, "A ticket, in place of the `Authorization` header");
const FROM: Parameter = parameter("from", Form::Number { least: 0, most: NUMBER_MAX }, "The first line, from 0");
const DIGEST: Parameter = parameter(
    "digest",
    Form::Text,
    "The SHA-256 of the prompt that was looked at, or its beginning; another one is refused",
);
const REASON: Parameter = parameter("reason", Form::Text, "What is said at the source about a rejection");
const BODY: Parameter = parameter("body", Form::Flag, "Shows the body too");
const SINCE: Parameter =
    parameter("since", Form::Number { least: 0, most: NUMBER_MAX }, "The last sequence number that is already known");
const WAIT_SECONDS: Parameter =
    parameter("wait", Form::Number { least: 0, most: WAIT_SECONDS_MAX }, "Wait up to this many seconds for news");
const HOURS: Parameter = parameter("hours", Form::Number { least: 1, most: 24 }, "So many hours back (else 1)");
const DAYS: Parameter =
    parameter("days", Form::Number { least: 1, most: 366 }, "So many days, today included (else 14)");
const SEARCH: Parameter = parameter("search", Form::Text, "Only those with this in a name");
const STANDING: Parameter = parameter(
    "state",
    Form::OneOf(&["ready", "needs_secret", "stalled", "reconciling", "not_ready", "disabled"]),
    "Only webhooks of which this holds",
);
const ALLOW_PRUNE: Parameter = parameter("allow_prune", Form::Flag, "Confirms a large deletion");
const WITH_SOURCE: Parameter = parameter("with_source", Form::Flag, "Fetches and pulls first");
const PATH: Parameter = parameter("path", Form::Text, "Only commits that changed this file or directory");
const FROM_REVISION: Parameter = parameter("from", Form::Text, "The older commit, branch or tag");
const TO_REVISION: Parameter = parameter("to", Form::Text, "The newer one (else HEAD)");
const REVISION: Parameter = parameter("revision", Form::Text, "The commit, branch or tag to go back to");
const WAIT: Parameter = parameter("wait", Form::Flag, "Answers once the pass is done");

/// The orders of a list; with `-` in front from the end.
const fn sort(words: &'static [&'static str], summary: &'static str) -> Parameter {
    parameter("sort", Form::OneOf(words), summary)
}

const ORDER: &str = "The field that orders the list, with `-` from its end (else its id)";
const WEBHOOK_SORT: Parameter = sort(
    &[
        "id",
        "-id",
        "name",
        "-name",
        "provider",
        "-provider",
        "enabled",
        "-enabled",
        "generation",
        "-generation",
        "created_at",
        "-created_at",
        "updated_at",
        "-updated_at",
    ],
    ORDER,
);
const NAME_SORT: Parameter = sort(&["name", "-name"], ORDER);
const FILE_SORT: Parameter = sort(&["name", "-name", "path", "-path"], ORDER);
const PROVIDER_SORT: Parameter = sort(&["name", "-name", "title", "-title", "source", "-source"], ORDER);
const TOKEN_SORT: Parameter = sort(
    &[
        "id",
        "-id",
        "name",
        "-name",
        "state",
        "-state",
        "created_at",
        "-created_at",
        "last_used_at",
        "-last_used_at",
        "expires_at",
        "-expires_at",
    ],
    ORDER,
);
const SECRET_SORT: Parameter = sort(
    &["id", "-id", "webhook", "-webhook", "slot", "-slot", "state", "-state", "last_used_at", "-last_used_at"],
    ORDER,
);
const CONVERSATION_SORT: Parameter = sort(
    &["-updated_at", "updated_at", "created_at", "-created_at", "id", "-id", "messages", "-messages"],
    "The field that orders the list, with `-` from its end (else `-updated_at`)",
);
const STATS_SORT: Parameter = sort(
    &["webhook", "-webhook", "deliveries", "-deliveries", "tasks", "-tasks", "last_received_at", "-last_received_at"],
    ORDER,
);
const NEWEST: Parameter = parameter(
    "newest",
    Form::Number { least: 1, most: LIMIT_MAX },
    "So many of the newest deliveries are counted (else 1000)",
);
const PATH_SORT: Parameter = sort(&["path", "-path"], ORDER);

impl Operation {
    /// The query parameters that it takes; any other one is refused.
    pub fn parameters(self) -> &'static [Parameter] {
        match self {
            Operation::Tasks => &[STATE, WEBHOOK, DELIVERY, LIMIT, BEFORE, AFTER, BY_TIME],
            Operation::Approvals | Operation::DeadLetters => &[WEBHOOK, LIMIT, BEFORE, AFTER, BY_TIME],
            Operation::Webhooks => &[SEARCH, STANDING, LIMIT_ALL, BEHIND, WEBHOOK_SORT],
            Operation::Skills | Operation::Agents | Operation::RegistrySkills | Operation::RegistryAgents => {
                &[SEARCH, LIMIT_ALL, BEHIND, FILE_SORT]
            }
            Operation::Providers => &[LIMIT_ALL, BEHIND, PROVIDER_SORT],
            Operation::Commands => &[LIMIT_ALL, BEHIND, NAME_SORT],
            Operation::Tokens => &[LIMIT_ALL, BEHIND, TOKEN_SORT],
            Operation::Secrets => &[LIMIT_ALL, BEHIND, SECRET_SORT],
            Operation::Conversations => &[LIMIT_ALL, BEHIND, CONVERSATION_SORT],
            Operation::Messages => &[LIMIT_ALL, BEHIND],
            Operation::Audit => &[DEED_KIND, ACTOR, LIMIT, BEFORE_SEQ],
            Operation::ApproveTask | Operation::RejectTask => &[DIGEST, REASON],
            Operation::TaskLogs => &[FROM, LIMIT],
            Operation::Deliveries | Operation::WebhookEvents => &[WEBHOOK, LIMIT, BEFORE, AFTER, BY_RECEIPT],
            Operation::WebhookStats => &[NEWEST, LIMIT_ALL, BEHIND, STATS_SORT],
            Operation::ReplayOne => &[DRY_RUN],
            Operation::CreateWebhook
            | Operation::EditBuiltinWebhook
            | Operation::EditWebhook
            | Operation::PatchWebhook
            | Operation::DeleteWebhook
            | Operation::EnableWebhook
            | Operation::DisableWebhook
            | Operation::AddCommand
            | Operation::PutCommand
            | Operation::DeleteCommand
            | Operation::UploadSkill
            | Operation::PutSkillContent
            | Operation::DeleteSkill
            | Operation::UploadAgent
            | Operation::PutAgentContent
            | Operation::DeleteAgent
            | Operation::PutSecret => &[WAIT_LIVE, PROPOSE],
            Operation::Delivery => &[BODY],
            Operation::Events => &[SINCE, WAIT_SECONDS, LIMIT],
            Operation::Stream => &[SINCE, KIND, WEBHOOK, STREAM_DELIVERY, STREAM_TASK, FROM, TICKET],
            Operation::Recent => &[HOURS],
            Operation::Spending => &[DAYS],
            Operation::Picture => &[SEARCH, LIMIT],
            Operation::History => &[PATH, LIMIT, BEFORE_COMMIT],
            Operation::Diff => &[FROM_REVISION, TO_REVISION, LIMIT_ALL, BEHIND, PATH_SORT],
            Operation::Plan => &[FROM_REVISION, TO_REVISION],
            Operation::Rollback => &[REVISION],
            Operation::Reconcile => &[WAIT, WITH_SOURCE, ALLOW_PRUNE],
            _ => &[],
        }
    }
}
