//! `skillhook demo`: the whole way once, on real parts, in a directory of its own: a file is edited, reconciled,
//! committed and pushed; a signed delivery comes in, an agent runs, and its answer arrives at a stand-in for GitHub.

pub mod github;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::app;
use crate::config::{Config, Settings, environment};
use crate::error::{Code, Context as _, Error, Result};
use crate::ledger::TaskFilter;
use crate::model::ids::{DeliveryId, TaskId};
use crate::model::plan::Kind;
use crate::model::provider::sample;
use crate::model::secret::SecretSet;
use crate::model::task::{Task, TaskState};
use crate::reconcile::embedded;
use crate::reconcile::pass::Published;
use crate::repo::{Repository, bare};
use github::Github;

/// Longest wait for any one step, in which a real agent may think.
const STEP: Duration = Duration::from_secs(300);
const SECRET_VARIABLE: &str = "GITHUB_WEBHOOK_SECRET";
const TOKEN_VARIABLE: &str = "SKILLHOOK_DEMO_TOKEN";
/// What the demo writes into the skill, and what is then seen in the prompt.
const EDIT: &str = "Answer in three sentences.";
/// What the demo asks.
const QUESTION: &str = "@agent analyze why the export is slow for large repositories";

/// How the demo runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Ends after the round instead of staying up.
    pub once: bool,
}

/// Runs the demo and tells of it on `out`.
///
/// # Errors
/// Names the step that did not come about.
pub async fn run(options: Options, out: &mut (dyn Write + Send)) -> Result<()> {
    let directory = tempfile::Builder::new()
        .prefix("skillhook-demo-")
        .tempdir()
        .context(Code::SettingInvalid, "no temporary directory")?;
    let mut story = Story { out, begun: Instant::now() };
    let github = Github::start().await?;
    let scene = Scene::lay(directory.path(), &github)?;
    story.tell("A repository with the shipped `.claude/` files, a bare remote, and a stand-in for the GitHub API")?;
    story.detail(&format!("root    {}", scene.root.display()))?;
    story.detail(&format!("agent   {}", scene.agent))?;
    let service = Box::pin(app::start(scene.config.clone())).await?;
    let outcome = Box::pin(round(&mut story, &scene, &service, &github)).await;
    if outcome.is_ok() && !options.once {
        story.tell("The service stays up; stop it with Ctrl-C")?;
        story.detail(&format!("deliver  http://{}/webhooks/github", service.receiver))?;
        story.detail(&format!("status   skillhook --root {} status", scene.root.display()))?;
        story.detail(&format!("health   http://{}/healthz", service.admin))?;
        let _ = tokio::signal::ctrl_c().await;
    }
    service.stop();
    let ended = service.ended().await;
    outcome.and(ended)
}

struct Story<'a> {
    out: &'a mut (dyn Write + Send),
    begun: Instant,
}

impl Story<'_> {
    fn tell(&mut self, sentence: &str) -> Result<()> {
        let seconds = self.begun.elapsed().as_secs_f64();
        writeln!(self.out, "{seconds:7.3} s  {sentence}").context(Code::Bug, "the story cannot be told")
    }

    fn detail(&mut self, line: &str) -> Result<()> {
        writeln!(self.out, "           {line}").context(Code::Bug, "the story cannot be told")
    }

    fn details(&mut self, text: &str) -> Result<()> {
        text.lines().try_for_each(|line| self.detail(line))
    }
}

/// Everything that is there before the curtain rises.
struct Scene {
    root: PathBuf,
    remote: PathBuf,
    secret: String,
    agent: String,
    config: Config,
}

impl Scene {
    fn lay(directory: &Path, github: &Github) -> Result<Self> {
        let (root, remote) = (directory.join("repository"), directory.join("remote.git"));
        let failed = "the demo's files cannot be written";
        for (path, bytes) in embedded::files() {
            let path = root.join(path);
            let parent = path.parent().unwrap_or(&root).to_owned();
            std::fs::create_dir_all(parent).context(Code::SettingInvalid, failed)?;
            std::fs::write(path, &bytes).context(Code::SettingInvalid, failed)?;
        }
        Repository::init(&root)?;
        bare::create_bare(&remote)?;
        bare::add_remote(&root, "origin", &remote)?;
        let secret = crate::seam::fresh_secret()?;
        let mut surroundings = environment();
        surroundings.insert(SECRET_VARIABLE.to_owned(), secret.clone());
        surroundings.insert(TOKEN_VARIABLE.to_owned(), "demo-token".to_owned());
        let mut settings = Settings::default();
        settings.server.listen = "127.0.0.1:0".into();
        settings.server.admin_listen = "127.0.0.1:0".into();
        let table = [("api_base", github.base()), ("api_token_env", TOKEN_VARIABLE.to_owned())];
        let table: BTreeMap<_, _> = table.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        settings.providers.insert("github".to_owned(), table);
        let agent = choose_agent(&mut settings, &surroundings)?;
        let config = Config::checked(root.clone(), root.join(".skillhook"), settings, surroundings)?;
        Ok(Self { root, remote, secret, agent, config })
    }
}

