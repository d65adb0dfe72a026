//! What a definition says about tokens that are got rather than held: short-lived ones, for a key or for a secret that
//! the operator keeps.

use serde::Deserialize;

use super::calls::Call;
use crate::model::provider::pointer::Pointer;
use crate::model::provider::template::Template;

/// A way to get the token that calls are made with. It is in force where the operator has set everything that it needs;
/// then the token takes the place of one that is set by hand.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Credential {
    /// An app signs who it is (RS256) and is given a token for one of its installations
    /// (<https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app>).
    GithubAppInstallation {
        /// The slot that the token fills.
        fills: String,
        /// The slot of the app's private key: RSA in PEM, of PKCS#1 or PKCS#8.
        private_key: String,
        /// Who the app is.
        issuer: Template,
        /// Which of its installations; when that is empty, `locate` finds the only one.
        installation: Template,
        locate: Option<Box<Locate>>,
        /// Gets the token; `{ctx:assertion}` is what the app signed.
        token: Box<Call>,
        /// The token in the answer.
        take: Pointer,
        /// When it ends, in the answer: a time (RFC 3339), or seconds from now.
        expires: Option<Pointer>,
    },
    /// A client with a secret is given a token (RFC 6749, section 4.4).
    OauthClientCredentials { fills: String, token: Box<Call>, take: Pointer, expires: Option<Pointer> },
}

/// Finds the installation of an app that has one.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Locate {
    /// Answers a list.
    pub call: Call,
    /// The id within an element.
    pub id: Pointer,
}

impl Credential {
    /// Its name among the primitives.
    pub fn kind(&self) -> &'static str {
        match self {
            Credential::GithubAppInstallation { .. } => "github_app_installation",
            Credential::OauthClientCredentials { .. } => "oauth_client_credentials",
        }
    }

    /// The slot that its token fills.
    pub fn fills(&self) -> &str {
        match self {
            Credential::GithubAppInstallation { fills, .. } | Credential::OauthClientCredentials { fills, .. } => fills,
        }
    }

    /// Its calls, with what each is for.
    pub fn calls(&self) -> Vec<(&'static str, &Call)> {
        match self {
            Credential::GithubAppInstallation { token, locate, .. } => {
                let locate = locate.iter().map(|locate| ("locate.call", &locate.call));
                std::iter::once(("token", token.as_ref())).chain(locate).collect()
            }
            Credential::OauthClientCredentials { token, .. } => vec![("token", token.as_ref())],
        }
    }
}
