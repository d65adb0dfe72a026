//! Conversations with the service itself: a message is a task of the pseudo-webhook `chat`, and all tasks of one
//! conversation share an agent session.

use jiff::Timestamp;

use super::change::{Authority, Origin};
use super::digest::Digest;
use super::ids::{AgentName, CommandName, ProviderName, SkillName, TaskId, WebhookId};
use super::spec::Action;
use super::task::{Agreed, RunSettings, Source, TaskSpec};

/// The name of webhook, command and provider of a message.
const NAME: &str = "chat";
/// The canonical name of its event.
pub const EVENT: &str = "chat.message";
/// The agent that answers where none is named.
pub const AGENT_DEFAULT: &str = "brain";
/// Longest message in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How long an answer may take, in seconds.
const TIMEOUT_SECONDS: u64 = 15 * 60;
/// What agents of a conversation may use: reading, handing over, and the tools of the service.
const TOOLS: [&str; 6] = ["Read", "Grep", "Glob", "Skill", "Agent", "mcp__skillhook__*"];
/// Messages that say nothing but yes.
const YES: [&str; 14] = [
    "yes",
    "y",
    "yes please",
    "confirm",
    "confirmed",
    "apply",
    "apply it",
    "go ahead",
    "do it",
    "ok",
    "okay",
    "ja",
    "make it so",
    "please do",
];

/// One message of a person.
#[derive(Clone, Debug)]
pub struct Message {
    pub conversation: String,
    pub text: String,
    pub agent: AgentName,
    /// Who says it, as commits name him.
    pub actor: String,
    /// He may change configuration, and has confirmed that this message is to do so at once.
    pub confirmed: bool,
    /// He has agreed to what an earlier answer showed, and it was carried out or not.
    pub agreed: Option<Agreed>,
}

/// The webhook that tasks of conversations name; no file makes it, because `chat` is no provider.
pub fn webhook() -> WebhookId {
    WebhookId::parse(NAME).expect("a good name")
}

/// Whose calls answer for such a task: nobody's.
pub fn provider() -> ProviderName {
    ProviderName::parse(NAME).expect("a good name")
}

/// Whether a message agrees to what was said before.
pub fn agrees(text: &str) -> bool {
    let text = text.trim().trim_end_matches(['.', '!']).to_lowercase();
    YES.contains(&text.as_str())
}

/// Without a confirmation the run proposes what it wants to change.
fn authority(message: &Message) -> Authority {
    let person = Authority::of_person(Origin::Chat, &*message.actor);
    Authority { may_widen: message.confirmed, propose: !message.confirmed, ..person }
}

/// The task that answers a message.
pub fn task(id: TaskId, message: &Message, revision: Digest, now: Timestamp) -> TaskSpec {
    let source = Source {
        event: EVENT.to_owned(),
        actor: Some(message.actor.clone()),
        text: Some(message.text.clone()),
        external_id: format!("chat:{}", message.conversation),
        flow_id: message.conversation.clone(),
        conversation_id: message.conversation.clone(),
        agreed: message.agreed.clone(),
        ..Source::default()
    };
    TaskSpec {
        id,
        delivery: None,
        parent: None,
        webhook: webhook(),
        generation: 0,
        revision,
        command: CommandName::parse(NAME).expect("a good name"),
        skill: SkillName::parse("webhook-management").expect("a good name"),
        agent: Some(message.agent.clone()),
        action: Action::CreateTask,
        prompt: message.text.clone(),
        prefixes: Vec::new(),
        missing: Vec::new(),
        source,
        priority: 10,
        max_attempts: 2,
        run: RunSettings {
            tools: Some(TOOLS.map(str::to_owned).to_vec()),
            timeout_seconds: TIMEOUT_SECONDS,
            authority: Some(authority(message)),
            ..RunSettings::default()
        },
        webhook_concurrency: None,
        created_at: now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::{WriteMode, WriteModes};

    fn message(text: &str, confirmed: bool) -> Message {
        let agent = AgentName::parse(AGENT_DEFAULT).unwrap();
        Message { conversation: "c1".into(), text: text.into(), agent, actor: "ann".into(), confirmed, agreed: None }
    }

    #[test]
    fn only_a_bare_yes_agrees() {
        for yes in ["yes", "Yes!", " apply it. ", "OK"] {
            assert!(agrees(yes), "{yes}");
        }
        for no in ["", "no", "yes, but not the second one", "apply the patch of Bob", "y/n"] {
            assert!(!agrees(no), "{no}");
        }
    }

    #[test]
    fn what_is_not_confirmed_is_proposed() {
        let modes = WriteModes::default();
        let mode = |confirmed| {
            let spec =
                task(TaskId(crate::seam::fresh_id()), &message("x", confirmed), Digest::of(b""), Timestamp::UNIX_EPOCH);
            modes.mode(&spec.run.authority.unwrap(), true)
        };
        assert_eq!((mode(false), mode(true)), (WriteMode::Propose, WriteMode::Direct));
    }
}
