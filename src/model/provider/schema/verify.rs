//! What a definition says about verification.

use serde::Deserialize;

use crate::model::provider::condition::Condition;
use crate::model::provider::digests::HashName;
use crate::model::provider::json_template::JsonTemplate;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::selector::Selector;
use crate::model::provider::template::Template;

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    pub policy: Policy,
    pub reject: Option<Reject>,
    pub schemes: Vec<Scheme>,
}

/// How several schemes of one definition go together. A scheme counts only while its secrets are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The first one that applies to the request decides, whatever the others would say.
    FirstApplicable,
    /// Every configured one must agree.
    AllConfigured,
    /// One is enough.
    AnyConfigured,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    pub status: Option<u16>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Scheme {
    Hmac(Hashed),
    /// A plain hash over text that contains the key.
    Digest(Hashed),
    Ed25519(Signed),
    Token(TokenScheme),
    Basic(BasicScheme),
    Jwt(JwtScheme),
}

impl Scheme {
    pub fn id(&self) -> &str {
        match self {
            Scheme::Hmac(it) | Scheme::Digest(it) => &it.id,
            Scheme::Ed25519(it) => &it.id,
            Scheme::Token(it) => &it.id,
            Scheme::Basic(it) => &it.id,
            Scheme::Jwt(it) => &it.id,
        }
    }

    pub fn when(&self) -> &[Condition] {
        match self {
            Scheme::Hmac(it) | Scheme::Digest(it) => &it.when,
            Scheme::Ed25519(it) => &it.when,
            Scheme::Token(it) => &it.when,
            Scheme::Basic(it) => &it.when,
            Scheme::Jwt(it) => &it.when,
        }
    }

    /// The slots that must hold something for the scheme to count.
    pub fn slots(&self) -> Vec<&str> {
        match self {
            Scheme::Hmac(it) | Scheme::Digest(it) => vec![&it.key.secret],
            Scheme::Ed25519(it) => vec![&it.key.secret],
            Scheme::Token(it) => vec![&it.key.secret],
            Scheme::Basic(it) => vec![&it.user, &it.pass],
            Scheme::Jwt(it) => match &it.key {
                JwtKey::Secret(key) => vec![&key.secret],
                JwtKey::Fetched(key) => {
                    let holes = key.fetch.json.iter().flat_map(JsonTemplate::holes);
                    holes.flat_map(|hole| hole.secret_slots().collect::<Vec<_>>()).collect()
                }
            },
        }
    }
}

/// A scheme whose signature is a hash.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hashed {
    pub id: String,
    #[serde(default)]
    pub when: Vec<Condition>,
    pub hash: HashName,
    pub key: Key,
    pub signature: SignatureField,
    pub timestamp: Option<TimestampField>,
    pub signed: Template,
    #[serde(default)]
    pub url_variants: Vec<UrlVariant>,
    pub body_digest: Option<BodyDigest>,
    pub nonce: Option<Selector>,
    /// Says so where the template alone would not.
    pub covers_body: Option<bool>,
}

/// A scheme whose signature is made with a private key.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    pub id: String,
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Our key is the public half.
    pub key: Key,
    pub signature: SignatureField,
    pub timestamp: Option<TimestampField>,
    pub signed: Template,
    #[serde(default)]
    pub url_variants: Vec<UrlVariant>,
    pub body_digest: Option<BodyDigest>,
    pub nonce: Option<Selector>,
    pub covers_body: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub secret: String,
    /// Cut off when it is there.
    pub strip_prefix: Option<String>,
    #[serde(default)]
    pub decode: KeyDecode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyDecode {
    #[default]
    Utf8,
    Hex,
    Base64,
}

/// Where a signature stands and how it is written.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignatureField {
    pub from: Selector,
    pub prefix: Option<String>,
    /// The prefix may be missing.
    #[serde(default)]
    pub prefix_optional: bool,
    /// The field is a list of signatures.
    pub list_sep: Option<String>,
    /// Elements of the list are names and values.
    pub kv_sep: Option<String>,
    /// Only elements of this name count.
    pub key: Option<String>,
    #[serde(default)]
    pub trim: bool,
    pub encoding: Encoding,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    #[default]
    Hex,
    Base64,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimestampField {
    /// The first of these that is there counts.
    pub from: OneOrMore,
    pub unit: TimeUnit,
    /// Oldest age in seconds, still accepted at exactly that age.
    pub past: i64,
    /// Furthest future in seconds; no limit when absent.
    pub future: Option<i64>,
    #[serde(default)]
    pub optional: bool,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum OneOrMore {
    One(Selector),
    More(Vec<Selector>),
}

impl OneOrMore {
    pub fn as_slice(&self) -> &[Selector] {
        match self {
            OneOrMore::One(selector) => std::slice::from_ref(selector),
            OneOrMore::More(selectors) => selectors,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
}

/// A spelling of the address that the sender may have signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UrlVariant {
    AsIs,
    AddPort,
    RemovePort,
}

/// A hash of the body that stands in what is signed.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyDigest {
    pub from: Selector,
    pub hash: HashName,
    #[serde(default)]
    pub encoding: Encoding,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenScheme {
    pub id: String,
    #[serde(default)]
    pub when: Vec<Condition>,
    pub key: Key,
    pub token: TokenField,
}

/// Where a token stands.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenField {
    pub from: Selector,
    /// Must be there.
    pub strip_prefix: Option<String>,
}

/// Basic authentication (RFC 7617).
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicScheme {
    pub id: String,
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Slots.
    pub user: String,
    pub pass: String,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwtScheme {
    pub id: String,
    #[serde(default)]
    pub when: Vec<Condition>,
    pub token: TokenField,
    /// Exactly one: a token does not choose how it is checked.
    pub algs: OneAlgorithm,
    pub key: JwtKey,
    pub claims: Claims,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<Algorithm>")]
pub struct OneAlgorithm(pub Algorithm);

impl TryFrom<Vec<Algorithm>> for OneAlgorithm {
    type Error = String;
    fn try_from(algorithms: Vec<Algorithm>) -> Result<Self, String> {
        match algorithms.as_slice() {
            [one] => Ok(Self(*one)),
            _ => Err("`algs` must name exactly one algorithm".to_owned()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
pub enum Algorithm {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum JwtKey {
    Secret(Key),
    Fetched(FetchedKey),
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchedKey {
    pub fetch: Fetch,
}

/// How the sender's public key is got.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    pub method: super::Method,
    pub url: Template,
    pub json: Option<JsonTemplate>,
    /// The key within the answer.
    pub take: Option<Pointer>,
    pub format: KeyFormat,
    pub cache_by: Option<Template>,
    /// The key is no good when something stands here.
    pub reject_if: Option<Pointer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyFormat {
    Pem,
    Jwk,
}

/// What the claims of a token must say.
#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    pub exp: Option<Expiry>,
    pub iat: Option<IssuedAt>,
    pub aud: Option<Expected>,
    pub iss: Option<Expected>,
    pub qsh: Option<QueryHash>,
    pub body_hash: Option<BodyHash>,
}

#[derive(Clone, Debug, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expiry {
    /// In seconds.
    pub leeway: i64,
    pub optional: bool,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssuedAt {
    /// In seconds.
    pub max_age: i64,
}

/// Must equal a setting.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    pub cfg: String,
    /// Counts only where the setting is there.
    #[serde(default)]
    pub optional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueryHash {
    /// <https://developer.atlassian.com/cloud/jira/platform/understanding-jwt-for-connect-apps/>
    Atlassian,
}

#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyHash {
    pub claim: String,
    pub hash: HashName,
    #[serde(default)]
    pub encoding: Encoding,
}
