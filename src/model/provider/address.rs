//! Addresses of calls: what may stand in them, and where they may lead.

use core::net::IpAddr;

use url::{Host, Url};

use super::prepared::Place;
use crate::error::{Code, Error, Result};

/// Escapes a value for its place in an address; nothing when it would change where the path leads.
pub fn escape(value: &str, place: Place) -> Option<String> {
    let kept: &[u8] = match place {
        Place::Plain => return Some(value.to_owned()),
        Place::Path => b"-._~/:@!$'()*,;=+",
        Place::Segment | Place::Query => b"-._~",
    };
    if matches!(place, Place::Path | Place::Segment)
        && value.split('/').any(|step| step.is_empty() || step == "." || step == "..")
    {
        return None;
    }
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(escaped)
}

/// Refuses what is no plain web address, and where `allow_hosts` is not empty every host that is not on it. An
/// address that the payload chose must be encrypted, except to this machine itself.
pub fn check(address: &str, allow_hosts: &[String]) -> Result<()> {
    let refuse = |message: String| Err(Error::new(Code::ReplyTarget, message));
    let Ok(url) = Url::parse(address) else { return refuse("the address of the call cannot be read".to_owned()) };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the address of the call holds credentials".to_owned());
    }
    let (Some(host), true) = (url.host(), matches!(url.scheme(), "https" | "http")) else {
        return refuse("the address of the call is no web address".to_owned());
    };
    if allow_hosts.is_empty() {
        return Ok(());
    }
    let name = host.to_string();
    if !allow_hosts.iter().any(|allowed| allows(allowed, &name, url.port_or_known_default())) {
        return Err(Error::new(Code::ReplyTarget, format!("the host `{name}` is not allowed for replies"))
            .hint("the operator lists hosts in the provider's settings, for example `reply_hosts`"));
    }
    if url.scheme() == "http" && !is_loopback(&host) {
        return refuse(format!("replies to `{name}` must go by https"));
    }
    Ok(())
}

/// Refuses an address to which a secret would go in the clear, except on this machine itself.
///
/// # Errors
/// SH0803 when it is not encrypted.
pub fn must_be_encrypted(address: &str) -> Result<()> {
    let url = Url::parse(address).ok();
    let fine = url.as_ref().is_some_and(|url| url.scheme() == "https" || url.host().is_some_and(|it| is_loopback(&it)));
    if fine {
        return Ok(());
    }
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    Err(Error::new(Code::ReplyTarget, format!("what gets a token from `{host}` must go by https")))
}

/// `a.example` is that host on the usual port, `a.example:8443` on that one, `*.example` every host below.
fn allows(allowed: &str, host: &str, port: Option<u16>) -> bool {
    let (name, wanted) = match allowed.rsplit_once(':') {
        Some((name, port)) if !name.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (name, port.parse().ok()),
        _ => (allowed, None),
    };
    let host = host.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    let named = match name.strip_prefix("*.") {
        Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        None => host == name,
    };
    let usual = |port: Option<u16>| matches!(port, Some(443)) || name == "localhost" || name.parse::<IpAddr>().is_ok();
    named && wanted.map_or_else(|| usual(port), |wanted: u16| port == Some(wanted))
}

/// Whether an address names its host by number, or is this machine's own name.
pub fn is_numbered_or_local(address: &str) -> bool {
    let url = Url::parse(address).ok();
    match url.as_ref().and_then(Url::host) {
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_leave_their_place() {
        assert_eq!(escape("octo/repo", Place::Path).as_deref(), Some("octo/repo"));
        assert_eq!(escape("a?b#c d%", Place::Path).as_deref(), Some("a%3Fb%23c%20d%25"));
        assert_eq!(escape("a/b&c=d:e", Place::Query).as_deref(), Some("a%2Fb%26c%3Dd%3Ae"));
        for bad in ["..", "a/../b", "/a", "a//b", "a/", ".", ""] {
            assert_eq!(escape(bad, Place::Path), None, "{bad}");
        }
    }

    #[test]
    fn hosts_are_allowed_exactly() {
        let allowed = |url: &str, hosts: &[&str]| {
            check(url, &hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()).is_ok()
        };
        assert!(allowed("https://hooks.slack.com/x", &["hooks.slack.com"]));
        assert!(allowed("https://HOOKS.slack.com/x", &["hooks.slack.com"]));
        assert!(allowed("https://a.visualstudio.com/", &["dev.azure.com", "*.visualstudio.com"]));
        assert!(allowed("http://127.0.0.1:9000/x", &["127.0.0.1"]));
        assert!(allowed("http://127.0.0.1:9000/x", &["127.0.0.1:9000"]));
        for (url, host) in [
            ("https://hooks.slack.com.evil.example/x", "hooks.slack.com"),
            ("https://evil.example/hooks.slack.com", "hooks.slack.com"),
            ("https://hooks.slack.com@evil.example/", "hooks.slack.com"),
            ("https://user@hooks.slack.com/", "hooks.slack.com"),
            ("http://hooks.slack.com/x", "hooks.slack.com"),
            ("file:///etc/passwd", "hooks.slack.com"),
            ("https://visualstudio.com/", "*.visualstudio.com"),
            ("https://evilvisualstudio.com/", "*.visualstudio.com"),
            ("http://127.0.0.1:9001/x", "127.0.0.1:9000"),
            ("http://169.254.169.254/", "127.0.0.1"),
        ] {
            assert!(!allowed(url, &[host]), "{url}");
        }
    }
}
