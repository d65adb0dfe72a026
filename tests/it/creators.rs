//! Webhooks, skills and agents made in a conversation, with the real agent program: it calls the service's tools, and
//! what comes of it is in the remote, in force, and used by the next delivery. Each test has a network of its own.

use std::path::PathBuf;

use serde_json::{Value, json};
use skillhook::model::digest::Digest;

use crate::anthropic::Anthropic;
use crate::claude;
use crate::service::{SOON, Service, git, wait_for};

struct House {
    service: Service,
    provider: Anthropic,
}

impl House {
    async fn open(program: PathBuf) -> Self {
        let provider = Anthropic::start(json!({}));
        let mut service = Service::prepared(json!({})).await;
        service.set_env("SKILLHOOK_AGENT_PROGRAM", program.to_str().unwrap());
        service.set_env("SKILLHOOK_AGENT_SANDBOX", "auto");
        service.set_env("ANTHROPIC_API_KEY", "sk-test");
        service.set_env("ANTHROPIC_BASE_URL", provider.url());
        service.start();
        service.wait_ready().await;
        Self { service, provider }
    }

    /// Says something with the command line; answers what came of it.
    fn chat(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = ["-o", "json", "chat"].iter().chain(arguments).copied().collect();
        let output = self.service.command(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// The model calls these tools one after the other when it is asked `about`, then says `end`.
    fn plays(&self, about: &str, calls: &[(&str, Value)], end: &str) {
        let mut steps = Vec::new();
        let mut when = json!({ "last_user": about });
        for (tool, input) in calls {
            let name = format!("mcp__skillhook__{tool}");
            // Side requests of the program offer no tools.
            when["tool"] = json!(name);
            steps.push(json!({ "when": when, "tool_use": [{ "name": name, "input": input }] }));
            when = json!({ "tool_result_for": name });
        }
        steps.push(json!({ "when": when, "text": end }));
        self.provider.play(json!({ "steps": steps }));
    }

    /// What the tools answered, as the model read it.
    fn results(&self) -> String {
        let asked = self.provider.asked();
        let messages = asked.iter().flat_map(|body| body["messages"].as_array().cloned().unwrap_or_default());
        let blocks = messages.flat_map(|message| message["content"].as_array().cloned().unwrap_or_default());
        blocks.filter(|block| block["type"] == "tool_result").map(|block| block.to_string()).collect()
    }

    fn at_remote(&self, reference: &str, path: &str) -> Option<String> {
        let remote = self.service.dir.path().join("remote.git");
        let listed = git(&remote, &["ls-tree", "-r", "--name-only", reference]);
        listed.lines().any(|line| line == path).then(|| git(&remote, &["show", &format!("{reference}:{path}")]))
    }

    async fn arrives(&self, path: &str, content: &str) {
        wait_for(&format!("`{content}` in {path} of the remote"), || async {
            self.at_remote("main", path).is_some_and(|found| found.contains(content))
        })
        .await;
    }

    async fn commands(&self, webhook: &str) -> Vec<String> {
        let webhook = self.service.api(&format!("/api/webhooks/{webhook}")).await;
        let commands = webhook["spec"]["commands"].as_array().cloned().unwrap_or_default();
        commands.iter().map(|command| command["name"].as_str().unwrap().to_owned()).collect()
    }
}

const ANALYST: &str = "---\nname: pr-analyst\ndescription: Analyses pull requests.\ntools: Read, Grep\n---\n\
                       You analyse pull requests. PR-ANALYST-MARKER\n";

#[tokio::test]
async fn a_webhook_is_made_in_a_conversation_and_answers_the_next_comment() {
    let Some(program) = claude::alone("creators::a_webhook_is_made_in_a_conversation_and_answers_the_next_comment")
    else {
        return;
    };
    let house = House::open(program).await;
    let skill = "---\nname: pr-analysis\ndescription: Analyses pull requests when somebody asks.\nwebhook_config:\n  \
                 provider: github\n  commands:\n    - name: dissect\n      description: Analyses a pull request\n      \
                 target_agent: pr-analyst\n      prompt_template: \"Dissect {{ resource }} {{ task_id }}\"\n---\n# PRs\n";
    let before = house.commands("github").await;
    house.plays(
        "analyzes PRs",
        &[
            ("list_webhooks", json!({})),
            ("explain_provider", json!({ "name": "github" })),
            ("put_agent", json!({ "name": "pr-analyst", "content": ANALYST })),
            ("put_skill", json!({ "name": "pr-analysis", "content": skill })),
        ],
        "It is live: write `@agent dissect`.",
    );
    let said = house.chat(&["--yes", "Create a webhook for GitHub that analyzes PRs when @agent is mentioned"]);
    assert_eq!(said["answer"], "It is live: write `@agent dissect`.", "{said}: {}", house.results());
    house.arrives(".claude/skills/pr-analysis/SKILL.md", "dissect").await;
    house.arrives(".claude/agents/pr-analyst.md", "PR-ANALYST-MARKER").await;
    let log = git(&house.service.dir.path().join("remote.git"), &["log", "--format=%B", "main"]);
    assert!(log.contains("Skillhook-Origin: chat"), "{log}");

    // The next comment runs that agent, and its words come back.
    let step = json!({ "when": { "system": "PR-ANALYST-MARKER" }, "times": 0, "text": "The change is sound." });
    house.provider.play(json!({ "steps": [step] }));
    let (status, answer) = house.service.comment(7, "d-1", "@agent dissect").await.unwrap();
    assert_eq!(status, 202, "{answer}");
    assert!(house.service.github.wait_for_comments(1, SOON).await);
    let comments = house.service.github.comments();
    assert!(comments.iter().any(|comment| format!("{comment:?}").contains("The change is sound.")), "{comments:?}");

    // Asked for more, the same webhook gets one command more.
    let old = house.service.api("/api/webhooks/github").await;
    let command = json!({ "name": "second-look", "target_agent": "pr-analyst", "prompt_template": "Look again." });
    let add = [("add_command", json!({ "webhook": "github", "command": command }))];
    house.plays("review PRs", &add, "Added `second-look`.");
    let said = house.chat(&["--yes", "Add a command to review PRs"]);
    assert_eq!(said["answer"], "Added `second-look`.", "{said}: {}", house.results());
    house.arrives(".claude/skills/github-commands/SKILL.md", "second-look").await;
    let new = house.service.api("/api/webhooks/github").await;
    assert_eq!(new["spec"]["endpoint"], old["spec"]["endpoint"]);
    assert_eq!(new["spec"]["secrets"], old["spec"]["secrets"]);
    assert_eq!(house.commands("github").await.len(), before.len() + 2);
}

#[tokio::test]
async fn skills_and_agents_are_made_edited_and_deleted_by_chat() {
    let Some(program) = claude::alone("creators::skills_and_agents_are_made_edited_and_deleted_by_chat") else {
        return;
    };
    let house = House::open(program).await;
    let content = |words: &str| format!("---\nname: code-quality\ndescription: {words}\n---\n# Quality\n");
    let first = content("How code quality is analysed here.");
    house.plays("code quality", &[("put_skill", json!({ "name": "code-quality", "content": first }))], "Made.");
    let said = house.chat(&["--yes", "Create a skill for code quality analysis"]);
    assert_eq!(said["answer"], "Made.", "{said}: {}", house.results());
    house.arrives(".claude/skills/code-quality/SKILL.md", "analysed here").await;

    // The next run knows it, and edits it upon the version that it has seen.
    let second = content("How code quality is judged here.");
    let digest = Digest::of(first.as_bytes()).to_string();
    // The second answer of the same tool ends it, so the steps are told apart by what the first one said.
    house.provider.play(json!({ "steps": [
        { "when": { "last_user": "Let the skill" }, "tool_use": [{ "name": "mcp__skillhook__put_skill",
            "input": { "name": "code-quality", "content": second } }] },
        { "when": { "last_user": "exists already" }, "tool_use": [{ "name": "mcp__skillhook__put_skill",
            "input": { "name": "code-quality", "content": second, "digest": digest } }] },
        { "when": { "tool_result_for": "mcp__skillhook__put_skill" }, "text": "Edited." },
    ] }));
    let said = house.chat(&["--yes", "Let the skill say that quality is judged"]);
    assert_eq!(said["answer"], "Edited.", "{said}: {}", house.results());
    assert!(house.provider.heard().contains("code-quality"), "the run does not list the skill");
    house.arrives(".claude/skills/code-quality/SKILL.md", "judged here").await;
    house.plays("Delete the skill", &[("delete_skill", json!({ "name": "code-quality" }))], "Gone.");
    assert_eq!(house.chat(&["--yes", "Delete the skill for code quality"])["answer"], "Gone.", "{}", house.results());

    let agent =
        "---\nname: deployer\ndescription: Manages deployments.\ntools: Read\n---\nYou look after deployments.\n";
    house.plays("managing deployments", &[("put_agent", json!({ "name": "deployer", "content": agent }))], "Hired.");
    let said = house.chat(&["--yes", "Create an agent for managing deployments"]);
    assert_eq!(said["answer"], "Hired.", "{said}: {}", house.results());
    house.arrives(".claude/agents/deployer.md", "look after deployments").await;
    let edited = agent.replace("look after", "watch over");
    let digest = Digest::of(agent.as_bytes()).to_string();
    let put = json!({ "name": "deployer", "content": edited, "digest": digest });
    house.plays("watch over", &[("put_agent", put)], "Changed.");
    assert_eq!(
        house.chat(&["--yes", "The deployer is to watch over them"])["answer"],
        "Changed.",
        "{}",
        house.results()
    );
    house.arrives(".claude/agents/deployer.md", "watch over").await;
    house.plays("Dismiss", &[("delete_agent", json!({ "name": "deployer" }))], "Dismissed.");
    assert_eq!(house.chat(&["--yes", "Dismiss the deployer"])["answer"], "Dismissed.", "{}", house.results());
    wait_for("both to be gone from the remote", || async {
        let paths = [".claude/agents/deployer.md", ".claude/skills/code-quality/SKILL.md"];
        paths.iter().all(|path| house.at_remote("main", path).is_none())
    })
    .await;
}

#[tokio::test]
async fn what_is_not_confirmed_or_comes_from_a_delivery_is_only_proposed() {
    let Some(program) = claude::alone("creators::what_is_not_confirmed_or_comes_from_a_delivery_is_only_proposed")
    else {
        return;
    };
    let house = House::open(program).await;
    let command = json!({ "name": "shout", "prompt_template": "Shout." });
    let add = [("add_command", json!({ "webhook": "github", "command": command }))];
    house.plays("shouting", &add, "On a branch.");
    let said = house.chat(&["Add a command for shouting"]);
    assert_eq!(said["answer"], "On a branch.", "{said}: {}", house.results());
    assert!(house.results().contains("proposed"), "{}", house.results());
    assert!(!house.commands("github").await.contains(&"shout".to_owned()));
    // A yes in the same conversation applies what was shown, whatever the agent does with it.
    house.plays("yes", &[], "Now it is live.");
    let conversation = said["conversation"].as_str().unwrap();
    let said = house.chat(&["--conversation", conversation, "yes"]);
    assert_eq!(said["answer"], "Now it is live.", "{said}: {}", house.results());
    assert!(house.commands("github").await.contains(&"shout".to_owned()), "{}", house.results());
    let messages = house.service.api(&format!("/api/conversations/{conversation}/messages")).await;
    assert_eq!(messages["items"].as_array().unwrap().len(), 4, "{messages}");

    assert_eq!(
        messages["items"][1]["shows"]["files"],
        json!([".claude/skills/github-commands/SKILL.md"]),
        "{messages}"
    );
    // A second yes finds nothing to agree to.
    house.plays("yes", &[], "There is nothing left to do.");
    house.chat(&["--conversation", conversation, "yes"]);
    let asked = house.provider.asked();
    let messages = asked.last().unwrap()["messages"].as_array().unwrap();
    let last = messages.iter().rfind(|message| message["role"] == "user").unwrap().to_string();
    assert!(!last.contains("the service has dealt with"), "{last}");

    // A stranger's comment reaches an agent that has the tools: nothing is in force without a person.
    house.service.write_skill(
        "wishes",
        "---\nname: wishes\ndescription: Takes wishes.\nwebhook_config:\n  provider: github\n  commands:\n    - name: wish\n      \
         target_agent: webhook-creator\n      tools: [Read, mcp__skillhook__add_command]\n      prompt_template: \"Somebody wishes: {{ args }}\"\n---\n# Wishes\n",
    );
    wait_for("the command", || async { house.commands("github").await.contains(&"wish".to_owned()) }).await;
    let command = json!({ "name": "whisper", "prompt_template": "Whisper." });
    house.plays("Somebody wishes", &[("add_command", json!({ "webhook": "github", "command": command }))], "Proposed.");
    assert_eq!(house.service.comment(8, "d-8", "@agent wish a whisper command").await.unwrap().0, 202);
    assert!(house.service.github.wait_for_comments(1, SOON).await);
    assert!(house.results().contains("proposed"), "{}", house.results());
    assert!(!house.commands("github").await.contains(&"whisper".to_owned()));
    let remote = house.service.dir.path().join("remote.git");
    let branches = git(&remote, &["for-each-ref", "--format=%(refname)", "refs/heads/skillhook"]);
    assert!(branches.lines().count() >= 2, "{branches}");
}

#[tokio::test]
async fn yes_applies_exactly_what_was_shown_or_has_it_shown_anew() {
    let Some(program) = claude::alone("creators::yes_applies_exactly_what_was_shown_or_has_it_shown_anew") else {
        return;
    };
    let house = House::open(program).await;
    let content = |words: &str| format!("---\nname: code-quality\ndescription: {words}\n---\n# Quality\n");
    let file = house.service.root().join(".claude/skills/code-quality/SKILL.md");
    let shown = json!({ "name": "code-quality", "content": content("As it was shown first.") });
    house.plays("code quality", &[("put_skill", shown)], "It would say this.");
    let said = house.chat(&["Create a skill for code quality analysis"]);
    assert_eq!(said["answer"], "It would say this.", "{said}: {}", house.results());
    assert!(!file.exists());
    // Before anybody agrees, somebody else makes one.
    let theirs = content("Of somebody else.");
    house.service.write_skill("code-quality", &theirs);
    let known = || async {
        let skills = house.service.api("/api/skills").await;
        skills["items"].as_array().unwrap().iter().any(|skill| skill["name"] == "code-quality")
    };
    wait_for("the skill of somebody else", known).await;
    let conversation = said["conversation"].as_str().unwrap();
    let digest = Digest::of(theirs.as_bytes()).to_string();
    let anew = json!({ "name": "code-quality", "content": content("As it was shown then."), "digest": digest });
    house.plays("yes", &[("put_skill", anew)], "It has changed meanwhile: this is what it would be now.");
    let said = house.chat(&["--conversation", conversation, "yes"]);
    assert!(said["answer"].as_str().unwrap().contains("meanwhile"), "{said}: {}", house.results());
    assert!(house.provider.heard().contains("nothing was changed"), "{}", house.provider.heard());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), theirs);
    // And what is shown now is what the next yes means, even if the agent would write something else.
    let other = json!({ "name": "code-quality", "content": content("Never shown."), "digest": digest });
    house.plays("yes", &[("put_skill", other)], "Done.");
    let said = house.chat(&["--conversation", conversation, "yes"]);
    assert_eq!(said["answer"], "Done.", "{said}: {}", house.results());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), content("As it was shown then."));
    house.arrives(".claude/skills/code-quality/SKILL.md", "As it was shown then.").await;
}