/// The real agent program when it is installed and has credentials, else the scripted one, which says so.
fn choose_agent(settings: &mut Settings, environment: &BTreeMap<String, String>) -> Result<String> {
    let path = environment.get("PATH").map(String::as_str).unwrap_or_default();
    let installed = std::env::split_paths(path).map(|directory| directory.join("claude")).find(|file| file.is_file());
    let credentials = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
    let has_credentials = credentials.iter().any(|name| environment.get(*name).is_some_and(|value| !value.is_empty()));
    if let Some(claude) = installed.filter(|_| has_credentials) {
        return Ok(format!("the real one, {}", claude.display()));
    }
    let own = std::env::current_exe().context(Code::Bug, "the own program cannot be found")?;
    settings.agent.program = own.display().to_string();
    settings.agent.args = vec!["scripted-agent".to_owned()];
    Ok("the built-in scripted one: `claude` is not installed here, or has no credentials".to_owned())
}

async fn round(story: &mut Story<'_>, scene: &Scene, service: &app::Service, github: &Github) -> Result<()> {
    first_pass(story, service).await?;
    edit(story, scene, service).await?;
    let (delivery, task) = deliver(story, scene, service).await?;
    let task = follow(story, service, task).await?;
    if !github.wait_for_comments(1, STEP).await {
        return Err(Error::new(Code::TimedOut, "no comment arrived at the stand-in"));
    }
    let seen = github.seen();
    let reactions = seen.iter().filter(|seen| seen.path.ends_with("/reactions")).count();
    story.tell(&format!("The answer is a comment at the source ({reactions} reaction before it)"))?;
    story.details(&indent(&github.comments()[0]))?;
    story.tell(&format!("Done: delivery {delivery}, task {}, one answer", task.spec.id))
}

async fn first_pass(story: &mut Story<'_>, service: &app::Service) -> Result<()> {
    let mut published = service.published.clone();
    let first = tokio::time::timeout(STEP, published.wait_for(Option::is_some)).await;
    let first = first.map_err(|_| timed_out("the first pass"))?.map_err(|_| timed_out("the first pass"))?.clone();
    let Some(first) = first else { return Err(timed_out("the first pass")) };
    let webhooks = first.report.actions.iter().filter(|action| action.kind == Kind::Webhook).count();
    story.tell(&format!("The first pass made {} changes, {webhooks} of them webhooks", first.report.actions.len()))?;
    story.detail(&format!("index   {}", first.state.digest))?;
    wait_for_commit(service, None).await?;
    Ok(())
}

/// Changes one prompt on disk, as an editor would.
async fn edit(story: &mut Story<'_>, scene: &Scene, service: &app::Service) -> Result<()> {
    let path = ".claude/skills/github-operations/SKILL.md";
    let file = scene.root.join(path);
    let failed = "the SKILL.md cannot be edited";
    let text = std::fs::read_to_string(&file).context(Code::TreeUnreadable, failed)?;
    let before = service.published.borrow().as_ref().map_or(0, generation);
    let commit_before = service.progress.borrow().pushed.commit.clone();
    let edited = with_first_line(&text, EDIT)
        .ok_or_else(|| Error::new(Code::Bug, "the shipped skill has no command `analyze` to edit"))?;
    let saved = Instant::now();
    std::fs::write(&file, edited).context(Code::TreeUnreadable, failed)?;
    let mut published = service.published.clone();
    let newer = published.wait_for(|newest| newest.as_ref().is_some_and(|newest| generation(newest) > before));
    let newer = tokio::time::timeout(STEP, newer).await.map_err(|_| timed_out("the pass"))?;
    let newest = newer.map_err(|_| timed_out("the pass"))?.clone().ok_or_else(|| timed_out("the pass"))?;
    story.tell(&format!("Edited {path}: live after {:.1} ms", saved.elapsed().as_secs_f64() * 1000.0))?;
    story.detail(&format!("added   {EDIT}"))?;
    for action in &newest.report.actions {
        story.detail(&format!("plan    {action}"))?;
    }
    story.detail(&format!("index   {}", newest.state.digest))?;
    wait_for_commit(service, commit_before).await?;
    let (commit, message) = bare::tip(&scene.remote, "main")?;
    story.tell("The commit as the bare remote has it")?;
    story.details(&format!("commit  {commit}\n{}", indent(&message)))
}

