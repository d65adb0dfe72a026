//! The OpenAPI document as one page for people: no script, nothing from elsewhere.

use std::fmt::Write as _;

use serde_json::Value;
use warp::http::{StatusCode, header};

use super::openapi;
use crate::http::answer::Answer;

const STYLE: &str = "\
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}body{max-width:60rem;margin:0 auto;padding:1rem}\
h2{border-bottom:1px solid #8888;padding-bottom:.25rem;margin-top:2rem}code,pre{font:14px/1.45 ui-monospace,monospace}\
pre{overflow:auto;padding:.75rem;border:1px solid #8886;border-radius:6px}summary{cursor:pointer}\
.method{display:inline-block;min-width:4.5rem;font-weight:700}.scope{float:right;opacity:.75}\
table{border-collapse:collapse}td{padding:.15rem 1rem .15rem 0;vertical-align:top}";

/// The page.
pub fn page() -> Answer {
    let answer = Answer::of_type(StatusCode::OK, "text/html; charset=utf-8", html(&openapi::document()));
    answer.header(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    )
}

fn html(document: &Value) -> String {
    let said = |value: &Value| escaped(value.as_str().unwrap_or_default());
    let info = &document["info"];
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1><p>{about}</p>\
         <p>The same as a document for programs: <a href=\"/api/openapi.json\">/api/openapi.json</a>.</p>",
        title = said(&info["title"]),
        about = said(&info["description"]),
    );
    for (path, methods) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            let scope = operation["x-scope"].as_str().unwrap_or("open");
            let _ = write!(
                out,
                "<h2 id=\"{id}\"><span class=\"method\">{method}</span> <code>{path}</code> \
                 <span class=\"scope\">{scope}</span></h2><p>{summary}</p>",
                id = said(&operation["operationId"]),
                method = escaped(&method.to_uppercase()),
                path = escaped(path),
                summary = said(&operation["summary"]),
            );
            parameters(&mut out, &operation["parameters"]);
            schema(&mut out, "Body", &operation["requestBody"]["content"]["application/json"]["schema"]);
        }
    }
    out.push_str("<h1>Forms</h1>");
    for (name, form) in document["components"]["schemas"].as_object().into_iter().flatten() {
        schema(&mut out, name, form);
    }
    out
}

fn parameters(out: &mut String, parameters: &Value) {
    let parameters = parameters.as_array().map(Vec::as_slice).unwrap_or_default();
    if parameters.is_empty() {
        return;
    }
    out.push_str("<table>");
    for parameter in parameters {
        let text = |key: &str| escaped(parameter[key].as_str().unwrap_or_default());
        let _ = write!(
            out,
            "<tr><td><code>{}</code><td>{}<td>{}<td>{}",
            text("name"),
            text("in"),
            escaped(parameter["schema"]["type"].as_str().unwrap_or_default()),
            text("description"),
        );
    }
    out.push_str("</table>");
}

fn schema(out: &mut String, name: &str, schema: &Value) {
    if schema.is_null() {
        return;
    }
    let text = serde_json::to_string_pretty(schema).unwrap_or_default();
    let _ = write!(out, "<details><summary>{}</summary><pre>{}</pre></details>", escaped(name), escaped(&text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_on_the_page_and_nothing_comes_from_elsewhere() {
        let page = html(&openapi::document());
        for route in crate::http::api::table::ROUTES {
            assert!(page.contains(&format!("<code>{}</code>", escaped(route.path))), "{}", route.path);
        }
        for foreign in ["<script", "http://", "https://", "src=", "@import"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }
}
