//! Verification as a whole: published vectors, then the ways around it that must be closed.

use jiff::Timestamp;

use super::*;
use crate::model::provider::{Headers, catalog};

const OFFICIAL_TIME: i64 = 1_614_265_330;
const SLACK_BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
    channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=\
    https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=\
    398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";

/// A request to a provider of the catalogue.
struct Attempt {
    provider: &'static str,
    secrets: SecretSet,
    settings: Settings,
    keys: FetchedKeys,
    headers: Vec<(&'static str, String)>,
    url: &'static str,
    body: &'static [u8],
    now: i64,
}

fn to(provider: &'static str) -> Attempt {
    Attempt {
        provider,
        secrets: SecretSet::new(),
        settings: Settings::default(),
        keys: FetchedKeys::new(),
        headers: Vec::new(),
        url: "https://hooks.example.com/webhooks/x",
        body: b"{}",
        now: OFFICIAL_TIME,
    }
}

impl Attempt {
    fn secret(mut self, slot: &str, value: &str) -> Self {
        self.secrets = self.secrets.with(slot, value);
        self
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(self, body: &'static [u8]) -> Self {
        Self { body, ..self }
    }

    fn at(self, now: i64) -> Self {
        Self { now, ..self }
    }

    fn verdict(self) -> Verdict {
        let catalogue = catalog::builtin().unwrap();
        let definition = catalogue.get(self.provider).unwrap();
        let headers: Headers = self.headers.into_iter().collect();
        let incoming = Incoming::new("POST", self.url, headers, self.body);
        let now = Timestamp::from_second(self.now).unwrap();
        verify(definition, &incoming, &self.secrets, &self.settings, &self.keys, now)
    }

    fn proof(self) -> Proof {
        match self.verdict() {
            Verdict::Verified(proof) => proof,
            other => panic!("not verified: {other:?}"),
        }
    }

    fn refusal(self) -> Refusal {
        match self.verdict() {
            Verdict::Refused(refusal) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn github() -> Attempt {
    // https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    to("github").secret("webhook_secret", "It's a Secret to Everybody").body(b"Hello, World!")
}

const GITHUB_SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn slack() -> Attempt {
    // https://docs.slack.dev/authentication/verifying-requests-from-slack
    to("slack")
        .secret("signing_secret", "8f742231b10e8888abcd99yyyzzz85a5")
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("X-Slack-Request-Timestamp", "1531420618")
        .body(SLACK_BODY.as_bytes())
        .at(1_531_420_618)
}

const SLACK_SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

fn standard() -> Attempt {
    // https://github.com/standard-webhooks/standard-webhooks, the libraries' tests
    to("standard_webhooks")
        .secret("signing_secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        .header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
        .header("webhook-timestamp", "1614265330")
        .body(b"{\"test\": 2432232314}")
}

const STANDARD_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

#[test]
fn published_vectors_verify() {
    assert_eq!(github().header("X-Hub-Signature-256", GITHUB_SIGNATURE).proof().scheme(), "hmac_sha256");
    assert_eq!(slack().header("X-Slack-Signature", SLACK_SIGNATURE).proof().scheme(), "v0");
    let rotation = format!("v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v2,x {STANDARD_SIGNATURE}");
    assert_eq!(standard().header("webhook-signature", rotation).proof().scheme(), "v1");
    let asymmetric = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
    let attempt = Attempt { secrets: SecretSet::new(), ..standard() };
    let attempt = attempt.secret("public_key", "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
    assert_eq!(attempt.header("webhook-signature", asymmetric).proof().scheme(), "v1a");
    // https://developer.atlassian.com/cloud/jira/platform/webhooks/#secure-admin-webhooks
    let jira = to("jira").secret("webhook_secret", "It's a Secret to Everybody").body(b"Hello World!");
    let signature = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9";
    assert_eq!(jira.header("X-Hub-Signature", signature).proof().scheme(), "hub_signature");
    // https://www.twilio.com/docs/usage/security
    let twilio = Attempt { url: "http://mycompany.com/myapp.php?foo=1&bar=2", ..to("twilio") };
    let body = b"CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309";
    let twilio = twilio.secret("auth_token", "12345").body(body);
    let twilio = twilio.header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(twilio.header("X-Twilio-Signature", "0ZXoZLH/DfblKGATFgpif+LLRf4=").proof().scheme(), "form");
}

#[test]
fn proof_says_what_is_covered() {
    let hub = github().header("X-Hub-Signature-256", GITHUB_SIGNATURE).proof();
    assert!(hub.covers_body);
    assert!(!hub.covers(&Selector::Header("X-GitHub-Delivery".to_owned())));
    let standard = standard().header("webhook-signature", STANDARD_SIGNATURE).proof();
    assert!(standard.covers(&Selector::Header("Webhook-Id".to_owned())));
    let token = to("gitlab").secret("webhook_token", "t").header("X-Gitlab-Token", "t").proof();
    assert!(!token.covers_body);
}

#[test]
fn no_way_around_a_signature() {
    let hub = |value: &str| github().header("X-Hub-Signature-256", value);
    assert_eq!(github().refusal(), Refusal::Missing);
    assert_eq!(hub("").refusal(), Refusal::Missing);
    assert_eq!(hub("sha256=").refusal(), Refusal::Malformed);
    assert_eq!(hub(&GITHUB_SIGNATURE["sha256=".len()..]).refusal(), Refusal::Malformed);
    assert_eq!(hub(&format!("{GITHUB_SIGNATURE}00")).refusal(), Refusal::Mismatch);
    assert_eq!(hub(&format!(" {GITHUB_SIGNATURE}")).refusal(), Refusal::Malformed);
    assert_eq!(hub(GITHUB_SIGNATURE).body(b"Hello, World").refusal(), Refusal::Mismatch);
    assert_eq!(hub(GITHUB_SIGNATURE).header("x-hub-signature-256", GITHUB_SIGNATURE).refusal(), Refusal::Repeated);
    // The weaker header is never looked at.
    let sha1 = "sha1=01dc10d0c83e72ed246219cdd91669667fe2ca59";
    assert_eq!(github().header("X-Hub-Signature", sha1).refusal(), Refusal::Missing);
}

#[test]
fn nothing_verifies_without_a_secret() {
    let bare = |slot: &str, value: &str| {
        let attempt = Attempt { secrets: SecretSet::new(), ..github() }.secret(slot, value);
        attempt.header("X-Hub-Signature-256", GITHUB_SIGNATURE).verdict()
    };
    assert_eq!(bare("webhook_secret", ""), Verdict::NotConfigured);
    assert_eq!(bare("webhook_secret", "  "), Verdict::NotConfigured);
    assert_eq!(bare("api_token", "x"), Verdict::NotConfigured);
    let empty = Attempt { secrets: SecretSet::new(), ..standard() }.secret("signing_secret", "whsec_");
    assert_eq!(empty.header("webhook-signature", STANDARD_SIGNATURE).verdict(), Verdict::NotConfigured);
}

#[test]
fn any_value_of_a_slot_verifies_while_it_is_rotated() {
    let rotated = Attempt { secrets: SecretSet::new(), ..github() };
    let rotated = rotated.secret("webhook_secret", "new one").secret("webhook_secret", "It's a Secret to Everybody");
    assert!(rotated.header("X-Hub-Signature-256", GITHUB_SIGNATURE).proof().covers_body);
}

#[test]
fn time_window_is_exact() {
    let at = |now: i64| slack().header("X-Slack-Signature", SLACK_SIGNATURE).at(1_531_420_618 + now);
    assert!(matches!(at(300).verdict(), Verdict::Verified(_)));
    assert!(matches!(at(-300).verdict(), Verdict::Verified(_)));
    assert_eq!(at(301).refusal(), Refusal::TooOld);
    assert_eq!(at(-301).refusal(), Refusal::TooNew);
    assert_eq!(at(0).header("x-slack-request-timestamp", "1531420618").refusal(), Refusal::Repeated);
}

#[test]
fn every_configured_gitlab_secret_must_match() {
    let both = || {
        let attempt = Attempt { provider: "gitlab", secrets: SecretSet::new(), ..standard() };
        attempt.secret("signing_token", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").secret("webhook_token", "token")
    };
    let good = both().header("webhook-signature", STANDARD_SIGNATURE).header("X-Gitlab-Token", "token").proof();
    assert_eq!(good.schemes, ["signing_token", "token"]);
    assert!(good.covers_body);
    // Leaving out the signature is no way around it, and neither is leaving out the token.
    assert_eq!(both().header("X-Gitlab-Token", "token").refusal(), Refusal::Missing);
    assert_eq!(both().header("webhook-signature", STANDARD_SIGNATURE).refusal(), Refusal::Missing);
    let wrong = both().header("webhook-signature", STANDARD_SIGNATURE).header("X-Gitlab-Token", "tokem");
    assert_eq!(wrong.refusal(), Refusal::Mismatch);
}

#[test]
fn first_scheme_that_applies_decides() {
    let jira = || to("jira").secret("webhook_secret", "s").secret("basic_user", "u").secret("basic_pass", "p:q");
    let basic = "Basic dTpwOnE=";
    assert_eq!(jira().header("Authorization", basic).proof().scheme(), "basic");
    let forged = jira().header("Authorization", basic).header("X-Hub-Signature", "sha256=00");
    assert_eq!(forged.refusal(), Refusal::Mismatch);
    for wrong in ["Basic dTpw", "Basic dTo=", "Basic !", "Basic dQ==", "basic dTpwOnE="] {
        assert!(matches!(jira().header("Authorization", wrong).verdict(), Verdict::Refused(_)), "{wrong}");
    }
    let query = Attempt { url: "https://h.example/?secret=s", ..jira() };
    assert_eq!(query.proof().scheme(), "query_token");
    let twice = Attempt { url: "https://h.example/?secret=s&secret=s", ..jira() };
    assert_eq!(twice.refusal(), Refusal::NoScheme);
}

#[test]
fn signature_header_of_a_skill_is_one_hmac() {
    let custom = catalog::builtin().unwrap().get("custom").unwrap().clone();
    let overlaid = custom.overlaid(&serde_json::json!({"signature_header": "X-My-Signature"})).unwrap();
    let secrets = SecretSet::new().with("webhook_secret", "It's a Secret to Everybody");
    let judge = |value: &str| {
        let headers: Headers = [("X-My-Signature", value)].into_iter().collect();
        let incoming = Incoming::new("POST", "https://h.example/", headers, "Hello, World!");
        let now = Timestamp::from_second(0).unwrap();
        verify(&overlaid, &incoming, &secrets, &Settings::default(), &FetchedKeys::new(), now)
    };
    assert!(matches!(judge(GITHUB_SIGNATURE), Verdict::Verified(_)));
    assert!(matches!(judge(&GITHUB_SIGNATURE["sha256=".len()..]), Verdict::Verified(_)));
    assert!(matches!(judge("sha1=00"), Verdict::Refused(_)));
    // A bearer token, which the catalogue's definition would take, is no longer enough.
    let headers: Headers = [("Authorization", "Bearer It's a Secret to Everybody")].into_iter().collect();
    let incoming = Incoming::new("POST", "https://h.example/", headers, "Hello, World!");
    let now = Timestamp::from_second(0).unwrap();
    let verdict = verify(&overlaid, &incoming, &secrets, &Settings::default(), &FetchedKeys::new(), now);
    assert_eq!(verdict, Verdict::Refused(Refusal::Missing));
}
