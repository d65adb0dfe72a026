//! Prepared calls, from a delivery to what is sent.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::error::Code;
use crate::model::ids::TaskId;
use crate::model::secret::SecretSet;

/// Runs a check on a delivery.
fn delivered<T>(
    provider: &str,
    headers: &[(&str, &str)],
    body: &Value,
    settings: &[(&str, &str)],
    check: impl Fn(&Delivered<'_>) -> T,
) -> T {
    let catalogue = catalog::builtin().unwrap();
    let definition = catalogue.get(provider).unwrap();
    let headers: Headers = headers.iter().copied().collect();
    let incoming = Incoming::new("POST", "https://h.example/", headers, body.to_string());
    let payload = decode(definition, &incoming).unwrap();
    let settings: Settings = settings.iter().copied().collect();
    check(&Delivered { definition, incoming: &incoming, payload: &payload, item: None, settings: &settings })
}

fn context() -> BTreeMap<String, String> {
    [("reply", "done"), ("ack_text", "seen"), ("since", "2026-01-01T00:00:00Z"), ("reply_id", "9")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn comment(repository: &str) -> Value {
    json!({"action": "created", "repository": {"full_name": repository}, "issue": {"number": 7},
           "comment": {"id": 5, "body": "x"}, "sender": {"login": "mona", "type": "User"}})
}

const ISSUE_COMMENT: [(&str, &str); 1] = [("X-GitHub-Event", "issue_comment")];

#[test]
fn github_reply_carries_credentials_and_can_be_found_again() {
    let call = delivered("github", &ISSUE_COMMENT, &comment("octo/hello"), &[], reply_call).unwrap();
    let secrets = SecretSet::new().with("api_token", "tok");
    let filled = call.fill(&context(), &secrets).unwrap();
    assert_eq!(filled.url, "https://api.github.com/repos/octo/hello/issues/7/comments");
    assert!(filled.headers.contains(&("Authorization".to_owned(), "Bearer tok".to_owned())));
    let traits = call.reply.as_ref().unwrap();
    assert_eq!((traits.limits.chars, traits.limits.bytes), (Some(65_536), Some(262_144)));
    let find = traits.find.as_ref().unwrap();
    let listing = find.call.fill(&context(), &secrets).unwrap();
    assert_eq!(
        listing.url,
        "https://api.github.com/repos/octo/hello/issues/7/comments?per_page=100&since=2026-01-01T00%3A00%3A00Z"
    );
    let task = TaskId(uuid::Uuid::from_u128(1));
    let message = traits.messages("done", task).remove(0);
    let answer = json!([{"id": 1, "body": "other"}, {"id": 2, "body": message, "html_url": "https://g.example/2"}]);
    let standing = find.locate(&answer, traits.marker, task, 0).unwrap();
    assert_eq!(standing.url.as_deref(), Some("https://g.example/2"));
    let created = traits.created(&json!({"id": 9, "html_url": "https://g.example/9"}));
    assert_eq!(created.id.as_deref(), Some("9"));
    let edit = traits.edit.as_ref().unwrap().fill(&context(), &secrets).unwrap();
    assert_eq!(
        (edit.method.as_str(), edit.url.as_str()),
        ("PATCH", "https://api.github.com/repos/octo/hello/issues/comments/9")
    );
}

#[test]
fn payload_cannot_lead_a_call_elsewhere() {
    for evil in ["../../user", "octo/../../x", "octo//x", "/octo", "."] {
        let call = delivered("github", &ISSUE_COMMENT, &comment(evil), &[], reply_call);
        assert_eq!(call, None, "{evil}");
    }
    let call = delivered("github", &ISSUE_COMMENT, &comment("o/r?x=1#y@evil.example"), &[], reply_call).unwrap();
    let filled = call.fill(&context(), &SecretSet::new().with("api_token", "t")).unwrap();
    assert!(
        filled.url.starts_with("https://api.github.com/repos/o/r%3Fx=1%23y@evil.example/issues/"),
        "{}",
        filled.url
    );
}

#[test]
fn custom_reply_goes_to_listed_hosts_only_and_without_credentials() {
    let body = |url: &str| json!({"text": "x", "reply_url": url});
    let outcome = |url: &str, hosts: &str| {
        let call = delivered("custom", &[], &body(url), &[("reply_hosts", hosts)], reply_call)?;
        Some(call.fill(&context(), &SecretSet::new()).map_err(|error| error.code()))
    };
    let filled = outcome("https://ci.example/done?id=1", "ci.example,other.example").unwrap().unwrap();
    assert_eq!(filled.url, "https://ci.example/done?id=1");
    assert!(!filled.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")));
    assert_eq!(outcome("https://evil.example/", "ci.example").unwrap().unwrap_err(), Code::ReplyTarget);
    assert_eq!(outcome("http://ci.example/", "ci.example").unwrap().unwrap_err(), Code::ReplyTarget);
    // Nothing listed: no call at all, rather than one to anywhere.
    assert_eq!(outcome("https://ci.example/", ""), None);
}

#[test]
fn gitlab_echoes_its_event_id_only_when_there_is_one() {
    let body =
        json!({"object_kind": "issue", "project": {"id": 4}, "object_attributes": {"iid": 2}, "user": {"id": 8}});
    let secrets = SecretSet::new().with("api_token", "t");
    let echoed = |headers: &[(&str, &str)]| {
        let call = delivered("gitlab", headers, &body, &[("base_url", "https://git.example/")], reply_call).unwrap();
        let filled = call.fill(&context(), &secrets).unwrap();
        assert_eq!(filled.url, "https://git.example/api/v4/projects/4/issues/2/notes");
        filled.headers.iter().any(|(name, _)| name == "X-Gitlab-Event-UUID")
    };
    assert!(echoed(&[("X-Gitlab-Event-UUID", "u")]));
    assert!(!echoed(&[]));
    let lookup = delivered("gitlab", &[], &body, &[], lookup_call).unwrap();
    let filled = lookup.call.fill(&BTreeMap::new(), &secrets).unwrap();
    assert_eq!(filled.url, "https://gitlab.com/api/v4/projects/4/members/all/8");
    assert!(lookup.judge(&json!({"access_level": 30})) && !lookup.judge(&json!({"access_level": 20})));
}

#[test]
fn jira_cloud_gets_a_document_and_the_site_is_the_operators() {
    let body = json!({"webhookEvent": "comment_created", "issue": {"key": "A-1"}, "comment": {"body": "x"}});
    let settings = [("site_url", "https://a.atlassian.net"), ("rest_version", "3")];
    let call = delivered("jira", &[], &body, &settings, reply_call).unwrap();
    let secrets = SecretSet::new().with("api_user", "me@a.example").with("api_token", "t");
    let filled = call.fill(&context(), &secrets).unwrap();
    assert_eq!(filled.url, "https://a.atlassian.net/rest/api/3/issue/A-1/comment");
    assert!(filled.headers.contains(&("Authorization".to_owned(), "Basic bWVAYS5leGFtcGxlOnQ=".to_owned())));
    let sent: Value = serde_json::from_slice(&filled.body.unwrap()).unwrap();
    assert_eq!(sent["body"]["content"][0]["content"][0]["text"], "done");
    assert_eq!(delivered("jira", &[], &body, &[], reply_call), None);
}

#[test]
fn slack_tells_success_in_the_body() {
    let body =
        json!({"type": "event_callback", "event": {"type": "app_mention", "channel": "C1", "ts": "1.2", "text": "x"}});
    let call = delivered("slack", &[], &body, &[], reply_call).unwrap();
    assert!(call.succeeded(200, Some(&json!({"ok": true}))));
    assert!(!call.succeeded(200, Some(&json!({"ok": false}))));
    assert!(!call.succeeded(200, None) && !call.succeeded(500, Some(&json!({"ok": true}))));
}

#[test]
fn discord_defers_in_the_response_and_edits_it_later() {
    let body = json!({"type": 2, "token": "tok", "application_id": "9", "id": "1", "channel_id": "3"});
    let answer = delivered("discord", &[], &body, &[], |it| ack_response(it, "")).unwrap();
    assert_eq!(answer.body, br#"{"type":5}"#);
    let call = delivered("discord", &[], &body, &[], reply_call).unwrap();
    assert_eq!((call.method.as_str(), call.ttl_seconds), ("PATCH", Some(900)));
    let next = call.next.as_ref().unwrap().fill(&context(), &SecretSet::new()).unwrap();
    assert_eq!((next.method.as_str(), next.url.as_str()), ("POST", "https://discord.com/api/v10/webhooks/9/tok"));
    assert!(next.body.is_some() && !next.headers.iter().any(|(name, _)| name == "Authorization"));
}

#[test]
fn telegram_token_stands_in_the_address_only_when_the_call_is_made() {
    let body = json!({"update_id": 1, "message": {"message_id": 3, "chat": {"id": -5}, "text": "x"}});
    let call = delivered("telegram", &[], &body, &[], reply_call).unwrap();
    assert!(!serde_json::to_string(&call).unwrap().contains("123:abc"));
    let filled = call.fill(&context(), &SecretSet::new().with("bot_token", "123:abc")).unwrap();
    assert_eq!(filled.url, "https://api.telegram.org/bot123:abc/sendMessage");
    let sent: Value = serde_json::from_slice(&filled.body.unwrap()).unwrap();
    assert_eq!(sent["chat_id"], -5);
    assert_eq!(enriched(), "https://app.asana.com/api/1.0/stories/8?opt_fields=text,html_text,type,created_by,target");
}

/// What a thin payload names is fetched.
fn enriched() -> String {
    let body = json!({"resource": {"gid": "8", "resource_type": "story"}});
    let calls = delivered("asana", &[], &body, &[], enrich_calls);
    assert_eq!(calls[0].1, [("text".to_owned(), "/data/text".to_owned())]);
    calls[0].0.fill(&context(), &SecretSet::new().with("api_token", "t")).unwrap().url
}
