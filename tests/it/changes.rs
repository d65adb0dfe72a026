//! Change sets against a whole service: files, the index, commits and the remote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;
use skillhook::app;
use skillhook::change::operations::{Asked, CreateWebhook, PutSkill};
use skillhook::change::{Applied, Refused, Status, Wait};
use skillhook::config::{Config, Settings};
use skillhook::error::Code;
use skillhook::model::change::{Authority, ChangeSet, Edit, Expect, Origin};
use skillhook::model::digest::Digest;
use skillhook::model::ids::{AgentName, SkillName, WebhookId};

use crate::service::{Service, git};

/// A service in this process, on a work tree with a bare remote.
struct Site {
    dir: tempfile::TempDir,
    service: app::Service,
}

impl Site {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repo");
        std::fs::create_dir_all(root.join(".claude/skills")).unwrap();
        git(dir.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        git(&root, &["init", "-q", "-b", "main"]);
        git(&root, &["config", "user.name", "A Person"]);
        git(&root, &["config", "user.email", "person@example.com"]);
        std::fs::write(root.join(".gitignore"), ".skillhook/\n").unwrap();
        git(&root, &["add", "."]);
        git(&root, &["commit", "-q", "-m", "begin"]);
        git(&root, &["remote", "add", "origin", "../remote.git"]);
        git(&root, &["push", "-q", "-u", "origin", "main"]);
        let service = service(&root).await;
        Self { dir, service }
    }

    /// The same work tree under a new process's eyes.
    async fn restarted(self) -> Self {
        let Self { dir, service } = self;
        service.stop();
        service.ended().await.unwrap();
        let service = self::service(&dir.path().join("repo")).await;
        Self { dir, service }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.root().join(path)).ok()
    }

    async fn put_skill(&self, name: &str, content: &str, expect: Expect) -> Result<Applied, Refused> {
        let put = PutSkill { name: skill(name), content: content.to_owned(), files: BTreeMap::new(), expect };
        self.service.changes.put_skill(put, asked(Origin::Api)).await
    }

    fn last_commit(&self) -> String {
        git(&self.root(), &["log", "-1", "--format=%B", "--name-status"])
    }
}

async fn service(root: &Path) -> app::Service {
    let mut settings = Settings::default();
    settings.server.listen = "127.0.0.1:0".to_owned();
    settings.server.admin_listen = "127.0.0.1:0".to_owned();
    settings.agent.sandbox = "off".to_owned();
    settings.agent.program = "false".to_owned();
    settings.queue.running_max = 0;
    let path = ("PATH".to_owned(), std::env::var("PATH").unwrap());
    let config = Config::checked(root.to_owned(), root.join(".skillhook"), settings, BTreeMap::from([path])).unwrap();
    let mut service = app::start(config).await.unwrap();
    service.published.wait_for(Option::is_some).await.unwrap();
    service
}

fn asked(origin: Origin) -> Asked {
    Asked { by: Authority::of_person(origin, "ann"), wait: Wait::Committed }
}

fn skill(name: &str) -> SkillName {
    SkillName::parse(name).unwrap()
}

fn agent(name: &str) -> AgentName {
    AgentName::parse(name).unwrap()
}

fn webhook(name: &str) -> WebhookId {
    WebhookId::parse(name).unwrap()
}

fn plain_skill(name: &str, words: &str) -> String {
    format!("---\nname: {name}\ndescription: {words}\n---\n# {name}\n\n{words}\n")
}

const AGENT: &str = "---\nname: reviewer\ndescription: Reviews changes.\ntools: Read, Grep\n---\nReview with care.\n";

#[tokio::test]
async fn a_put_skill_is_in_force_committed_and_says_who_wrote_it() {
    let site = Site::start().await;
    let applied =
        site.put_skill("quality", &plain_skill("quality", "Looks at quality."), Expect::Absent).await.unwrap();
    assert_eq!((applied.status, applied.branch.as_deref()), (Status::Committed, Some("main")));
    let commit = git(&site.root(), &["rev-parse", "HEAD"]);
    assert_eq!(applied.commit.as_deref(), Some(commit.as_str()));
    let shown = site.last_commit();
    assert!(shown.contains("Skillhook-Origin: api") && shown.contains("Skillhook-Actor: ann"), "{shown}");
    let published = site.service.changes.published().unwrap();
    assert_eq!(applied.index_digest, Some(published.state.digest));
    assert!(published.state.observed.skills.contains_key(&skill("quality")));
    // Once more the same: nothing to do.
    let again = site.put_skill("quality", &plain_skill("quality", "Looks at quality."), Expect::Any).await.unwrap();
    assert_eq!(again.status, Status::Unchanged);
}

