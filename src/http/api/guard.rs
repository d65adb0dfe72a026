//! Keeps foreign web pages from speaking to the admin API; who speaks is found out afterwards (`access`).
//!
//! A page in the user's browser can send requests to loopback and private addresses. A name of its own that resolves to
//! one (DNS rebinding) shows in `Host`; a request from a page of another origin shows in `Origin` or `Sec-Fetch-Site`;
//! and what changes something must be of a form that a browser does not send across origins without asking first.

use std::net::IpAddr;

use warp::http::uri::Authority;
use warp::http::{Method, header};

use crate::error::{Code, Error, Result};
use crate::http::exchange::{Head, Peer};

/// The header by which a program shows that it is none of a browser's forms.
const COMMAND_HEADER: &str = "x-skillhook";

/// Under which names the listener is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// It is bound to more than loopback: literal addresses are its names too. (No page can make its own name one.)
    pub addresses: bool,
    /// Names that the operator gave it.
    pub names: Vec<String>,
}

impl Hosts {
    fn know(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        if authority.as_str().contains('@') {
            return false;
        }
        let name = authority.host().trim_start_matches('[').trim_end_matches(']');
        let address = name.parse::<IpAddr>().ok();
        name.eq_ignore_ascii_case("localhost")
            || address.is_some_and(|address| self.addresses || address.to_canonical().is_loopback())
            || self.names.iter().any(|known| known.eq_ignore_ascii_case(name))
    }
}

pub fn check(head: &Head, hosts: &Hosts) -> Result<()> {
    head.check_form()?;
    let host = head.host()?;
    // Whoever can open the socket file is its owner, by whatever name he calls it.
    if head.arrival.peer != Peer::Local && !hosts.know(host) {
        return Err(refuse("the `Host` header names no address of this listener")
            .hint("use a loopback address, or name the host in `server.admin_hosts` of skillhook.toml"));
    }
    check_origin(head, host)?;
    match head.method {
        Method::GET | Method::HEAD | Method::OPTIONS => Ok(()),
        _ => check_command(head),
    }
}

fn check_origin(head: &Head, host: &str) -> Result<()> {
    if head.headers.contains_key(header::ORIGIN) {
        let origin = head.single_header(header::ORIGIN).unwrap_or_default();
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            return Err(refuse("the request comes from a page of another origin"));
        }
    }
    if head.headers.contains_key("sec-fetch-site") {
        let site = head.single_header("sec-fetch-site").unwrap_or_default();
        if !matches!(site, "same-origin" | "none") && !follows_a_link(head) {
            return Err(refuse("the request comes from a page of another origin"));
        }
    }
    Ok(())
}

/// A link from elsewhere may be followed to the dashboard's page, which is the same for everybody and cannot be framed.
fn follows_a_link(head: &Head) -> bool {
    head.method == Method::GET
        && head.path == "/"
        && head.query.is_none()
        && head.single_header("sec-fetch-mode") == Some("navigate")
        && head.single_header("sec-fetch-dest") == Some("document")
}

fn check_command(head: &Head) -> Result<()> {
    let media = head.single_header(header::CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default();
    let is_json = media.trim().eq_ignore_ascii_case("application/json");
    let is_marked = head.single_header(COMMAND_HEADER) == Some("1");
    if head.headers.contains_key(COMMAND_HEADER) && !is_marked {
        return Err(refuse("the `X-Skillhook` header has another value than `1`"));
    }
    // A browser sends this header across origins only after it has asked, and is told no.
    if is_json || is_marked || head.headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    Err(refuse("the request does not show that it comes from a program")
        .hint("send a token, `Content-Type: application/json`, or `X-Skillhook: 1`"))
}

fn refuse(message: &str) -> Error {
    Error::new(Code::Refused, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::exchange::tests::head;

    fn code(method: &str, headers: &[(&str, &str)]) -> Option<Code> {
        let mut head = head(method, "/api/tasks", headers);
        head.arrival.peer = Peer::Address("127.0.0.1:5000".parse().unwrap());
        check(&head, &Hosts::default()).err().map(|error| error.code())
    }

    #[test]
    fn only_the_page_itself_is_reached_by_a_link_from_elsewhere() {
        let link = |path: &str, dest: &str| {
            let fields = [
                ("host", "localhost"),
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", dest),
            ];
            check(&head("GET", path, &fields), &Hosts::default()).is_ok()
        };
        assert!(link("/", "document"));
        assert!(!link("/", "iframe") && !link("/?a", "document") && !link("/api/tasks", "document"));
    }

    #[test]
    fn beyond_loopback_addresses_and_given_names_are_answered() {
        let hosts = Hosts { addresses: true, names: vec!["hooks.internal".to_owned()] };
        for host in ["10.0.0.1:8081", "[2001:db8::1]:8081", "Hooks.Internal", "hooks.internal:443", "localhost"] {
            assert!(hosts.know(host), "{host}");
        }
        for host in ["evil.example", "hooks.internal.evil.example", "10.0.0.1.evil.example", "a@10.0.0.1"] {
            assert!(!hosts.know(host), "{host}");
        }
    }

    #[test]
    fn only_loopback_names_are_answered() {
        for host in ["localhost", "LOCALHOST:8081", "127.0.0.1:8081", "127.8.9.1", "[::1]:8081", "[::ffff:127.0.0.1]"] {
            assert_eq!(code("GET", &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "a@127.0.0.1"] {
            assert_eq!(code("GET", &[("host", host)]), Some(Code::Refused), "{host}");
        }
    }

    #[test]
    fn pages_of_another_origin_are_refused_even_to_read() {
        let with = |name, value| code("GET", &[("host", "localhost:8081"), (name, value)]);
        assert_eq!(with("origin", "http://localhost:8081"), None);
        for origin in ["null", "", "http://evil.example", "http://localhost:9999", "file://localhost:8081"] {
            assert_eq!(with("origin", origin), Some(Code::Refused), "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "same-origin"), None);
        assert_eq!(with("sec-fetch-site", "cross-site"), Some(Code::Refused));
    }

    #[test]
    fn commands_need_what_a_form_cannot_send() {
        let with = |fields: &[(&str, &str)]| code("POST", &[&[("host", "localhost")], fields].concat());
        assert_eq!(with(&[]), Some(Code::Refused));
        assert_eq!(with(&[("x-skillhook", "1")]), None);
        assert_eq!(with(&[("content-type", "application/json; charset=utf-8"), ("content-length", "2")]), None);
        assert_eq!(with(&[("x-skillhook", "1"), ("content-type", "text/markdown"), ("content-length", "2")]), None);
        assert_eq!(with(&[("authorization", "Bearer x"), ("content-type", "multipart/form-data")]), None);
        for form in ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"] {
            assert_eq!(with(&[("content-type", form), ("content-length", "2")]), Some(Code::Refused), "{form}");
        }
        assert_eq!(with(&[("x-skillhook", "0")]), Some(Code::Refused));
    }

    #[test]
    fn through_the_socket_any_host_will_do_but_no_foreign_origin() {
        let check = |fields: &[(&str, &str)]| super::check(&head("GET", "/", fields), &Hosts::default());
        assert!(check(&[("host", "skillhook")]).is_ok());
        assert!(check(&[("host", "skillhook"), ("origin", "http://evil.example")]).is_err());
    }
}
