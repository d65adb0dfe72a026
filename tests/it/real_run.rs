//! The real agent program through the whole service: a signed delivery comes in, the program runs on the pinned skills
//! and agents, and its answer arrives at the source. The provider of models is a scripted one.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::anthropic::Anthropic;
use super::claude;
use super::service::{Service, wait_for};

const PATIENCE: Duration = Duration::from_secs(120);
const TOKEN: &str = "ghp_test_token_that_must_stay_secret";

const SKILL: &str = "---
name: house
description: Knows how this house answers.
webhook_config:
  provider: github
  id: house
  secret_env_var: GITHUB_WEBHOOK_SECRET
  command_prefix: \"@agent\"
  default_command: look
  retries: 0
  commands:
    - name: look
      description: Looks.
      target_agent: host
      prompt_template: \"Handle the event: {{ text }}\"
    - name: plan
      description: Plans.
      target_agent: planning
      prompt_template: \"Handle the event: {{ text }}\"
---
HOUSE-RULES: be brief.
";

struct House {
    service: Service,
    provider: Anthropic,
}

impl House {
    async fn new(program: &Path, scenario: Value) -> House {
        let provider = Anthropic::start(scenario);
        let mut service = Service::prepared(json!({})).await;
        service.replace_settings("sandbox = \"off\"", "sandbox = \"auto\"");
        service.replace_agent(program);
        service.set_env("ANTHROPIC_API_KEY", "sk-a-key-that-only-the-agent-may-know");
        service.set_env("ANTHROPIC_BASE_URL", provider.url());
        service.write_skill("house", SKILL);
        let agents = service.root().join(".claude/agents");
        std::fs::create_dir_all(&agents).unwrap();
        for (name, tools, body) in [
            ("host", "Read, Skill, Agent", "You are the host."),
            ("checker", "Read", "You check, CHECKER-MARKER."),
            ("planning", "Read, Skill", "You plan."),
        ] {
            let text = format!("---\nname: {name}\ndescription: The {name}.\ntools: {tools}\n---\n{body}\n");
            std::fs::write(agents.join(format!("{name}.md")), text).unwrap();
        }
        service.start();
        service.wait_ready().await;
        service.wait_route("/webhooks/github/house", true).await;
        House { service, provider }
    }

    async fn says(&self, id: &str, text: &str) {
        let body = super::service::issue_comment(7, text);
        let answer = self.service.deliver("/webhooks/github/house", "issue_comment", id, &body).await.unwrap();
        assert_eq!(answer.0, 202, "{answer:?}");
    }

    async fn done(&self, count: usize) -> Vec<Value> {
        self.service.wait_tasks_done(count, PATIENCE).await;
        self.service.tasks().await
    }

    async fn detail(&self, task: &Value) -> Value {
        self.service.api(&format!("/api/tasks/{}", task["id"].as_str().unwrap())).await
    }

    async fn wait_comment(&self, words: &str) {
        wait_for(&format!("a comment with `{words}`"), || async {
            self.service.github.comments().iter().any(|comment| comment.contains(words))
        })
        .await;
    }

    /// Whether the program's own record of a session has the words.
    fn is_recorded(&self, words: &str) -> bool {
        let files = walkdir::WalkDir::new(self.service.root().join(".skillhook/workspaces")).into_iter().flatten();
        files
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "jsonl"))
            .any(|entry| std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(words)))
    }

    /// What the provider was asked in the last request, without what surrounds the conversation.
    fn last_messages(&self) -> String {
        self.provider.asked().last().map(|body| body["messages"].to_string()).unwrap_or_default()
    }
}

