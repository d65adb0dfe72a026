//! Approvals: a run that a person has to agree to before it begins.
//!
//! An approval is given for one prompt: it holds the digest of the text that the agent will get, so it says nothing
//! about another text. The terms are fixed when the task is born. What is said at the source stands here too, so that
//! a decision and its answer are written in one commit. Whether somebody may start runs at all was asked before.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::ids::TaskId;
use super::provider::{PreparedCall, ReplyTraits};
use super::task::{Task, TaskSpec};
use super::untrusted::Outgoing;
use crate::error::{Code, Error, Result};

/// How long an approval is waited for when nothing else is said, in seconds.
pub const EXPIRES_SECONDS_DEFAULT: u64 = 24 * 60 * 60;
/// Characters of the digest that are shown and may be repeated.
const SHOWN_CHARS: usize = 12;
/// Fewer characters of a digest name nothing.
const NAMED_CHARS_MIN: usize = 6;
/// Longest reason of a person that is kept, in characters.
const REASON_CHARS_MAX: usize = 500;

/// So many approvers are named at the source: a message with buttons must not grow long.
const NAMES_SHOWN_MAX: usize = 20;

/// Under which terms a run may begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whether whoever asked for the run may also agree to it.
    pub self_approval: bool,
    /// Ids of the actors who may agree; empty: all who may start runs.
    pub approvers: Vec<String>,
    pub expires_seconds: u64,
}

impl Default for Approval {
    fn default() -> Self {
        Self { self_approval: true, approvers: Vec::new(), expires_seconds: EXPIRES_SECONDS_DEFAULT }
    }
}

impl Approval {
    pub fn expires(&self) -> Duration {
        Duration::from_secs(self.expires_seconds)
    }
}

/// An approval that was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    pub by: String,
    pub at: Timestamp,
    /// Of the prompt that was agreed to.
    pub prompt: Digest,
}

impl Given {
    /// Whether it was given for this prompt.
    pub fn covers(&self, prompt: &str) -> bool {
        self.prompt == prompt_digest(prompt)
    }
}

/// Who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// Somebody at the source, by actor id.
    Actor(String),
    /// Somebody with access to the service, by name.
    Operator(String),
}

impl Decider {
    pub fn name(&self) -> &str {
        match self {
            Decider::Actor(name) | Decider::Operator(name) => name,
        }
    }
}

/// A person's word on a task that waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub by: Decider,
    pub approve: bool,
    /// The digest that the person saw, or its beginning.
    pub digest: Option<String>,
    pub reason: Option<String>,
}

/// The digest by which an approval knows its prompt.
pub fn prompt_digest(prompt: &str) -> Digest {
    Digest::of(prompt.as_bytes())
}

/// So much of it as people are shown.
pub fn shown(prompt: &str) -> String {
    let mut text = prompt_digest(prompt).to_string();
    text.truncate(SHOWN_CHARS);
    text
}

/// Whether this decision counts for this task.
///
/// # Errors
/// SH0710 when the person may not decide it, SH0711 when it was made about another prompt.
pub fn check(spec: &TaskSpec, decision: &Decision) -> Result<()> {
    let terms = spec.run.approval.clone().unwrap_or_default();
    if let Some(seen) = &decision.digest {
        let fits = seen.len() >= NAMED_CHARS_MIN && prompt_digest(&spec.prompt).to_string().starts_with(seen.as_str());
        if !fits {
            let message =
                format!("the prompt is not the one that was looked at: it has the digest {}", shown(&spec.prompt));
            return Err(Error::new(Code::ApprovalVoid, message).hint("look at the task again, then decide"));
        }
    }
    let Decider::Actor(actor) = &decision.by else { return Ok(()) };
    let same = |other: &String| other.eq_ignore_ascii_case(actor);
    if !terms.approvers.is_empty() && !terms.approvers.iter().any(same) {
        let message = format!("`{actor}` is not among those who may approve `{}`", spec.command);
        return Err(Error::new(Code::ApprovalRefused, message));
    }
    // Whoever asked may always take it back.
    if decision.approve && !terms.self_approval && spec.source.actor.as_ref().is_none_or(same) {
        let message = format!("`{actor}` asked for `{}`, and somebody else has to approve it", spec.command);
        return Err(Error::new(Code::ApprovalRefused, message));
    }
    Ok(())
}

