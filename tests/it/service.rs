//! A running service for tests: the real binary on a git work tree of its own, a bare remote, a stand-in for GitHub
//! and a fake agent. Nothing is shared between two of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use skillhook::demo::github::Github;
use tempfile::TempDir;

/// The secret of the built-in github webhook in every test.
pub const SECRET: &str = "a-test-secret";

/// Longest wait for anything that should happen at once.
pub const SOON: Duration = Duration::from_secs(60);

const PLAN: &str = "agent-plan.json";

pub struct Service {
    pub dir: TempDir,
    pub github: Github,
    child: Option<Child>,
    receiver: u16,
    admin: u16,
    settings: String,
    /// Seconds between two looks at everything and at the remote.
    pub poll: u64,
    environment: BTreeMap<String, String>,
    pub client: reqwest::Client,
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("service.log")).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the service's log, newest first\n{}", tail.join("\n"));
        }
    }
}

impl Service {
    /// A prepared repository, not running yet. `agent` is the fake agent's plan.
    pub async fn prepared(agent: Value) -> Self {
        Self::prepared_on(agent, |_| ()).await
    }

    /// Prepared upon what `lay` makes of the empty directory of the repository.
    pub async fn prepared_on(agent: Value, lay: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repo");
        std::fs::create_dir_all(&root).unwrap();
        lay(&root);
        std::fs::create_dir_all(root.join(".claude/skills")).unwrap();
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        git(&root, &["init", "-q", "-b", "main"]);
        git(&root, &["config", "user.name", "A Person"]);
        git(&root, &["config", "user.email", "person@example.com"]);
        std::fs::write(root.join("README.md"), "a repository\n").unwrap();
        std::fs::write(root.join(".gitignore"), ".skillhook/\n").unwrap();
        git(&root, &["add", "."]);
        git(&root, &["commit", "-q", "-m", "begin"]);
        git(&root, &["remote", "add", "origin", "../remote.git"]);
        git(&root, &["push", "-q", "-u", "origin", "main"]);
        let plan = dir.path().join(PLAN);
        let github = Github::start().await.unwrap();
        let settings = format!(
            "[agent]\nprogram = \"{}\"\nsandbox = \"off\"\n[agent.env]\nFAKE_AGENT_PLAN = \"{}\"\n\
             [queue]\nrunning_max = 4\n[providers.github]\napi_base = \"{}\"\napi_token_env = \"TEST_GITHUB_TOKEN\"\n",
            fake_agent().display(),
            plan.display(),
            github.base(),
        );
        let environment = BTreeMap::from([
            ("GITHUB_WEBHOOK_SECRET".to_owned(), SECRET.to_owned()),
            ("TEST_GITHUB_TOKEN".to_owned(), "ghp_test_token_that_must_stay_secret".to_owned()),
        ]);
        let (receiver, admin) = (free_port(), free_port());
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let service = Self { dir, github, child: None, receiver, admin, settings, poll: 5, environment, client };
        service.plan(agent);
        service
    }

    /// Prepared and ready.
    pub async fn started(agent: Value) -> Self {
        let mut service = Self::prepared(agent).await;
        service.start();
        service.wait_ready().await;
        service
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    /// How the fake agent behaves from now on.
    pub fn plan(&self, mut agent: Value) {
        agent["journal"] = json!(self.dir.path().join("journal"));
        std::fs::write(self.dir.path().join(PLAN), agent.to_string()).unwrap();
    }

    pub fn add_settings(&mut self, more: &str) {
        self.settings.push_str(more);
    }

    /// Speaks with another stand-in for the provider.
    pub fn set_api_base(&mut self, base: &str) {
        self.settings = self.settings.replace(&self.github.base(), base);
    }

    pub fn replace_settings(&mut self, from: &str, to: &str) {
        assert!(self.settings.contains(from), "{}", self.settings);
        self.settings = self.settings.replace(from, to);
    }

    /// Another agent program than the fake one.
    pub fn replace_agent(&mut self, program: &Path) {
        let fake = fake_agent().display().to_string();
        self.replace_settings(&fake, &program.display().to_string());
    }

    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.insert(name.to_owned(), value.to_owned());
    }

    pub fn unset_env(&mut self, name: &str) {
        self.environment.remove(name);
    }

    pub fn write_skill(&self, name: &str, text: &str) {
        let dir = self.root().join(".claude/skills").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("SKILL.md"), text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skillhook"));
        command.args(arguments).current_dir(self.root()).env_clear();
        command.env("PATH", std::env::var("PATH").unwrap()).env("HOME", self.dir.path()).envs(&self.environment);
        command
    }

