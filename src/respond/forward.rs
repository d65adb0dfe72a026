//! Posts of `forward` commands: to the operator's targets alone, as they stand now, and signed.

use std::collections::BTreeMap;

use crate::error::{Code, Error, Result};
use crate::ledger::rows::OutboxItem;
use crate::model::forward::{Targets, signed_headers};
use crate::model::provider::FilledCall;
use crate::model::secret::SecretValue;

use jiff::Timestamp;

/// Targets with what signs the posts to each, by name.
#[derive(Clone, Debug, Default)]
pub struct Forward {
    pub targets: Targets,
    pub secrets: BTreeMap<String, SecretValue>,
}

impl Forward {
    /// The post, and whether it may go into a private network. A target that the operator has taken away since is
    /// not posted to any more.
    pub fn fill(&self, item: &OutboxItem, now: Timestamp) -> Result<(FilledCall, bool)> {
        let asked = item.call.fill(&BTreeMap::new(), &crate::model::secret::SecretSet::new())?;
        let named = self.targets.names().filter_map(|name| Some((name, self.targets.get(name)?)));
        let Some((name, target)) = named.into_iter().find(|(_, target)| target.url() == asked.url) else {
            return Err(Error::new(Code::ReplyTarget, "the operator does not allow this target any more"));
        };
        let Some(secret) = self.secrets.get(name) else {
            return Err(Error::new(Code::SecretMissing, format!("the target `{name}` has no secret to sign with"))
                .hint(format!("set `secret_env` or `secret_file` of `[forward.{name}]`")));
        };
        let body = item.text.as_bytes().to_vec();
        let headers = signed_headers(secret.expose(), &item.id.to_string(), now, &body)
            .ok_or_else(|| Error::new(Code::SecretMissing, format!("the secret of the target `{name}` is none")))?;
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok();
        let content_type = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        let headers = headers.into_iter().chain([("content-type".to_owned(), content_type.to_owned())]).collect();
        let call = FilledCall { method: asked.method, url: asked.url, headers, body: Some(body) };
        Ok((call, target.private))
    }
}
