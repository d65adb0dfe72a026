//! The dashboard's files: static, the same for everybody, without a token; what they show comes through the API.
//!
//! They are built from `src/dashboard/source` and committed. Each name but the page's carries a hash of its content,
//! so that browsers keep it for ever. The page may load from this server alone, runs no inline script, writes no markup
//! from text (Trusted Types), and cannot be framed.

use warp::http::{HeaderMap, Method, StatusCode, header};

use super::answer::Answer;
use super::exchange::Head;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
    trusted-types 'none'";
const PAGE: &str = "index.html";
const BELOW: &str = "/assets/";

#[derive(rust_embed::Embed)]
#[folder = "src/dashboard/assets/"]
struct Assets;

/// `None` when the address is not the dashboard's.
pub fn answer(head: &Head) -> Option<Answer> {
    let name = match head.path.as_str() {
        "/" => PAGE,
        path => path.strip_prefix(BELOW).filter(|name| *name != PAGE && !name.ends_with(".gz"))?,
    };
    let plain = Assets::get(name)?;
    if !matches!(head.method, Method::GET | Method::HEAD) {
        return Some(Answer::method_not_allowed("GET, HEAD"));
    }
    let packed = Assets::get(&format!("{name}.gz")).filter(|_| takes_gzip(&head.headers));
    let encoding = packed.is_some().then_some("gzip");
    let file = packed.unwrap_or(plain);
    let tag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..16]));
    let answer = if knows(&head.headers, &tag) {
        Answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        Answer::of_type(StatusCode::OK, media_type(name), file.data.into_owned())
    };
    let answer = match encoding {
        Some(encoding) => answer.header(header::CONTENT_ENCODING, encoding),
        None => answer,
    };
    let caching = if name == PAGE { "no-cache" } else { "public, max-age=31536000, immutable" };
    Some(
        answer
            .header(header::ETAG, &tag)
            .header(header::VARY, "accept-encoding")
            .header(header::CACHE_CONTROL, caching)
            .header(header::CONTENT_SECURITY_POLICY, POLICY)
            .header(header::X_FRAME_OPTIONS, "DENY")
            .header(header::REFERRER_POLICY, "no-referrer")
            .header(header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin")
            .header(header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    )
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let is_refused = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::exchange::tests::head;

    fn get(path: &str, headers: &[(&str, &str)]) -> Option<Answer> {
        answer(&head("GET", path, headers))
    }

    fn script() -> String {
        let name = Assets::iter().find(|name| name.starts_with("main-") && name.ends_with(".js"));
        format!("{BELOW}{}", name.unwrap())
    }

    #[test]
    fn the_page_is_asked_for_anew_and_what_it_loads_is_kept_for_ever() {
        let page = get("/", &[]).unwrap();
        assert_eq!(page.header_value(&header::CACHE_CONTROL), Some("no-cache"));
        assert_eq!(page.header_value(&header::CONTENT_TYPE), Some("text/html; charset=utf-8"));
        let text = String::from_utf8(page.body().to_vec()).unwrap();
        assert!(text.contains(&script()), "{text}");
        let asset = get(&script(), &[]).unwrap();
        assert!(asset.header_value(&header::CACHE_CONTROL).unwrap().contains("immutable"));
    }

    #[test]
    fn nothing_inline_can_run_and_nothing_foreign_load() {
        let page = get("/", &[]).unwrap();
        let policy = page.header_value(&header::CONTENT_SECURITY_POLICY).unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        let text = String::from_utf8(page.body().to_vec()).unwrap();
        assert!(!text.contains("<style") && !text.contains("://") && !text.contains("onload"), "{text}");
    }

    #[test]
    fn packed_files_go_to_those_who_take_them() {
        let packed = get(&script(), &[("accept-encoding", "br, gzip;q=0.8")]).unwrap();
        assert_eq!(packed.header_value(&header::CONTENT_ENCODING), Some("gzip"));
        assert_eq!(packed.body()[..2], [0x1f, 0x8b]);
        for refused in ["br", "gzip;q=0", ""] {
            let plain = get(&script(), &[("accept-encoding", refused)]).unwrap();
            assert_eq!(plain.header_value(&header::CONTENT_ENCODING), None, "{refused}");
        }
    }

    #[test]
    fn whoever_has_it_is_not_sent_it_again() {
        let tag = get("/", &[]).unwrap().header_value(&header::ETAG).unwrap().to_owned();
        let again = get("/", &[("if-none-match", &format!("\"other\", W/{tag}"))]).unwrap();
        assert_eq!((again.status(), again.body().len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(get("/", &[("if-none-match", "\"other\"")]).unwrap().status(), StatusCode::OK);
    }

    #[test]
    fn only_its_own_addresses_are_its_own() {
        for path in ["/index.html", "/assets/", "/assets/index.html", "/assets/../Cargo.toml", "/api", "/assets/x.js"] {
            assert!(get(path, &[]).is_none(), "{path}");
        }
        assert_eq!(answer(&head("POST", "/", &[])).unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn everything_together_is_light() {
        let packed = Assets::iter().filter(|name| name.ends_with(".gz"));
        let bytes: usize = packed.filter_map(|name| Some(Assets::get(&name)?.data.len())).sum();
        assert!(bytes > 10_000 && bytes < 400 * 1024, "{bytes} bytes");
    }
}