    pub fn start(&mut self) {
        std::fs::write(self.root().join("skillhook.toml"), &self.settings).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("service.log")).unwrap();
        let (listen, admin) = (format!("127.0.0.1:{}", self.receiver), format!("127.0.0.1:{}", self.admin));
        let poll = self.poll.to_string();
        let mut command = self.command(&["up", "--listen", &listen, "--admin-listen", &admin, "--poll", &poll]);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Pulls the plug.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks it to stop and waits for its end; answers whether it exited with 0.
    pub fn terminate(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        child.wait().unwrap().success()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub async fn wait_ready(&self) {
        let url = self.admin_url("/readyz");
        wait_for("readiness", || async {
            self.client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.receiver)
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.admin)
    }

    pub async fn api(&self, path: &str) -> Value {
        let answer = self.client.get(self.admin_url(path)).send().await.unwrap();
        answer.json().await.unwrap()
    }

    /// Null when the service is not there.
    pub async fn api_if_there(&self, path: &str) -> Value {
        match self.client.get(self.admin_url(path)).send().await {
            Ok(answer) => answer.json().await.unwrap_or(Value::Null),
            Err(_) => Value::Null,
        }
    }

    /// Sends a signed delivery; `None` when the connection failed.
    pub async fn deliver(&self, path: &str, event: &str, id: &str, body: &Value) -> Option<(u16, Value)> {
        let body = body.to_string();
        let signature = format!("sha256={}", hex::encode(sign(SECRET, body.as_bytes())));
        let request = self
            .client
            .post(self.url(path))
            .header("content-type", "application/json")
            .header("x-github-event", event)
            .header("x-github-delivery", id)
            .header("x-hub-signature-256", signature)
            .body(body);
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.unwrap_or(Value::Null)))
    }

    /// A comment on issue `number` of `octo/repo` by a member.
    pub async fn comment(&self, number: u64, id: &str, text: &str) -> Option<(u16, Value)> {
        self.deliver("/webhooks/github", "issue_comment", id, &issue_comment(number, text)).await
    }

    /// All tasks, newest first.
    pub async fn tasks(&self) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let before = all.last().map(|task| format!("&before={}", task["id"].as_str().unwrap())).unwrap_or_default();
            let page = self.api(&format!("/api/tasks?limit=200{before}")).await;
            all.extend(page["items"].as_array().unwrap_or_else(|| panic!("{page}")).iter().cloned());
            if page["next"].is_null() {
                return all;
            }
        }
    }

    /// Waits until there are so many tasks and all have ended; in vain when none ends for `patience`.
    pub async fn wait_tasks_done(&self, count: usize, patience: Duration) {
        let done = |task: &Value| {
            matches!(task["state"].as_str(), Some("succeeded" | "dead" | "cancelled" | "refused" | "expired"))
        };
        let (mut last_end, mut ended_before) = (Instant::now(), 0);
        loop {
            let tasks = self.tasks().await;
            if tasks.len() >= count && tasks.iter().all(done) {
                return;
            }
            let ended = tasks.iter().filter(|task| done(task)).count();
            if ended > ended_before {
                (last_end, ended_before) = (Instant::now(), ended);
            }
            assert!(last_end.elapsed() < patience, "{ended} of {count} tasks, and no more within {patience:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the fake agent wrote down.
    pub fn journal(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("journal")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until a path answers something else than 404 (or 404, when `live` is false).
    pub async fn wait_route(&self, path: &str, live: bool) {
        let what = format!("{path} to be {}", if live { "live" } else { "gone" });
        wait_for(&what, || async {
            let answer = self.client.post(self.url(path)).body("{}").send().await;
            answer.is_ok_and(|answer| (answer.status() != 404) == live)
        })
        .await;
    }
}

/// Asks again and again until it is so; panics with what was waited for.
pub async fn wait_for<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let begun = Instant::now();
    while !so().await {
        assert!(begun.elapsed() < SOON, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn sign(secret: &str, body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

/// A payload in GitHub's shape, in our own words.
pub fn issue_comment(number: u64, text: &str) -> Value {
    let user = json!({"login": "mona", "id": 2, "type": "User"});
    json!({
        "action": "created",
        "issue": {
            "number": number, "title": format!("Issue {number}"), "body": "Something is slow.", "state": "open",
            "user": user, "labels": [], "html_url": format!("https://github.example/octo/repo/issues/{number}"),
        },
        "comment": {
            "id": 1000 + number, "body": text, "user": user, "author_association": "MEMBER",
            "html_url": format!("https://github.example/octo/repo/issues/{number}#c"),
        },
        "repository": {"id": 1, "full_name": "octo/repo", "html_url": "https://github.example/octo/repo"},
        "sender": user,
    })
}

/// A webhook of its own with one text command.
pub fn own_webhook(name: &str) -> String {
    format!(
        "---\nname: {name}\ndescription: A webhook for tests.\nwebhook_config:\n  provider: github\n  id: {name}\n  \
         secret_env_var: GITHUB_WEBHOOK_SECRET\n  command_prefix: \"@agent\"\n  default_command: look\n  commands:\n    \
         - name: look\n      description: Looks.\n      prompt_template: \"Look at {{{{ text }}}}\"\n---\n# {name}\n"
    )
}

pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let begun = Instant::now();
    let output = loop {
        let output = Command::new("git").args(arguments).current_dir(directory).output().unwrap();
        // The service may be at work in the same repository: people try again.
        let busy = String::from_utf8_lossy(&output.stderr).contains(".lock': File exists");
        if output.status.success() || !busy || begun.elapsed() > SOON {
            break output;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The fake agent is an example target: it stands beside the test binaries.
pub fn fake_agent() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/fake-agent")
}

/// A port that nobody has, below those that the system gives to outgoing connections: a restart finds it free again.
/// (One of the others may meanwhile be taken by any connection, even by one that tries to reach this very service.)
fn free_port() -> u16 {
    let span = FIRST_PORT..=LAST_PORT;
    let start = skillhook::seam::fresh_id().as_u128() as u16 % (LAST_PORT - FIRST_PORT);
    let mut ports = span.clone().cycle().skip(usize::from(start)).take(span.len());
    ports.find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

const FIRST_PORT: u16 = 12_000;
const LAST_PORT: u16 = 32_000;