/// Those of the waiting tasks that a person means who said `words` behind the command: all where nothing was said;
/// else those that are named by id, by command, or by the digest of their prompt.
pub fn meant<'t>(waiting: &'t [Task], words: &str) -> Vec<&'t Task> {
    let Some(word) = words.split_whitespace().next().map(|word| word.trim_matches('`')) else {
        return waiting.iter().collect();
    };
    let meant: Vec<&Task> = waiting.iter().filter(|task| is_named(task, word)).collect();
    // Free words, as in `approve looks good to me`, name nothing.
    if meant.is_empty() && !looks_like_a_name(word) { waiting.iter().collect() } else { meant }
}

/// Whether the first of these words names the task.
pub fn names(task: &Task, words: &str) -> bool {
    words.split_whitespace().next().is_some_and(|word| is_named(task, word.trim_matches('`')))
}

/// What was said behind the name of a task.
pub fn after_the_name(words: &str) -> String {
    words.trim().split_once(char::is_whitespace).map(|(_, rest)| rest.trim().to_owned()).unwrap_or_default()
}

fn is_named(task: &Task, word: &str) -> bool {
    let spec = &task.spec;
    let digest = word.len() >= NAMED_CHARS_MIN && prompt_digest(&spec.prompt).to_string().starts_with(word);
    digest || spec.id.to_string() == word || spec.command.as_str().eq_ignore_ascii_case(word)
}

fn looks_like_a_name(word: &str) -> bool {
    word.starts_with("tsk_") || (word.len() >= NAMED_CHARS_MIN && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Told at the source when a task begins to wait.
pub fn announcement(spec: &TaskSpec) -> String {
    let terms = spec.run.approval.clone().unwrap_or_default();
    let who = match (terms.approvers.as_slice(), terms.self_approval) {
        ([], true) => "Anyone who may start runs here can decide".to_owned(),
        ([], false) => "Anyone who may start runs here, except whoever asked, can decide".to_owned(),
        (names, _) => format!("These can decide: {}", listed(names)),
    };
    let prefix = spec.prefixes.first().map(|prefix| format!("{prefix} ")).unwrap_or_default();
    let (digest, id) = (shown(&spec.prompt), spec.id);
    format!(
        "`{command}` waits for an approval before it runs; its prompt has the digest `{digest}`.\n\n\
         {who}, within {hours}: answer `{prefix}approve {digest}` or `{prefix}reject {digest}`. \
         With access to the service: `skillhook approve {id}` or `skillhook reject {id}`.",
        command = spec.command,
        hours = span(terms.expires_seconds),
    )
}

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN_MAX).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(NAMES_SHOWN_MAX);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn span(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60) {
        (0, 0) => format!("{seconds} seconds"),
        (0, minutes) => format!("{minutes} minutes"),
        (hours, _) => format!("{hours} hours"),
    }
}

/// The call that asks at the source: with buttons where the provider has them, which carry the task and the digest of
/// its prompt.
pub fn asking(call: &PreparedCall, spec: &TaskSpec) -> PreparedCall {
    let known = [("task", spec.id.to_string()), ("digest", shown(&spec.prompt))];
    let known = known.map(|(name, value)| (name.to_owned(), value)).into();
    match call.reply.as_ref().and_then(|traits| traits.approval.as_ref()) {
        Some(asking) => beside(call, asking.settled(&known)),
        None => call.clone(),
    }
}

/// The call that says that a question is decided: in its place, where the provider can do that.
pub fn deciding(call: &PreparedCall) -> PreparedCall {
    match call.reply.as_ref().and_then(|traits| traits.decided.as_ref()) {
        Some(decided) => beside(call, (**decided).clone()),
        None => call.clone(),
    }
}

/// A call that goes to the same place as another one.
fn beside(call: &PreparedCall, other: PreparedCall) -> PreparedCall {
    let traits = call.reply.clone().map(|traits| Box::new(ReplyTraits { approval: None, decided: None, ..*traits }));
    PreparedCall { spacing: call.spacing.clone(), reply: traits, ..other }
}

/// Told at the source when nobody decided in time.
pub fn expired(spec: &TaskSpec) -> String {
    format!("`{}` was not approved in time and did not run. Ask for it again if it is still wanted.", spec.command)
}

