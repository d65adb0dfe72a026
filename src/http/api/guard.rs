//! Who may speak to the admin API while it has no tokens: programs of this machine, and no web page.
//!
//! A page in the user's browser can send requests to loopback addresses. A name of its own that resolves to 127.0.0.1
//! (DNS rebinding) shows in `Host`; a request from a page of another origin shows in `Origin` or `Sec-Fetch-Site`;
//! and what changes something must be of a form that a browser does not send across origins without asking first.

use std::net::IpAddr;

use warp::http::uri::Authority;
use warp::http::{Method, header};

use crate::error::{Code, Error, Result};
use crate::http::exchange::{Head, Peer};

/// The header that a command without a body must carry.
const COMMAND_HEADER: &str = "x-skillhook";

pub fn check(head: &Head) -> Result<()> {
    head.check_form()?;
    let host = head.host()?;
    // Whoever can open the socket file is its owner, by whatever name he calls it.
    if head.arrival.peer != Peer::Local && !is_loopback(host) {
        return Err(refuse("the `Host` header names no loopback address"));
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
        if !matches!(site, "same-origin" | "none") {
            return Err(refuse("the request comes from a page of another origin"));
        }
    }
    Ok(())
}

fn check_command(head: &Head) -> Result<()> {
    let has_body = head.declared_body_bytes().unwrap_or(0) > 0 || head.headers.contains_key(header::TRANSFER_ENCODING);
    let media = head.single_header(header::CONTENT_TYPE).unwrap_or_default().split(';').next().unwrap_or_default();
    let is_json = media.trim().eq_ignore_ascii_case("application/json");
    let is_marked = !has_body && head.single_header(COMMAND_HEADER) == Some("1");
    if is_json || is_marked {
        return Ok(());
    }
    Err(refuse("the request does not show that it comes from a program")
        .hint("send `Content-Type: application/json`, or no body and `X-Skillhook: 1`"))
}

fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
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
        check(&head).err().map(|error| error.code())
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
        assert_eq!(with(&[("x-skillhook", "1"), ("content-length", "2")]), Some(Code::Refused));
        assert_eq!(with(&[("content-type", "text/plain"), ("content-length", "2")]), Some(Code::Refused));
        assert_eq!(with(&[("x-skillhook", "1"), ("transfer-encoding", "chunked")]), Some(Code::Refused));
    }

    #[test]
    fn through_the_socket_any_host_will_do_but_no_foreign_origin() {
        assert!(check(&head("GET", "/", &[("host", "skillhook")])).is_ok());
        assert!(check(&head("GET", "/", &[("host", "skillhook"), ("origin", "http://evil.example")])).is_err());
    }
}
