//! How each sender of the catalogue signs, written down a second time: from the senders' own documents, by hand, and
//! without a line of the engine under test.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use skillhook::model::provider::sample;

/// A request before it is sent; `url` is what the sender believes to call.
#[derive(Clone, Debug)]
pub struct Sent {
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Sent {
    /// An unsigned delivery of a sample.
    pub fn of(sample: &str, url: &str, id: &str) -> Self {
        let sample = sample::find(sample).unwrap();
        let mut sent = Self { url: url.to_owned(), headers: sample.headers.clone(), body: sample.text().into_bytes() };
        for name in
            ["X-GitHub-Delivery", "X-Gitea-Delivery", "X-Request-UUID", "webhook-id", "svix-id", "X-Shopify-Webhook-Id"]
        {
            if sent.header(name).is_none() {
                sent.set(name, id);
            }
        }
        sent
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.headers.retain(|(have, _)| !have.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut body: Value = serde_json::from_slice(&self.body).unwrap();
        change(&mut body);
        self.body = body.to_string().into_bytes();
    }
}

/// Where the proof stands, and whether it covers the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// In this header, over the body.
    Signature(&'static str),
    /// In this header, which is all that counts.
    Token(&'static str),
    /// In the body, over other fields of it.
    Inside(&'static str),
}

/// Every provider with the slots of secrets that its deliveries are signed with.
pub const PROVIDERS: [(&str, &str, &[&str], Proof); 32] = [
    ("alertmanager", "alertmanager.alert.firing", &["bearer"], Proof::Token("Authorization")),
    ("asana", "asana.story.added", &["hook_secret"], Proof::Signature("X-Hook-Signature")),
    ("azure_devops", "azure_devops.workitem.created", &["basic_user", "basic_pass"], Proof::Token("Authorization")),
    ("bitbucket", "bitbucket.pullrequest:comment_created", &["webhook_secret"], Proof::Signature("X-Hub-Signature")),
    ("bitbucket_dc", "bitbucket_dc.pr:comment:added", &["webhook_secret"], Proof::Signature("X-Hub-Signature")),
    ("cloudevents", "cloudevents.com.example.order.failed", &["bearer"], Proof::Token("Authorization")),
    ("custom", "custom.build.failed", &["webhook_secret"], Proof::Signature("X-Hub-Signature-256")),
    ("datadog", "datadog.alert.triggered", &["header_token"], Proof::Token("X-Webhook-Token")),
    ("discord", "discord.interaction.application_command", &["public_key"], Proof::Signature("X-Signature-Ed25519")),
    ("forgejo", "forgejo.issue_comment.created", &["webhook_secret"], Proof::Signature("X-Forgejo-Signature")),
    ("gitea", "gitea.issue_comment.created", &["webhook_secret"], Proof::Signature("X-Gitea-Signature")),
    ("github", "github.issue_comment.created", &["webhook_secret"], Proof::Signature("X-Hub-Signature-256")),
    ("gitlab", "gitlab.note.create", &["webhook_token"], Proof::Token("X-Gitlab-Token")),
    ("grafana", "grafana.alert.firing", &["hmac_secret"], Proof::Signature("X-Grafana-Alerting-Signature")),
    ("hubspot", "hubspot.ticket.creation", &["client_secret"], Proof::Signature("X-HubSpot-Signature-v3")),
    ("intercom", "intercom.conversation.user.replied", &["client_secret"], Proof::Signature("X-Hub-Signature")),
    ("jira", "jira.comment_created", &["webhook_secret"], Proof::Signature("X-Hub-Signature")),
    ("linear", "linear.Comment.create", &["webhook_secret"], Proof::Signature("Linear-Signature")),
    ("mailgun", "mailgun.failed", &["signing_key"], Proof::Inside("/signature/signature")),
    ("meta", "meta.whatsapp_business_account.messages", &["app_secret"], Proof::Signature("X-Hub-Signature-256")),
    ("pagerduty", "pagerduty.incident.triggered", &["webhook_secret"], Proof::Signature("X-PagerDuty-Signature")),
    ("plaid", "plaid.ITEM.ERROR", &["client_id", "api_secret"], Proof::Signature("Plaid-Verification")),
    ("sentry", "sentry.comment.created", &["client_secret"], Proof::Signature("Sentry-Hook-Signature")),
    ("shopify", "shopify.orders/create", &["client_secret"], Proof::Signature("X-Shopify-Hmac-Sha256")),
    ("slack", "slack.app_mention", &["signing_secret"], Proof::Signature("X-Slack-Signature")),
    (
        "standard_webhooks",
        "standard_webhooks.task.requested",
        &["signing_secret"],
        Proof::Signature("webhook-signature"),
    ),
    ("stripe", "stripe.charge.failed", &["endpoint_secret"], Proof::Signature("Stripe-Signature")),
    ("svix", "svix.invoice.failed", &["signing_secret"], Proof::Signature("svix-signature")),
    ("telegram", "telegram.message", &["secret_token"], Proof::Token("X-Telegram-Bot-Api-Secret-Token")),
    ("trello", "trello.commentCard", &["app_secret"], Proof::Signature("X-Trello-Webhook")),
    ("twilio", "twilio.message.received", &["auth_token"], Proof::Signature("X-Twilio-Signature")),
    ("zoom", "zoom.chat_message.sent", &["secret_token"], Proof::Signature("x-zm-signature")),
];

/// The secret of a slot, as the receiver has it. `who` makes different ones.
pub fn secret(provider: &str, slot: &str, who: u8) -> String {
    match (provider, slot) {
        ("discord", "public_key") => hex::encode(discord_key(who).verifying_key().to_bytes()),
        ("standard_webhooks" | "svix", _) => format!("whsec_{}", STANDARD.encode([who; 24])),
        _ => format!("{provider}-{slot}-{who}-secret"),
    }
}

fn discord_key(who: u8) -> SigningKey {
    SigningKey::from_bytes(&[who.wrapping_add(7); 32])
}

/// The key pair with which the stand-in for Plaid signs.
pub fn plaid_key(who: u8) -> EcdsaKeyPair {
    // Any number below the order of the curve is a key; its public half follows from it.
    let private = [who.wrapping_add(11); 32];
    let public = p256_public(&private);
    EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &private, &public).unwrap()
}

fn p256_public(private: &[u8; 32]) -> Vec<u8> {
    use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
    PrivateKey::from_private_key(&ECDH_P256, private).unwrap().compute_public_key().unwrap().as_ref().to_vec()
}

/// What Plaid's API answers when it is asked for that key.
pub fn plaid_jwk(who: u8) -> Value {
    let key = plaid_key(who);
    let point = key.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    json!({ "key": { "alg": "ES256", "crv": "P-256", "kid": "k-1", "kty": "EC", "use": "sig", "x": x, "y": y, "expired_at": null } })
}

fn sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn sha1(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Signs as the sender would at `now`, in seconds.
pub fn sign(provider: &str, sent: &mut Sent, who: u8, now: i64) {
    let slots = PROVIDERS.iter().find(|(name, ..)| *name == provider).unwrap().2;
    let text = secret(provider, slots[0], who);
    let key = text.as_bytes();
    let at = now.to_string();
    let body = sent.body.clone();
    let with = |parts: &[&[u8]]| parts.concat();
    match provider {
        "github" | "meta" | "custom" => {
            sent.set("X-Hub-Signature-256", format!("sha256={}", hex::encode(sha256(key, &body))));
        }
        "bitbucket" | "bitbucket_dc" | "jira" => {
            sent.set("X-Hub-Signature", format!("sha256={}", hex::encode(sha256(key, &body))));
        }
        "intercom" => sent.set("X-Hub-Signature", format!("sha1={}", hex::encode(sha1(key, &body)))),
        "sentry" => sent.set("Sentry-Hook-Signature", hex::encode(sha256(key, &body))),
        "gitea" => sent.set("X-Gitea-Signature", hex::encode(sha256(key, &body))),
        "forgejo" => sent.set("X-Forgejo-Signature", hex::encode(sha256(key, &body))),
        "grafana" => sent.set("X-Grafana-Alerting-Signature", hex::encode(sha256(key, &body))),
        "asana" => sent.set("X-Hook-Signature", hex::encode(sha256(key, &body))),
        "pagerduty" => sent.set("X-PagerDuty-Signature", format!("v1={}", hex::encode(sha256(key, &body)))),
        "shopify" => sent.set("X-Shopify-Hmac-Sha256", STANDARD.encode(sha256(key, &body))),
        "gitlab" => sent.set("X-Gitlab-Token", text.clone()),
        "datadog" => sent.set("X-Webhook-Token", text.clone()),
        "telegram" => sent.set("X-Telegram-Bot-Api-Secret-Token", text.clone()),
        "cloudevents" | "alertmanager" => sent.set("Authorization", format!("Bearer {text}")),
        "azure_devops" => {
            let pair = format!("{text}:{}", secret(provider, slots[1], who));
            sent.set("Authorization", format!("Basic {}", STANDARD.encode(pair)));
        }
        "slack" => {
            let mac = sha256(key, &with(&[b"v0:", at.as_bytes(), b":", &body]));
            sent.set("X-Slack-Request-Timestamp", at);
            sent.set("X-Slack-Signature", format!("v0={}", hex::encode(mac)));
        }
        "zoom" => {
            let mac = sha256(key, &with(&[b"v0:", at.as_bytes(), b":", &body]));
            sent.set("x-zm-request-timestamp", at);
            sent.set("x-zm-signature", format!("v0={}", hex::encode(mac)));
        }
        "linear" => {
            sent.edit(|body| body["webhookTimestamp"] = json!(now * 1000));
            let mac = sha256(key, &sent.body);
            sent.set("Linear-Signature", hex::encode(mac));
        }
        "stripe" => {
            let mac = sha256(key, &with(&[at.as_bytes(), b".", &body]));
            sent.set("Stripe-Signature", format!("t={at},v1={}", hex::encode(mac)));
        }
        "trello" => {
            let mac = sha1(key, &with(&[&body, sent.url.as_bytes()]));
            sent.set("X-Trello-Webhook", STANDARD.encode(mac));
        }
        _ => sign_elsewhere(provider, sent, who, now),
    }
}

/// Those whose proof is made of more than a digest of the body.
fn sign_elsewhere(provider: &str, sent: &mut Sent, who: u8, now: i64) {
    let slots = PROVIDERS.iter().find(|(name, ..)| *name == provider).unwrap().2;
    let text = secret(provider, slots[0], who);
    let key = text.as_bytes();
    let at = now.to_string();
    let body = sent.body.clone();
    let with = |parts: &[&[u8]]| parts.concat();
    match provider {
        "hubspot" => {
            let millis = format!("{at}000");
            let mac = sha256(key, &with(&[b"POST", sent.url.as_bytes(), &body, millis.as_bytes()]));
            sent.set("X-HubSpot-Request-Timestamp", millis);
            sent.set("X-HubSpot-Signature-v3", STANDARD.encode(mac));
        }
        "twilio" => {
            let mut fields: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
            fields.sort();
            let fields: String = fields.into_iter().map(|(name, value)| name + &value).collect();
            let mac = sha1(key, &with(&[sent.url.as_bytes(), fields.as_bytes()]));
            sent.set("X-Twilio-Signature", STANDARD.encode(mac));
        }
        "standard_webhooks" | "svix" => {
            let name = if provider == "svix" { "svix" } else { "webhook" };
            let id = sent.header(&format!("{name}-id")).unwrap().to_owned();
            let key = STANDARD.decode(text.trim_start_matches("whsec_")).unwrap();
            let mac = sha256(&key, &with(&[id.as_bytes(), b".", at.as_bytes(), b".", &body]));
            sent.set(&format!("{name}-timestamp"), at);
            sent.set(&format!("{name}-signature"), format!("v1,{}", STANDARD.encode(mac)));
        }
        "mailgun" => {
            let token = hex::encode(Sha256::digest(format!("{}{at}", sent.url)));
            let mac = hex::encode(sha256(key, format!("{at}{token}").as_bytes()));
            sent.edit(|body| {
                if body.get("body-plain").is_some() {
                    (body["timestamp"], body["token"], body["signature"]) = (json!(at), json!(token), json!(mac));
                } else {
                    body["signature"] = json!({ "timestamp": at, "token": token, "signature": mac });
                }
            });
        }
        "discord" => {
            let signature = discord_key(who).sign(&with(&[at.as_bytes(), &body]));
            sent.set("X-Signature-Timestamp", at);
            sent.set("X-Signature-Ed25519", hex::encode(signature.to_bytes()));
        }
        "plaid" => {
            let head = URL_SAFE_NO_PAD.encode(json!({ "alg": "ES256", "kid": "k-1", "typ": "JWT" }).to_string());
            let claims = json!({ "iat": now, "request_body_sha256": hex::encode(Sha256::digest(&body)) });
            let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
            let signature = plaid_key(who).sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
            sent.set("Plaid-Verification", format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)));
        }
        other => panic!("no way to sign for `{other}`"),
    }
}

/// Five deliveries that nobody but a forger would send: each from a valid one.
pub fn tampered(provider: &str, valid: &Sent, now: i64) -> Vec<(&'static str, Sent)> {
    let proof = PROVIDERS.iter().find(|(name, ..)| *name == provider).unwrap().3;
    let changed = |change: &dyn Fn(&mut Sent)| {
        let mut sent = valid.clone();
        change(&mut sent);
        sent
    };
    let forged = changed(&|sent| sign(provider, sent, 2, now));
    match proof {
        Proof::Signature(header) | Proof::Token(header) => {
            let value = valid.header(header).unwrap().to_owned();
            let mut all = vec![
                (
                    "without its proof",
                    changed(&|sent| sent.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(header))),
                ),
                ("one character of the proof changed", changed(&|sent| sent.set(header, flipped(&value)))),
                ("signed with another secret", forged),
                ("the proof twice", changed(&|sent| sent.headers.push((header.to_owned(), value.clone())))),
            ];
            all.push(match proof {
                Proof::Token(_) => ("half of the proof", changed(&|sent| sent.set(header, &value[..value.len() / 2]))),
                _ => (
                    "another body",
                    changed(&|sent| {
                        let at = sent.body.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
                        sent.body[at] = if sent.body[at] == b'1' { b'2' } else { b'1' };
                    }),
                ),
            });
            all
        }
        Proof::Inside(pointer) => {
            let put =
                |value: Value| changed(&|sent| sent.edit(|body| *body.pointer_mut(pointer).unwrap() = value.clone()));
            let body: Value = serde_json::from_slice(&valid.body).unwrap();
            let proof = body.pointer(pointer).unwrap().as_str().unwrap().to_owned();
            vec![
                ("an empty proof", put(json!(""))),
                ("no text for a proof", put(json!(1))),
                ("one character of the proof changed", put(json!(flipped(&proof)))),
                ("signed with another secret", forged),
                (
                    "another time",
                    changed(&|sent| sent.edit(|body| body["signature"]["timestamp"] = json!((now - 1).to_string()))),
                ),
            ]
        }
    }
}

/// Changed where it matters: padding and the last bits of base64 may not.
fn flipped(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = bytes.len() - 5;
    bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
    String::from_utf8(bytes).unwrap()
}
