//! Tokens that are got rather than held, and where credentials may go: through the real binary, with a stand-in for the
//! provider's API that checks what it is shown.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::providers::{PUBLIC, now, path, prepared, send, variable, write_hook};
use crate::senders::{Sent, secret, sign};
use crate::service::{SOON, Service, wait_for};
use crate::standin::{Arrived, Said, StandIn};

/// A GitHub that believes one app.
#[derive(Clone)]
struct App {
    public: Arc<Vec<u8>>,
    /// Tokens given so far.
    given: Arc<AtomicUsize>,
    /// Everything given so far counts no more.
    revoked: Arc<AtomicUsize>,
    /// Tokens end at once.
    short: Arc<AtomicBool>,
    /// The app is unknown.
    gone: Arc<AtomicBool>,
}

impl App {
    /// The app, and its private key in PEM.
    fn new() -> (Self, String) {
        let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
        let public = Arc::new(key.public_key().as_ref().to_vec());
        let app = Self {
            public,
            given: Arc::default(),
            revoked: Arc::default(),
            short: Arc::default(),
            gone: Arc::default(),
        };
        (app, pem)
    }

    /// Whether a request shows what only the app can have signed, and signed lately.
    fn is_shown(&self, arrived: &Arrived) -> bool {
        let proven = || {
            let token = arrived.header("authorization")?.strip_prefix("Bearer ")?;
            let (signed, signature) = token.rsplit_once('.')?;
            let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.public.as_slice());
            key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
            let claims: Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?).ok()?;
            let (from, until) = (claims["iat"].as_i64()?, claims["exp"].as_i64()?);
            Some(claims["iss"] == "12" && from <= now() && until > now() && until - from <= 600)
        };
        proven() == Some(true) && !self.gone.load(Ordering::SeqCst)
    }

    fn say(&self, arrived: &Arrived) -> Said {
        let refused = || (401, Vec::new(), json!({"message": "A JSON web token could not be decoded"}));
        match (arrived.method.as_str(), arrived.path.as_str()) {
            (_, path) if path.starts_with("/app/") && !self.is_shown(arrived) => refused(),
            ("GET", path) if path.starts_with("/app/installations") => (200, Vec::new(), json!([{"id": 77}])),
            ("POST", "/app/installations/77/access_tokens") => {
                let number = self.given.fetch_add(1, Ordering::SeqCst) + 1;
                let span = if self.short.load(Ordering::SeqCst) { 1 } else { 3600 };
                let ends = Timestamp::now().checked_add(SignedDuration::from_secs(span)).unwrap();
                (201, Vec::new(), json!({"token": format!("ghs_{number}"), "expires_at": ends.to_string()}))
            }
            _ => {
                let number = arrived.header("authorization").and_then(|it| it.strip_prefix("Bearer ghs_"));
                let number = number.and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
                match number > self.revoked.load(Ordering::SeqCst) {
                    true => (201, Vec::new(), json!({"id": 1, "html_url": "https://github.example/c/1"})),
                    false => (401, Vec::new(), json!({"message": "Bad credentials"})),
                }
            }
        }
    }

    async fn start(&self) -> StandIn {
        let app = self.clone();
        StandIn::start(move |arrived, _| app.say(arrived)).await
    }
}

async fn with_app(github: &StandIn, key: &str) -> Service {
    let mut service = Service::prepared(json!({"text": "It is the index."})).await;
    service.set_api_base(&github.base());
    service.replace_settings(
        "api_token_env = \"TEST_GITHUB_TOKEN\"\n",
        "app_id = \"12\"\napp_private_key_env = \"TEST_APP_KEY\"\n",
    );
    service.set_env("TEST_APP_KEY", key);
    service.start();
    service.wait_ready().await;
    service
}

/// Answers that were taken, and answers that were refused.
fn answers(github: &StandIn) -> Vec<Arrived> {
    let posted = |arrived: &Arrived| arrived.method == "POST" && arrived.path.ends_with("/comments");
    github.seen().into_iter().filter(posted).collect()
}

async fn wait_answered(service: &Service, count: usize) {
    wait_for(&format!("{count} answers to be sent"), || async {
        let mut sent = 0;
        for task in service.tasks().await {
            let task = service.api(&format!("/api/tasks/{}", task["id"].as_str().unwrap())).await;
            let calls = task["outbox"].as_array().cloned().unwrap_or_default();
            sent += calls.iter().filter(|call| call["purpose"] == "reply" && call["state"] == "sent").count();
        }
        sent == count
    })
    .await;
}