/// Of the webhook whose prompt is edited: a pass that saw the file half written does not count it up.
fn generation(published: &Published) -> u64 {
    published.state.observed.webhooks.get("github").map_or(0, |webhook| webhook.generation)
}

/// The file with one more line at the head of the prompt of `analyze`, which is what the demo then asks for.
fn with_first_line(text: &str, line: &str) -> Option<String> {
    let block = "prompt_template: |\n";
    let command = text.find("- name: analyze\n")?;
    let at = command + text[command..].find(block)? + block.len();
    let indentation: String = text[at..].chars().take_while(|c| *c == ' ').collect();
    Some(format!("{}{indentation}{line}\n\n{}", &text[..at], &text[at..]))
}

async fn wait_for_commit(service: &app::Service, not: Option<String>) -> Result<()> {
    let mut progress = service.progress.clone();
    let pushed = progress.wait_for(|now| now.pushed.commit.is_some() && now.pushed.commit != not);
    tokio::time::timeout(STEP, pushed).await.map_err(|_| timed_out("the push"))?.map_err(|_| timed_out("the push"))?;
    Ok(())
}

/// Sends a delivery as GitHub would: signed, over HTTP.
async fn deliver(story: &mut Story<'_>, scene: &Scene, service: &app::Service) -> Result<(DeliveryId, TaskId)> {
    let mut sample = sample::find("github.issue_comment.created")?;
    sample.set(&format!("comment.body={QUESTION}"))?;
    let published = service.published.borrow().clone().ok_or_else(|| timed_out("the first pass"))?;
    let definition = published.catalogue.get(&sample.provider);
    let definition = definition.ok_or_else(|| Error::new(Code::Bug, "github is not in the catalogue"))?;
    let secrets = SecretSet::new().with("webhook_secret", scene.secret.as_bytes());
    let url = format!("http://{}/webhooks/github", service.receiver);
    let id = crate::seam::fresh_id().to_string();
    let request = sample::sign(definition, &secrets, &sample, &url, &id, crate::seam::Clock::System.now())?;
    let begun = Instant::now();
    let mut post = reqwest::Client::new().post(&url).body(request.body.clone());
    for (name, value) in request.headers.iter() {
        post = post.header(name, value);
    }
    let response = post.send().await.context(Code::ServerAway, "the delivery could not be sent")?;
    let took = begun.elapsed();
    let status = response.status().as_u16();
    let answer: Value = response.json().await.context(Code::Bug, "the answer to the delivery is not JSON")?;
    story.tell(&format!(
        "A signed `issue_comment.created` was answered with {status} after {:.1} ms, stored",
        took.as_secs_f64() * 1000.0
    ))?;
    story.detail(&answer.to_string())?;
    let delivery = answer["delivery"].as_str().and_then(|id| DeliveryId::parse(id).ok());
    let task = answer["tasks"][0].as_str().and_then(|id| TaskId::parse(id).ok());
    match (status, delivery, task) {
        (202, Some(delivery), Some(task)) => Ok((delivery, task)),
        _ => Err(Error::new(Code::Bug, "the delivery made no task").detail(answer)),
    }
}

async fn follow(story: &mut Story<'_>, service: &app::Service, id: TaskId) -> Result<Task> {
    let task = service.ledger.task(id).await?.ok_or_else(|| Error::new(Code::NotFound, "the task is not there"))?;
    story.tell(&format!(
        "The task is pinned to generation {} and revision {}",
        task.spec.generation,
        task.spec.revision.short()
    ))?;
    story.detail("the rendered prompt:")?;
    story.details(&indent(&task.spec.prompt))?;
    let begun = Instant::now();
    let ended = loop {
        let found = service.ledger.tasks(TaskFilter { limit: 10, ..TaskFilter::default() }).await?;
        match found.into_iter().find(|task| task.spec.id == id) {
            Some(task) if task.state.is_terminal() => break task,
            _ if begun.elapsed() > STEP => return Err(timed_out("the agent's run")),
            _ => service.ledger.work_signal(Duration::from_millis(50)).await,
        }
    };
    story.tell(&format!("The agent's run ended: {}", ended.state.as_str()))?;
    for line in service.ledger.log(id, 0, 20).await? {
        story.detail(&format!("{:5}   {}", line.kind, line.text.lines().next().unwrap_or_default()))?;
    }
    match ended.state {
        TaskState::Succeeded => Ok(ended),
        _ => {
            let why = ended.reason.map(|reason| reason.message).unwrap_or_default();
            Err(Error::new(Code::AgentFailed, format!("the task ended as {}: {why}", ended.state.as_str())))
        }
    }
}

fn timed_out(step: &str) -> Error {
    Error::new(Code::TimedOut, format!("{step} did not come about in {} s", STEP.as_secs()))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