#[tokio::test]
async fn comment_loads_the_skill_uses_the_sub_agent_and_is_answered() {
    let Some(program) = claude::alone("real_run::comment_loads_the_skill_uses_the_sub_agent_and_is_answered") else {
        return;
    };
    let scenario = json!({
        "steps": [
            { "when": { "system": "CHECKER-MARKER" }, "times": 0, "text": "the checker found one fault" },
            { "when": { "last_user": "Handle the event" }, "tool_use": [{ "name": "Skill", "input": { "skill": "house" } }] },
            { "when": { "tool_result_for": "Skill" }, "tool_use": [{ "name": "Agent", "input": {
                "description": "check", "prompt": "Check it", "subagent_type": "checker" } }] },
            { "when": { "tool_result_for": "Agent" }, "text": format!("One fault. @agent look again. Token: {TOKEN}") },
        ],
        "default": { "status": 400, "message": "unexpected" },
    });
    let house = House::new(&program, scenario).await;
    house.says("d1", "@agent look <!-- hidden words --> at @/etc/hostname").await;
    let tasks = house.done(1).await;
    assert_eq!(tasks[0]["state"], "succeeded", "{tasks:?}");
    house.wait_comment("One fault.").await;
    let comments = house.service.github.comments().join("\n");
    assert!(!comments.contains(TOKEN) && comments.contains("[redacted"), "{comments}");
    assert!(!comments.contains("@agent look again"), "its own mention would start a run: {comments}");
    let heard = house.provider.heard();
    assert!(heard.contains("HOUSE-RULES") && heard.contains("the checker found one fault"));
    for secret in [TOKEN, "hidden words", "GITHUB_WEBHOOK_SECRET"] {
        let found = house.provider.asked().iter().map(Value::to_string).find(|asked| asked.contains(secret));
        assert!(found.is_none(), "`{secret}` was told: {}", found.unwrap_or_default());
    }
    let task = house.detail(&tasks[0]).await;
    let result = &task["result"];
    assert!(result["cost_usd"].as_f64().unwrap() > 0.0 && result["turns"].as_u64().unwrap() >= 2, "{result}");
    assert!(result["input_tokens"].as_u64().unwrap() > 0 && !task.to_string().contains(TOKEN), "{task}");
}

#[tokio::test]
async fn conversation_goes_on_and_begins_anew_when_asked() {
    let Some(program) = claude::alone("real_run::conversation_goes_on_and_begins_anew_when_asked") else { return };
    let house = House::new(&program, json!({ "default": { "text": "The word is MARZIPAN." } })).await;
    house.says("d1", "@agent look").await;
    house.done(1).await;
    house.provider.play(json!({ "default": { "text": "Second." } }));
    house.says("d2", "@agent look once more").await;
    let tasks = house.done(2).await;
    assert!(house.last_messages().contains("MARZIPAN"), "the history was not there");
    let (second, first) = (house.detail(&tasks[0]).await, house.detail(&tasks[1]).await);
    assert_eq!(first["result"]["session_id"], second["result"]["session_id"]);
    assert_eq!(first["spec"]["source"]["flow_id"], second["spec"]["source"]["flow_id"]);
    let cost = |task: &Value| task["result"]["cost_usd"].as_f64().unwrap();
    assert!(
        cost(&second) < cost(&first) * 1.9,
        "only the increase is charged: {} then {}",
        cost(&first),
        cost(&second)
    );
    house.provider.play(json!({ "default": { "text": "Third." } }));
    house.says("d3", "@agent start fresh: look").await;
    let tasks = house.done(3).await;
    assert!(!house.last_messages().contains("MARZIPAN"), "it was to begin anew");
    let third = house.detail(&tasks[0]).await;
    assert_ne!(third["result"]["session_id"], first["result"]["session_id"]);
    assert_eq!(third["spec"]["source"]["flow_id"], first["spec"]["source"]["flow_id"]);
}

#[tokio::test]
async fn conversation_goes_on_where_only_the_ledger_is_left() {
    let Some(program) = claude::alone("real_run::conversation_goes_on_where_only_the_ledger_is_left") else { return };
    let mut house = House::new(&program, json!({ "default": { "text": "The word is MARZIPAN." } })).await;
    house.says("d1", "@agent look").await;
    house.done(1).await;
    house.service.kill();
    // As on another node: the same ledger, none of the files of the run.
    std::fs::remove_dir_all(house.service.root().join(".skillhook/workspaces")).unwrap();
    house.service.start();
    house.service.wait_ready().await;
    house.provider.play(json!({ "default": { "text": "Second." } }));
    house.says("d2", "@agent look once more").await;
    let tasks = house.done(2).await;
    assert_eq!(tasks[0]["state"], "succeeded", "{tasks:?}");
    assert!(house.last_messages().contains("MARZIPAN"), "the history was not there");
}

