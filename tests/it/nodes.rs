//! Three nodes of the real program on one ledger in PostgreSQL: deliveries over all receivers while a node and the
//! database are killed; a change of the configuration that reaches every node; roles.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::servers::PostgresServer;
use crate::service::{SECRET, SOON, Service, git, issue_comment, own_webhook, sign, wait_for};

const NODES: usize = 3;
const ISSUES: usize = 20;
const COMMENTS: usize = 6;

/// Nodes that share the ledger, the remote, the stand-in for GitHub and the journal of the agent.
async fn prepared(server: &PostgresServer, roles: [&str; NODES]) -> Vec<Service> {
    let mut nodes: Vec<Service> = Vec::new();
    for roles in roles {
        let mut node = Service::prepared(json!({})).await;
        if let Some(first) = nodes.first() {
            node.set_api_base(&first.github.base());
            let plan = |service: &Service| service.dir.path().join("agent-plan.json").display().to_string();
            let (own, shared) = (plan(&node), plan(first));
            node.replace_settings(&own, &shared);
            let remote = first.dir.path().join("remote.git").display().to_string();
            git(&node.root(), &["remote", "set-url", "origin", &remote]);
            git(&node.root(), &["fetch", "-q", "origin"]);
            git(&node.root(), &["reset", "-q", "--hard", "origin/main"]);
        }
        node.add_settings(&format!("[server]\nroles = {roles}\n[ledger]\nlease_seconds = 3\n"));
        node.set_env("SKILLHOOK_LEDGER", &server.url("schema=nodes"));
        nodes.push(node);
    }
    for node in &mut nodes {
        node.start();
    }
    for node in &nodes {
        node.wait_ready().await;
    }
    nodes
}

const ALL: &str = r#"["receiver", "worker", "reconciler", "api"]"#;

async fn nodes_of(node: &Service) -> Vec<Value> {
    node.api_if_there("/api/status").await["ledger"]["nodes"].as_array().cloned().unwrap_or_default()
}