#[tokio::test]
async fn what_would_not_be_valid_is_refused_and_nothing_is_written() {
    let site = Site::start().await;
    let broken = "---\nname: hook\ndescription: x\nwebhook_config:\n  provder: github\n---\n";
    let refused = site.put_skill("hook", broken, Expect::Any).await.unwrap_err();
    assert_eq!(refused.error.code(), Code::ChangeInvalid);
    assert!(refused.diagnostics.iter().any(|found| found.message.contains("provder")), "{refused:?}");
    assert_eq!(site.read(".claude/skills/hook/SKILL.md"), None);
    // Across files: the agent does not exist; with the agent in the same change it does.
    let naming = "---\nname: hook\ndescription: x\nwebhook_config:\n  provider: github\n  commands:\n    - name: look\n      \
                  target_agent: reviewer\n      prompt_template: Look.\n---\n";
    let refused = site.put_skill("hook", naming, Expect::Any).await.unwrap_err();
    assert!(refused.diagnostics.iter().any(|found| found.code == Code::ReferenceMissing), "{refused:?}");
    let edits = vec![
        Edit::put(".claude/skills/hook/SKILL.md", naming.as_bytes(), Expect::Absent),
        Edit::put(".claude/agents/reviewer.md", AGENT.as_bytes(), Expect::Absent),
    ];
    let both =
        ChangeSet { edits, title: "Both".into(), proposal: None, authority: Authority::of_person(Origin::Chat, "ann") };
    let applied = site.service.changes.apply(both, Wait::Committed).await.unwrap();
    assert_eq!((applied.webhook, applied.status), (Some(webhook("github")), Status::Committed));
    assert!(site.last_commit().contains("Skillhook-Origin: chat"));
}

#[tokio::test]
async fn of_two_writers_one_is_told_that_the_other_was_first() {
    let site = Site::start().await;
    let first = plain_skill("shared", "First.");
    site.put_skill("shared", &first, Expect::Absent).await.unwrap();
    let seen = Expect::Is(Digest::of(first.as_bytes()));
    let (a_text, b_text) = (plain_skill("shared", "By a."), plain_skill("shared", "By b."));
    let (a, b) = tokio::join!(site.put_skill("shared", &a_text, seen), site.put_skill("shared", &b_text, seen));
    let codes: Vec<_> = [&a, &b].into_iter().filter_map(|done| done.as_ref().err()).map(|e| e.error.code()).collect();
    assert_eq!(codes, [Code::Conflict]);
    let written = site.read(".claude/skills/shared/SKILL.md").unwrap();
    assert_eq!(written, if a.is_ok() { a_text } else { b_text });
}

#[tokio::test]
async fn a_command_joins_the_existing_webhook_beside_others() {
    let site = Site::start().await;
    let changes = &site.service.changes;
    let before = changes.published().unwrap();
    let command = |name: &str| json!({"name": name, "prompt_template": format!("Do {name} for {{{{ text }}}}")});
    let github = webhook("github");
    let (one, two) = tokio::join!(
        changes.add_command(&github, command("one"), false, asked(Origin::Api)),
        changes.add_command(&github, command("two"), false, asked(Origin::Cli)),
    );
    for applied in [one, two] {
        assert_eq!(applied.unwrap().webhook, Some(webhook("github")));
    }
    let after = changes.published().unwrap();
    let (old, new) = (&before.state.observed.webhooks["github"], &after.state.observed.webhooks["github"]);
    assert_eq!(after.state.observed.webhooks.len(), before.state.observed.webhooks.len());
    assert_eq!(new.spec.commands.len(), old.spec.commands.len() + 2);
    assert_eq!((&new.spec.endpoint, &new.spec.secrets), (&old.spec.endpoint, &old.spec.secrets));
    let file = site.read(".claude/skills/github-commands/SKILL.md").unwrap();
    assert!(file.contains("name: one") && file.contains("name: two"), "{file}");
    // Each origin has a commit of its own.
    let log = git(&site.root(), &["log", "--format=%B"]);
    assert!(log.contains("Skillhook-Origin: api") && log.contains("Skillhook-Origin: cli"), "{log}");
    let twice = changes.add_command(&webhook("github"), command("one"), false, asked(Origin::Api)).await;
    assert_eq!(twice.unwrap_err().error.code(), Code::Conflict);
    let gone = changes.remove_command(&webhook("github"), "one", asked(Origin::Api)).await.unwrap();
    assert_eq!(gone.status, Status::Committed);
    let built_in = changes.remove_command(&webhook("github"), "review", asked(Origin::Api)).await.unwrap_err();
    assert_eq!(built_in.error.code(), Code::BuiltinStays);
}