#[tokio::test]
async fn run_that_a_crash_broke_off_resumes_its_conversation() {
    let Some(program) = claude::alone("real_run::run_that_a_crash_broke_off_resumes_its_conversation") else { return };
    let hangs = json!({ "default": { "text": "I am thinking about this", "hang_after": 3 } });
    let mut house = House::new(&program, hangs).await;
    house.says("d1", "@agent look for the MARZIPAN").await;
    // The program asks before it writes its record, and without a record there is nothing to resume.
    wait_for("the record of the question", || async {
        !house.provider.asked().is_empty() && house.is_recorded("look for the MARZIPAN")
    })
    .await;
    house.service.kill();
    house.provider.play(json!({ "default": { "text": "Found it." } }));
    house.service.start();
    house.service.wait_ready().await;
    let tasks = house.done(1).await;
    assert!(tasks[0]["state"] == "succeeded" && tasks[0]["attempt"] == 2, "{tasks:?}");
    house.wait_comment("Found it.").await;
    let asked = house.last_messages().matches("look for the MARZIPAN").count();
    assert!(asked >= 2, "the first question stands in the history: {}", house.last_messages());
}

#[tokio::test]
async fn plan_is_kept_as_a_file_of_the_task() {
    let Some(program) = claude::alone("real_run::plan_is_kept_as_a_file_of_the_task") else { return };
    let house = House::new(&program, json!({ "default": { "text": "# Plan\n1. Begin." } })).await;
    house.says("d1", "@agent plan it").await;
    let tasks = house.done(1).await;
    let task = house.detail(&tasks[0]).await;
    assert_eq!(task["result"]["artefacts"]["PLAN.md"], "# Plan\n1. Begin.", "{task}");
    // The next run of the conversation finds it.
    let workspaces = std::fs::read_dir(house.service.root().join(".skillhook/workspaces")).unwrap().flatten();
    let plans: Vec<_> =
        workspaces.map(|entry| entry.path().join("work/PLAN.md")).filter(|plan| plan.is_file()).collect();
    assert_eq!(plans.len(), 1);
}

#[tokio::test]
async fn refused_credentials_end_the_task_and_say_what_to_do() {
    let Some(program) = claude::alone("real_run::refused_credentials_end_the_task_and_say_what_to_do") else { return };
    let refusal = json!({ "default": { "status": 401, "message": "invalid x-api-key" } });
    let house = House::new(&program, refusal).await;
    house.says("d1", "@agent look").await;
    let tasks = house.done(1).await;
    assert_eq!((tasks[0]["state"].as_str(), tasks[0]["attempt"].as_u64()), (Some("dead"), Some(1)), "{tasks:?}");
    house.wait_comment("check the agent's credentials").await;
}

#[tokio::test]
async fn doctor_names_the_version_and_tries_the_program_out() {
    let Some(program) = claude::alone("real_run::doctor_names_the_version_and_tries_the_program_out") else { return };
    let house = House::new(&program, json!({})).await;
    let mut command = house.service.command(&["doctor", "-o", "json"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = rows.as_array().or_else(|| rows["items"].as_array()).unwrap();
    let row = |check: &str| rows.iter().find(|row| row["check"] == check).unwrap().clone();
    let (agent, trial, sandbox) = (row("agent program"), row("agent trial"), row("sandbox"));
    assert!(agent["result"] == "ready" && agent["found"].as_str().unwrap().contains("2.1."), "{agent}");
    assert_eq!(trial["result"], "ready", "{trial}");
    assert!(!sandbox["found"].as_str().unwrap().is_empty());
    assert!(house.provider.asked().is_empty(), "the trial asks nobody but itself");
}