/// Sends as a provider does: again, until it is acknowledged, to whichever receiver is there.
async fn send_until_acked(client: &reqwest::Client, urls: &[String], id: &str, body: &Value) {
    let body = body.to_string();
    let signature = format!("sha256={}", hex::encode(sign(SECRET, body.as_bytes())));
    for url in urls.iter().cycle() {
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("x-github-event", "issue_comment")
            .header("x-github-delivery", id)
            .header("x-hub-signature-256", &signature)
            .body(body.clone());
        match request.send().await.map(|answer| answer.status().as_u16()) {
            Ok(200 | 202) => return,
            Ok(503) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            Ok(other) => panic!("delivery {id} was answered with {other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_nodes_and_a_killed_database_lose_nothing_and_answer_nothing_twice() {
    let Some(mut server) = PostgresServer::start() else { return };
    let mut nodes = prepared(&server, [ALL; NODES]).await;
    wait_for("the nodes to know each other", || async { nodes_of(&nodes[0]).await.len() == NODES }).await;
    let urls: Vec<String> = nodes.iter().map(|node| node.url("/webhooks/github")).collect();
    let acked = Arc::new(AtomicUsize::new(0));
    let senders: Vec<_> = (0..ISSUES)
        .map(|issue| {
            let (acked, client, mut urls) = (Arc::clone(&acked), nodes[0].client.clone(), urls.clone());
            tokio::spawn(async move {
                for comment in 0..COMMENTS {
                    urls.rotate_left(1);
                    let text = format!("@agent analyze fake-agent:{{\"task\":\"n{issue}-{comment}\"}}");
                    let body = issue_comment(issue as u64 + 1, &text);
                    let id = format!("delivery-{issue}-{comment}");
                    send_until_acked(&client, &urls, &id, &body).await;
                    if comment % 3 == 0 {
                        send_until_acked(&client, &urls[1..], &id, &body).await;
                    }
                    acked.fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();
    let acked = |share: usize| {
        let acked = Arc::clone(&acked);
        async move { acked.load(Ordering::Acquire) * 10 >= ISSUES * COMMENTS * share }
    };
    let ended = |node: &Service| node.journal().iter().filter(|line| line.starts_with("result ")).count();
    wait_for("some deliveries", || acked(3)).await;
    wait_for("some runs", || async { ended(&nodes[0]) > 3 }).await;
    server.kill();
    server.run();
    wait_for("more runs", || async { ended(&nodes[0]) > 10 }).await;
    nodes[2].kill();
    wait_for("the others to take over", || async { nodes_of(&nodes[0]).await.len() == NODES - 1 }).await;
    server.kill();
    server.run();
    for sender in senders {
        sender.await.unwrap();
    }
    wait_for("the database to be back", || async { nodes[0].api_if_there("/api/tasks").await["items"].is_array() })
        .await;
    nodes[0].wait_tasks_done(ISSUES * COMMENTS, SOON).await;
    let tasks = nodes[0].tasks().await;
    assert_eq!(tasks.len(), ISSUES * COMMENTS, "phantom or duplicated tasks");
    let unfinished: Vec<_> = tasks.iter().filter(|task| task["state"] != "succeeded").collect();
    assert!(unfinished.is_empty(), "{unfinished:?}");
    assert!(nodes[0].github.wait_for_comments(ISSUES * COMMENTS, SOON).await);
    wait_for("an empty outbox", || async { nodes[1].api("/api/status").await["queue"]["outbox_waiting"] == 0 }).await;
    let mut by_issue: BTreeMap<String, usize> = BTreeMap::new();
    for seen in nodes[0].github.seen().iter().filter(|seen| seen.method == "POST" && seen.path.ends_with("/comments")) {
        *by_issue.entry(seen.path.clone()).or_default() += 1;
    }
    let wrong: Vec<_> = by_issue.iter().filter(|(_, count)| **count != COMMENTS).collect();
    assert!(wrong.is_empty() && by_issue.len() == ISSUES, "answered twice or never: {wrong:?}");
    assert_order(&nodes[0].journal());
}

/// Runs of one conversation go in the order of its messages, and none begins again after another one has begun.
fn assert_order(journal: &[String]) {
    let mut begun: BTreeMap<String, usize> = BTreeMap::new();
    let mut starts = 0;
    for line in journal.iter().filter(|line| line.starts_with("start n")) {
        let task = line.split(' ').nth(1).unwrap().trim_start_matches('n');
        let (issue, comment) = task.split_once('-').unwrap();
        let (comment, last) = (comment.parse::<usize>().unwrap(), begun.get(issue).copied());
        starts += 1;
        assert!(last.is_none_or(|last| comment == last || comment == last + 1), "{issue}: {comment} after {last:?}");
        begun.insert(issue.to_owned(), comment);
    }
    assert_eq!(begun.len(), ISSUES);
    assert!(starts >= ISSUES * COMMENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_every_node_and_each_does_what_its_roles_say() {
    let Some(server) = PostgresServer::start() else { return };
    let roles = [r#"["receiver", "reconciler", "api"]"#, r#"["worker", "api"]"#, r#"["receiver", "api"]"#];
    let nodes = prepared(&server, roles).await;
    let refused = nodes[1].client.post(nodes[1].url("/webhooks/github")).body("{}").send().await;
    assert!(refused.is_err(), "a node that is no receiver does not listen");
    nodes[0].write_skill("extra", &own_webhook("extra"));
    nodes[0].wait_route("/webhooks/github/extra", true).await;
    // It comes to the others by the remote, and they hear of it by the ledger.
    nodes[2].wait_route("/webhooks/github/extra", true).await;
    wait_for("equal digests", || async {
        let nodes = nodes_of(&nodes[1]).await;
        let digests: Vec<_> = nodes.iter().map(|node| node["index_digest"].as_str()).collect();
        digests.len() == NODES && digests[0].is_some() && digests.iter().all(|digest| *digest == digests[0])
    })
    .await;
    // Received by one, run by another.
    let comment = issue_comment(7, "@agent look");
    let (status, _) = nodes[2].deliver("/webhooks/github/extra", "issue_comment", "one", &comment).await.unwrap();
    assert_eq!(status, 202);
    nodes[0].wait_tasks_done(1, SOON).await;
    assert!(nodes[0].github.wait_for_comments(1, SOON).await);
    assert!(nodes[1].dir.path().join("repo/.skillhook/node").exists());
    let tokens = |node: &Service| node.command(&["token", "list", "-o", "json"]).output().unwrap();
    let made = nodes[0].command(&["token", "create", "shared", "--scope", "read"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    wait_for("the token on another node", || async {
        String::from_utf8_lossy(&tokens(&nodes[2]).stdout).contains("shared")
    })
    .await;
}