#[tokio::test]
async fn webhooks_are_made_disabled_and_removed_while_their_skill_stays() {
    let site = Site::start().await;
    let changes = &site.service.changes;
    let config = json!({
        "provider": "github", "id": "deploys", "secret_env_var": "GITHUB_WEBHOOK_SECRET", "command_prefix": "@deploy",
        "commands": [{"name": "look", "prompt_template": "Look at {{ text }}.\n"}],
    });
    let create = CreateWebhook {
        skill: skill("deploys"),
        description: "Looks at: deployments".into(),
        config,
        body: "# Deploys\n".into(),
    };
    let made = changes.create_webhook(create.clone(), asked(Origin::Api)).await.unwrap();
    assert_eq!((made.webhook, made.generation), (Some(webhook("deploys")), Some(1)));
    assert_eq!(changes.create_webhook(create, asked(Origin::Api)).await.unwrap_err().error.code(), Code::Conflict);
    let off = changes.set_enabled(&webhook("deploys"), false, asked(Origin::Api)).await.unwrap();
    assert_eq!(off.generation, Some(2));
    assert!(!changes.published().unwrap().state.observed.webhooks["deploys"].spec.enabled);
    changes.delete_webhook(&webhook("deploys"), asked(Origin::Api)).await.unwrap();
    let published = changes.published().unwrap();
    assert!(!published.state.observed.webhooks.contains_key("deploys"));
    assert!(published.state.observed.skills.contains_key("deploys"));
    // A built-in one is disabled in the file that stands for its edits, and comes back when that file goes.
    let kept = changes.delete_webhook(&webhook("gitlab"), asked(Origin::Api)).await.unwrap_err();
    assert_eq!(kept.error.code(), Code::BuiltinStays);
    changes.set_enabled(&webhook("gitlab"), false, asked(Origin::Api)).await.unwrap();
    assert!(!changes.published().unwrap().state.observed.webhooks["gitlab"].spec.enabled);
    changes.delete_skill(&skill("gitlab-commands"), Expect::Any, asked(Origin::Api)).await.unwrap();
    assert!(changes.published().unwrap().state.observed.webhooks["gitlab"].spec.enabled);
    let fixed = serde_json::Map::from_iter([("endpoint".to_owned(), json!("/webhooks/other"))]);
    let refused = changes.edit_webhook(&webhook("gitlab"), fixed, asked(Origin::Api)).await.unwrap_err();
    assert_eq!(refused.error.code(), Code::Refused);
}

#[tokio::test]
async fn an_agent_that_is_named_is_not_deleted_and_one_that_is_not_goes_at_once() {
    let site = Site::start().await;
    let changes = &site.service.changes;
    changes.put_agent(&agent("reviewer"), AGENT.into(), Expect::Absent, asked(Origin::Api)).await.unwrap();
    let command = json!({"name": "look", "target_agent": "reviewer", "prompt_template": "Look."});
    changes.add_command(&webhook("github"), command, false, asked(Origin::Api)).await.unwrap();
    let refused = changes.delete_agent(&agent("reviewer"), Expect::Any, asked(Origin::Api)).await.unwrap_err();
    assert_eq!(refused.error.code(), Code::StillReferenced);
    assert!(refused.error.message().contains("github/look"), "{refused:?}");
    changes.remove_command(&webhook("github"), "look", asked(Origin::Api)).await.unwrap();
    let gone = changes.delete_agent(&agent("reviewer"), Expect::Any, asked(Origin::Api)).await.unwrap();
    assert_eq!(gone.status, Status::Committed);
    assert!(!changes.published().unwrap().state.observed.agents.contains_key("reviewer"));
    assert!(site.last_commit().contains("D\t.claude/agents/reviewer.md"));
    let shipped = changes.delete_agent(&agent("brain"), Expect::Any, asked(Origin::Api)).await.unwrap_err();
    assert_eq!(shipped.error.code(), Code::BuiltinStays);
}

#[tokio::test]
async fn a_run_only_proposes_and_what_it_would_widen_is_said() {
    let site = Site::start().await;
    let changes = &site.service.changes;
    let by_run = Asked { by: Authority::of_run("tsk_1"), wait: Wait::Committed };
    let command = json!({"name": "shout", "prompt_template": "Shout."});
    let head = git(&site.root(), &["rev-parse", "HEAD"]);
    let proposed = changes.add_command(&webhook("github"), command, false, by_run).await.unwrap();
    assert_eq!((proposed.status, proposed.note), (Status::Proposed, None));
    assert!(proposed.widens.iter().any(|each| each.what.contains("`shout`")), "{:?}", proposed.widens);
    let branch = proposed.branch.unwrap();
    assert_eq!(branch, "skillhook/proposal/add-the-command-shout-to-github");
    let remote = site.dir.path().join("remote.git");
    let shown = git(&remote, &["show", "--name-only", "--format=%B", &branch]);
    assert!(shown.contains("Skillhook-Origin: agent") && shown.contains("github-commands/SKILL.md"), "{shown}");
    assert_eq!(git(&site.root(), &["rev-parse", "HEAD"]), head);
    assert_eq!(site.read(".claude/skills/github-commands/SKILL.md"), None);
    assert!(changes.published().unwrap().state.observed.webhooks["github"].spec.command("shout").is_none());
}