/// Told at the source when a person said no; also the reason that is kept.
pub fn rejected(spec: &TaskSpec, decision: &Decision) -> String {
    let by = decision.by.name();
    match reason(decision) {
        Some(why) => format!("`{}` was rejected by `{by}`: {why}", spec.command),
        None => format!("`{}` was rejected by `{by}`.", spec.command),
    }
}

fn reason(decision: &Decision) -> Option<String> {
    let text: String = decision.reason.as_deref()?.trim().chars().take(REASON_CHARS_MAX).collect();
    Some(text).filter(|text| !text.is_empty())
}

/// The messages that a text of ours becomes at the place that a call leads to. `mark` is what they can be found by.
pub fn messages(call: &PreparedCall, prefixes: &[String], text: &str, mark: TaskId) -> Vec<String> {
    // Words of ours call a command only as code, which calls nothing; what people wrote may be anything.
    let Ok(outgoing) = Outgoing::new(prefixes.iter().map(String::as_str)) else { return Vec::new() };
    let safe = outgoing.clean(text).text;
    match &call.reply {
        Some(traits) => traits.messages(&safe, mark),
        None => vec![safe],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::task::{RunSettings, Source, task_for_tests};

    fn spec(terms: Approval) -> TaskSpec {
        let source = Source { actor: Some("mona".to_owned()), ..Source::default() };
        let run = RunSettings { approval: Some(terms), ..RunSettings::default() };
        TaskSpec { run, source, prompt: "Fix it.".to_owned(), ..task_for_tests().spec }
    }

    fn by(actor: &str) -> Decision {
        Decision { by: Decider::Actor(actor.to_owned()), approve: true, digest: None, reason: None }
    }

    #[test]
    fn whoever_asked_may_be_kept_from_approving_but_not_from_rejecting() {
        let alone = spec(Approval { self_approval: false, ..Approval::default() });
        assert_eq!(check(&alone, &by("Mona")).unwrap_err().code(), Code::ApprovalRefused);
        check(&alone, &Decision { approve: false, ..by("mona") }).unwrap();
        check(&alone, &by("hubot")).unwrap();
        check(&spec(Approval::default()), &by("mona")).unwrap();
        let unknown = TaskSpec { source: Source::default(), ..alone };
        assert_eq!(
            check(&unknown, &by("hubot")).unwrap_err().code(),
            Code::ApprovalRefused,
            "it may be the same person"
        );
    }

    #[test]
    fn approvers_are_who_is_named_and_operators() {
        let named = spec(Approval { approvers: vec!["lead".to_owned()], ..Approval::default() });
        assert_eq!(check(&named, &by("mona")).unwrap_err().code(), Code::ApprovalRefused);
        check(&named, &by("lead")).unwrap();
        check(&named, &Decision { by: Decider::Operator("cli".to_owned()), ..by("x") }).unwrap();
    }

    #[test]
    fn decision_about_another_prompt_is_void() {
        let task = spec(Approval::default());
        let about = |digest: &str| check(&task, &Decision { digest: Some(digest.to_owned()), ..by("mona") });
        about(&shown("Fix it.")).unwrap();
        about(&prompt_digest("Fix it.").to_string()).unwrap();
        for other in [shown("Fix it!"), String::new(), shown("Fix it.")[..3].to_owned()] {
            assert_eq!(about(&other).unwrap_err().code(), Code::ApprovalVoid, "{other}");
        }
    }

    #[test]
    fn words_behind_the_command_name_a_task_or_nothing() {
        let task = |prompt: &str| {
            let mut task = task_for_tests();
            task.spec.prompt = prompt.to_owned();
            task
        };
        let waiting = [task("one"), task("two")];
        let count = |words: &str| meant(&waiting, words).len();
        assert_eq!((count(""), count("looks good to me"), count(&shown("one")), count("abcdef012345")), (2, 2, 1, 0));
        assert_eq!(meant(&waiting, &format!("`{}` please", shown("two")))[0].spec.prompt, "two");
    }

    #[test]
    fn announcement_says_how_to_decide_and_calls_nothing() {
        let mut task = spec(Approval { self_approval: false, ..Approval::default() });
        task.prefixes = vec!["@agent".to_owned()];
        let text = announcement(&task);
        let digest = shown("Fix it.");
        assert!(text.contains(&format!("`@agent approve {digest}`")) && text.contains("24 hours"), "{text}");
        assert!(
            text.contains(&format!("skillhook approve {}", task.id)) && text.contains("except whoever asked"),
            "{text}"
        );
    }
}
