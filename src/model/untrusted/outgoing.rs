//! What an agent wrote, before it is posted where others read it.

use regex::{Regex, RegexBuilder};

use super::JOINER;
use crate::error::{Code, Context as _, Result};
use crate::model::secret::SecretValue;

/// Most command prefixes that are watched for.
const PREFIXES_MAX: usize = 32;
/// Size of the compiled patterns in bytes.
const PATTERN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a secret is called where it stood, and how it looks. Sources: the senders' own documentation of their formats.
const SECRETS: [(&str, &str); 20] = [
    (
        "private key",
        r"(?s:-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z))",
    ),
    ("GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255})"),
    ("GitLab token", r"\bgl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|imt|oas|ffct)-[A-Za-z0-9_.\-]{20,255}"),
    ("Slack token", r"\bx(?:ox[a-z]|app|oxe\.xox[bp])-[A-Za-z0-9\-]{10,255}"),
    ("Slack webhook", r"\bhooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_\-]{10,255}"),
    ("Anthropic key", r"\bsk-ant-[A-Za-z0-9_\-]{16,255}"),
    ("API key", r"\bsk-(?:proj-|svcacct-|or-v1-)?[A-Za-z0-9_\-]{24,255}"),
    ("Stripe key", r"\b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,255}"),
    ("webhook secret", r"\bwhsec_[A-Za-z0-9+/=_\-]{16,255}"),
    ("AWS key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b"),
    ("Google key", r"\bAIza[A-Za-z0-9_\-]{35}"),
    ("Atlassian token", r"\bATATT3[A-Za-z0-9_\-=]{20,512}"),
    ("Sentry token", r"\bsntry[us]_[A-Za-z0-9_\-=+/.]{20,512}"),
    ("npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("PyPI token", r"\bpypi-[A-Za-z0-9_\-]{50,512}"),
    ("crates.io token", r"\bcio[A-Za-z0-9]{32}\b"),
    ("age key", r"(?i:\bAGE-SECRET-KEY-1[0-9A-Z]{20,80})"),
    ("skillhook token", r"\bshk_[A-Za-z0-9_\-]{16,255}"),
    ("JSON web token", r"\beyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"),
    ("password", r"\b[a-z][a-z0-9+.\-]{1,20}://[^\s/:@]{1,100}:[^\s/@]{1,200}@"),
];

/// Knows what may not go out. Built once (it compiles patterns) and used for every answer.
#[derive(Clone, Debug)]
pub struct Outgoing {
    secrets: Regex,
    prefixes: Option<Regex>,
    /// Secrets of this very service, whatever they look like.
    known: Vec<SecretValue>,
}

/// A shorter secret is not looked for: it would be found in every other word.
const KNOWN_BYTES_MIN: usize = 8;

/// What a secret of this service is called where it stood.
const OWN: &str = "secret of this service";

/// The mention that starts runs where nothing else is configured.
const PREFIX: &str = "@agent";

/// One text, made fit to be posted, with the usual prefix broken. Whoever posts many, or knows the prefixes, builds
/// [`Outgoing`] once. Should the patterns not compile, which a test rules out, nothing goes out.
pub fn outgoing(text: &str) -> String {
    Outgoing::new([PREFIX]).map(|outgoing| outgoing.clean(text).text).unwrap_or_default()
}

/// A text that may go out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaned {
    pub text: String,
    /// What was taken out, in the order of the text: `GitHub token`.
    pub redacted: Vec<&'static str>,
}

impl Outgoing {
    /// `prefixes`: the words that start runs, for example `@agent`.
    ///
    /// # Errors
    /// More prefixes, or longer ones, than are watched for.
    pub fn new<'a>(prefixes: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
        let groups = SECRETS.iter().map(|(_, pattern)| format!("({pattern})")).collect::<Vec<_>>().join("|");
        let mut words: Vec<String> = prefixes.into_iter().filter(|word| !word.is_empty()).map(regex::escape).collect();
        if words.len() > PREFIXES_MAX {
            return Err(crate::error::Error::new(
                Code::SettingInvalid,
                format!("there are more than {PREFIXES_MAX} prefixes"),
            ));
        }
        // The longest first: the pattern takes the first that fits.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let pattern = format!("(?i:{})", words.join("|"));
        let prefixes = if words.is_empty() { None } else { Some(compile(&pattern)) };
        Ok(Self {
            secrets: compile(&groups).context(Code::Bug, "the patterns of secrets do not compile")?,
            prefixes: prefixes.transpose().context(Code::SettingInvalid, "the prefixes are too long")?,
            known: Vec::new(),
        })
    }

    /// Also takes out these values.
    #[must_use]
    pub fn knowing(mut self, values: impl IntoIterator<Item = SecretValue>) -> Self {
        self.known.extend(values.into_iter().filter(|value| value.expose().len() >= KNOWN_BYTES_MIN));
        // The longest first: one may be part of another.
        self.known.sort_by_key(|value| std::cmp::Reverse(value.expose().len()));
        self
    }

    /// Without secrets, and without a word that would start a run of ours: its first character is followed by an
    /// invisible one.
    pub fn clean(&self, text: &str) -> Cleaned {
        let mut redacted = Vec::new();
        let mut plain = text.to_owned();
        for value in self.known.iter().filter_map(SecretValue::expose_text) {
            if plain.contains(value) {
                plain = plain.replace(value, &format!("[redacted: {OWN}]"));
                redacted.push(OWN);
            }
        }
        let text = self.secrets.replace_all(&plain, |found: &regex::Captures<'_>| {
            let kind = (0..SECRETS.len()).find(|group| found.get(group + 1).is_some()).unwrap_or_default();
            let (kind, _) = SECRETS[kind];
            redacted.push(kind);
            // A URL keeps its scheme and loses only who logs in with what.
            let scheme = if kind == "password" {
                found[0].split_once("://").map(|(scheme, _)| format!("{scheme}://"))
            } else {
                None
            };
            format!("{}[redacted: {kind}]", scheme.unwrap_or_default())
        });
        let text = match &self.prefixes {
            None => text.into_owned(),
            Some(prefixes) => {
                prefixes.replace_all(&text, |found: &regex::Captures<'_>| break_word(&found[0])).into_owned()
            }
        };
        Cleaned { text, redacted }
    }
}

fn break_word(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().into_iter().chain([JOINER]).chain(chars).collect()
}