#[tokio::test]
async fn links_and_paths_that_lead_away_are_refused() {
    let site = Site::start().await;
    let outside = site.dir.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, site.root().join(".claude/skills/linked")).unwrap();
    let refused = site.put_skill("linked", &plain_skill("linked", "Away."), Expect::Any).await.unwrap_err();
    assert_eq!(refused.error.code(), Code::UnsafePath);
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none());
    let up = Edit::put(".claude/skills/a/../../../escaped", b"x".as_slice(), Expect::Any);
    let set = ChangeSet {
        edits: vec![up],
        title: "x".into(),
        proposal: None,
        authority: Authority::of_person(Origin::Api, "ann"),
    };
    let refused = site.service.changes.apply(set, Wait::Live).await.unwrap_err();
    assert_eq!(refused.error.code(), Code::ChangeInvalid);
    assert!(!site.root().join("escaped").exists() && !site.dir.path().join("escaped").exists());
}

#[tokio::test]
async fn an_origin_survives_a_restart_before_the_commit() {
    let site = Site::start().await;
    // Somebody is in the middle of something, so nothing can be committed.
    let lock = site.root().join(".git/index.lock");
    std::fs::write(&lock, "").unwrap();
    let put = PutSkill {
        name: skill("late"),
        content: plain_skill("late", "Comes late."),
        files: BTreeMap::new(),
        expect: Expect::Absent,
    };
    let asked = Asked { wait: Wait::Live, ..asked(Origin::Chat) };
    assert_eq!(site.service.changes.put_skill(put, asked).await.unwrap().status, Status::Live);
    let site = site.restarted().await;
    std::fs::remove_file(&lock).unwrap();
    let mut progress = site.service.progress.clone();
    let committed = |progress: &skillhook::reconcile::record::Progress| {
        progress.committed.commit.is_some() && progress.committed.trouble.is_none()
    };
    // Nudge the recorder: it tries again by itself only after a while.
    site.put_skill("other", &plain_skill("other", "Another."), Expect::Absent).await.unwrap();
    progress.wait_for(committed).await.unwrap();
    let log = git(&site.root(), &["log", "--format=%B", "--", ".claude/skills/late"]);
    assert!(log.contains("Skillhook-Origin: chat") && !log.contains("Skillhook-Origin: file"), "{log}");
}

#[tokio::test]
async fn the_command_line_adds_and_removes_skills_and_agents() {
    let service = Service::started(json!({})).await;
    let skill = service.dir.path().join("triage");
    std::fs::create_dir_all(skill.join("references")).unwrap();
    std::fs::write(skill.join("SKILL.md"), plain_skill("triage", "Sorts issues.")).unwrap();
    std::fs::write(skill.join("references/list.md"), "one\ntwo\n").unwrap();
    let agent = service.dir.path().join("reviewer.md");
    std::fs::write(&agent, AGENT).unwrap();
    let run = |arguments: &[&str]| {
        let output = service.command(arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), said)
    };
    let (code, said) = run(&["add", skill.to_str().unwrap()]);
    assert!(code == 0 && said.starts_with("committed "), "{code} {said}");
    assert_eq!(run(&["add", agent.to_str().unwrap()]).0, 0);
    let root = service.root();
    assert_eq!(std::fs::read_to_string(root.join(".claude/skills/triage/references/list.md")).unwrap(), "one\ntwo\n");
    assert_eq!(std::fs::read_to_string(root.join(".claude/agents/reviewer.md")).unwrap(), AGENT);
    // What is there is not replaced by accident, and what is not valid is not written.
    assert_eq!(run(&["add", skill.to_str().unwrap()]).0, 4);
    std::fs::write(skill.join("SKILL.md"), "no frontmatter\n").unwrap();
    let (code, said) = run(&["add", "--replace", skill.to_str().unwrap()]);
    assert!(code == 2 && said.contains("SH0720"), "{code} {said}");
    assert_eq!(run(&["remove", "skill/triage", "--dry-run"]).0, 0);
    assert!(root.join(".claude/skills/triage/SKILL.md").exists());
    assert_eq!(run(&["remove", "skill/triage", "-y"]).0, 0);
    assert!(!root.join(".claude/skills/triage").exists());
    assert_eq!(run(&["remove", "skill/triage", "-y"]).0, 3);
}