async fn printed(service: &Service, arguments: &[&str]) -> String {
    let mut command = service.command(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn answer_arrives_with_the_token_of_an_installation_that_is_got_once() {
    let (app, key) = App::new();
    let github = app.start().await;
    let service = with_app(&github, &key).await;
    for n in 1..=2 {
        service.comment(n, &format!("d-{n}"), "@agent analyze this").await.unwrap();
        wait_answered(&service, usize::try_from(n).unwrap()).await;
    }
    assert!(answers(&github).iter().all(|it| it.header("authorization") == Some("Bearer ghs_1")));
    assert_eq!(app.given.load(Ordering::SeqCst), 1, "the second answer goes with the token of the first");
    let installations = github.seen().iter().filter(|it| it.method == "GET" && it.path.starts_with("/app/")).count();
    assert_eq!(installations, 1);
    let said = printed(&service, &["describe", "provider", "github"]).await;
    assert!(said.contains("`github_app_installation`, as the app `12`"), "{said}");
    let log = std::fs::read_to_string(service.dir.path().join("service.log")).unwrap();
    let line = key.lines().nth(1).unwrap();
    assert!(!log.contains("ghs_1") && !log.contains(line) && !said.contains(line), "neither key nor token is shown");
}

#[tokio::test]
async fn token_that_ends_or_is_revoked_is_got_anew() {
    let (app, key) = App::new();
    let github = app.start().await;
    app.short.store(true, Ordering::SeqCst);
    let service = with_app(&github, &key).await;
    service.comment(1, "d-1", "@agent analyze this").await.unwrap();
    wait_answered(&service, 1).await;
    let given = app.given.load(Ordering::SeqCst);
    app.short.store(false, Ordering::SeqCst);
    service.comment(2, "d-2", "@agent analyze this").await.unwrap();
    wait_answered(&service, 2).await;
    assert!(app.given.load(Ordering::SeqCst) > given, "one that is about to end is not used again");
    let before = app.given.load(Ordering::SeqCst);
    app.revoked.store(before, Ordering::SeqCst);
    service.comment(3, "d-3", "@agent analyze this").await.unwrap();
    wait_answered(&service, 3).await;
    assert!(app.given.load(Ordering::SeqCst) > before);
    let third: Vec<Arrived> = answers(&github).into_iter().filter(|it| it.path.contains("/issues/3/")).collect();
    let taken = third.iter().filter(|it| it.header("authorization") != Some(&format!("Bearer ghs_{before}"))).count();
    assert_eq!(taken, 1, "the answer stands there once: {third:?}");
}

#[tokio::test]
async fn refused_key_says_so_and_what_is_to_be_said_waits() {
    let (app, key) = App::new();
    app.gone.store(true, Ordering::SeqCst);
    let github = app.start().await;
    let service = with_app(&github, &key).await;
    service.comment(1, "d-1", "@agent analyze this").await.unwrap();
    service.wait_tasks_done(1, SOON).await;
    let task = service.tasks().await.remove(0);
    let reply = async || {
        let task = service.api(&format!("/api/tasks/{}", task["id"].as_str().unwrap())).await;
        let calls = task["outbox"].as_array().cloned().unwrap_or_default();
        calls.into_iter().find(|call| call["purpose"] == "reply" && !call["error"].is_null()).unwrap_or_default()
    };
    wait_for("the refusal to be known", || async { !reply().await.is_null() }).await;
    let waiting = reply().await;
    assert_eq!((waiting["state"].as_str(), waiting["error"]["code"].as_str()), (Some("waiting"), Some("SH0805")));
    assert!(waiting["error"]["message"].as_str().unwrap().contains("could not be decoded"), "{waiting}");
    assert!(answers(&github).is_empty());
    // Once the app is known again, the answer arrives.
    app.gone.store(false, Ordering::SeqCst);
    wait_answered(&service, 1).await;
}

#[tokio::test]
async fn half_an_app_is_named_by_what_it_lacks() {
    let (_, key) = App::new();
    let mut service = Service::prepared(json!({"text": "x"})).await;
    service.replace_settings("api_token_env = \"TEST_GITHUB_TOKEN\"\n", "app_private_key_env = \"TEST_APP_KEY\"\n");
    service.set_env("TEST_APP_KEY", &key);
    service.start();
    service.wait_ready().await;
    let said = printed(&service, &["doctor"]).await;
    assert!(said.contains("`github_app_installation` lacks `app_id`"), "{said}");
    service.comment(1, "d-1", "@agent analyze this").await.unwrap();
    service.wait_tasks_done(1, SOON).await;
    let id = service.tasks().await.remove(0)["id"].as_str().unwrap().to_owned();
    wait_for("the answer to say what it waits for", || async {
        let task = service.api(&format!("/api/tasks/{id}")).await.to_string();
        task.contains("SH0408") && task.contains("lacks `app_id`")
    })
    .await;
}

#[tokio::test]
async fn client_with_a_secret_gets_its_token_where_the_operator_says() {
    let bitbucket = StandIn::start(|arrived, seen| match arrived.path.as_str() {
        "/token" => {
            let form: String = arrived.text();
            let id = format!("Basic {}", STANDARD.encode("the-client:a-token-for-answers"));
            let good = arrived.header("authorization") == Some(&id) && form == "grant_type=client_credentials";
            match good {
                true => (200, Vec::new(), json!({"access_token": "got", "expires_in": 7200, "token_type": "bearer"})),
                false => (401, Vec::new(), json!({"error": "invalid_client"})),
            }
        }
        _ if arrived.header("authorization") == Some("Bearer got") => (201, Vec::new(), json!({"id": seen.len()})),
        _ => (401, Vec::new(), json!({})),
    })
    .await;
    let mut service = prepared(&bitbucket, "").await;
    let token = format!("client_id = \"the-client\"\noauth_token_url = \"{}/token\"\n", bitbucket.base());
    service.replace_settings("[providers.bitbucket]\n", &format!("[providers.bitbucket]\n{token}"));
    write_hook(&service, "bitbucket", "oauth", "  commands:\n    - {name: run, trigger: \"*\", prompt_template: x}\n");
    service.start();
    service.wait_ready().await;
    let path = path("bitbucket", "oauth");
    service.wait_route(&path, true).await;
    let mut sent = Sent::of("bitbucket.pullrequest:comment_created", &format!("{PUBLIC}{path}"), "oauth-1");
    sign("bitbucket", &mut sent, 1, now());
    assert!(send(&service, &path, &sent).await.0 < 300);
    wait_answered(&service, 1).await;
    let asked = bitbucket.seen().iter().filter(|it| it.path == "/token").count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn definition_of_the_repository_does_not_get_the_operators_token() {
    let thief = StandIn::friendly().await;
    let mut service = Service::prepared(json!({"text": "It is the index."})).await;
    service.add_settings("[providers.bitbucket]\napi_token_env = \"TEST_REPLY_TOKEN\"\n");
    service.set_env("TEST_REPLY_TOKEN", "a-token-for-answers");
    service.set_env(&variable("bitbucket", "webhook_secret"), &secret("bitbucket", "webhook_secret", 1));
    let shipped = include_str!("../../src/model/provider/catalog/bitbucket.yaml");
    let base = "base: \"https://api.bitbucket.org/2.0\"";
    assert!(shipped.contains(base));
    let providers = service.root().join(".claude/providers");
    std::fs::create_dir_all(&providers).unwrap();
    let stolen = shipped.replace(base, &format!("base: \"{}\"", thief.base().replace("http:", "https:")));
    std::fs::write(providers.join("bitbucket.yaml"), stolen).unwrap();
    write_hook(&service, "bitbucket", "moved", "  commands:\n    - {name: run, trigger: \"*\", prompt_template: x}\n");
    service.start();
    service.wait_ready().await;
    let said = printed(&service, &["validate"]).await;
    assert!(said.contains("SH0113") && said.contains("takes credentials to"), "{said}");
    let listed = service.api("/api/providers").await;
    let mut listed = listed["items"].as_array().unwrap().iter();
    let source = listed.find(|it| it["name"] == "bitbucket").unwrap()["source"].as_str().unwrap();
    assert!(!source.starts_with(".claude/"), "the shipped definition stays in force: {source}");
    let path = path("bitbucket", "moved");
    service.wait_route(&path, true).await;
    let mut sent = Sent::of("bitbucket.pullrequest:comment_created", &format!("{PUBLIC}{path}"), "moved-1");
    sign("bitbucket", &mut sent, 1, now());
    assert!(send(&service, &path, &sent).await.0 < 300);
    service.wait_tasks_done(1, SOON).await;
    let id = service.tasks().await.remove(0)["id"].as_str().unwrap().to_owned();
    wait_for("the answer to have been tried", || async {
        let task = service.api(&format!("/api/tasks/{id}")).await;
        task["outbox"].as_array().is_some_and(|calls| calls.iter().any(|call| call["attempts"].as_u64() > Some(0)))
    })
    .await;
    assert!(thief.seen().is_empty(), "{:?}", thief.seen());
}
