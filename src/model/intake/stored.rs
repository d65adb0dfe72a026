//! What of a request may be stored: everything that a replay needs, and nothing that is a credential.

use crate::model::provider::Headers;

/// Parts of names whose values prove something.
const PROVING: [&str; 9] =
    ["signature", "token", "authorization", "secret", "cookie", "hmac", "password", "api-key", "apikey"];

/// Headers without those that prove who sent it; values as Latin-1 text.
pub fn headers(headers: &Headers) -> Vec<(String, String)> {
    let kept = headers.iter().filter(|(name, _)| !proves(name));
    kept.map(|(name, value)| (name.to_owned(), value.iter().copied().map(char::from).collect())).collect()
}

/// The address with the values of such fields of its query taken out.
pub fn url(url: &str) -> String {
    let Some((address, query)) = url.split_once('?') else { return url.to_owned() };
    let fields = query.split('&').map(|field| match field.split_once('=') {
        Some((name, _)) if proves(&name.to_ascii_lowercase()) => format!("{name}=…"),
        Some(_) | None => field.to_owned(),
    });
    format!("{address}?{}", fields.collect::<Vec<_>>().join("&"))
}

fn proves(name: &str) -> bool {
    PROVING.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_the_sender_is_left_out() {
        let given: Headers = [
            ("X-Hub-Signature-256", "sha256=00"),
            ("X-Gitlab-Token", "s"),
            ("Authorization", "Bearer x"),
            ("X-Shopify-Hmac-Sha256", "x"),
            ("X-GitHub-Event", "push"),
        ]
        .into_iter()
        .collect();
        assert_eq!(headers(&given), [("x-github-event".to_owned(), "push".to_owned())]);
        assert_eq!(url("http://a/b?access_token=x&c=d&secret"), "http://a/b?access_token=…&c=d&secret");
        assert_eq!(url("http://a/b"), "http://a/b");
    }
}
