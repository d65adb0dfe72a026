//! Real remotes over the network: git's own daemon, and git's HTTP backend behind basic authentication.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use warp::Filter as _;

use crate::gitops::{Elsewhere, head, reconcile, remote, wait_level, wait_remote_state};
use crate::service::{Service, git, own_webhook, wait_for};

/// `git daemon` over a directory; it ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn edit_there_and_here(service: &Service) {
    service.write_skill("ours", &own_webhook("ours"));
    service.wait_route("/webhooks/github/ours", true).await;
    wait_level(service).await;
    let elsewhere = Elsewhere::of(service);
    elsewhere.webhook("theirs");
    elsewhere.merge("theirs");
    assert_eq!(reconcile(service, &[]).await.0, 0);
    service.wait_route("/webhooks/github/theirs", true).await;
    assert_eq!(head(&service.root()), head(&remote(service)));
}

#[tokio::test]
async fn both_ways_work_with_gits_own_daemon() {
    let mut service = Service::prepared(json!({})).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let daemon = Command::new("git")
        .args(["daemon", "--reuseaddr", "--listen=127.0.0.1", "--export-all", "--enable=receive-pack"])
        .arg(format!("--port={port}"))
        .arg(format!("--base-path={}", service.dir.path().display()))
        .arg(service.dir.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let _daemon = Daemon(daemon);
    let url = format!("git://127.0.0.1:{port}/remote.git");
    wait_for("the daemon", || async {
        Command::new("git").args(["ls-remote", &url]).output().unwrap().status.success()
    })
    .await;
    git(&service.root(), &["remote", "set-url", "origin", &url]);
    service.start();
    service.wait_ready().await;
    edit_there_and_here(&service).await;
}

#[tokio::test]
async fn both_ways_work_over_http_with_a_password_that_is_never_shown() {
    let mut service = Service::prepared(json!({})).await;
    let port = serve_git(service.dir.path().to_owned(), "bot:right-and-secret").await;
    let url = |password: &str| format!("http://bot:{password}@127.0.0.1:{port}/remote.git");
    git(&service.root(), &["remote", "set-url", "origin", &url("wrong-but-secret")]);
    service.start();
    service.wait_ready().await;
    wait_remote_state(&service, "the refusal", |git| git["remote"]["trouble"].is_string()).await;
    let status = service.api("/api/status").await.to_string();
    assert!(!status.contains("wrong-but-secret"), "{status}");
    git(&service.root(), &["remote", "set-url", "origin", &url("right-and-secret")]);
    edit_there_and_here(&service).await;
    let log = std::fs::read_to_string(service.dir.path().join("service.log")).unwrap();
    assert!(!log.contains("and-secret") && !log.contains("but-secret"), "{log}");
}

/// git's HTTP backend (a CGI program) behind basic authentication by `user:password`; answers the port.
pub async fn serve_git(root: PathBuf, credentials: &'static str) -> u16 {
    let root: Arc<Path> = root.into();
    let filter = warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::body::bytes())
        .then(move |method: warp::http::Method, path: warp::path::FullPath, query: String, headers, body| {
            let root = Arc::clone(&root);
            async move { backend((&root, credentials), method.as_str(), path.as_str(), &query, &headers, body).await }
        });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(warp::serve(filter).incoming(listener).run());
    port
}

async fn backend(
    (root, credentials): (&Path, &str),
    method: &str,
    path: &str,
    query: &str,
    headers: &warp::http::HeaderMap,
    body: bytes::Bytes,
) -> warp::http::Response<Vec<u8>> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    use base64::Engine as _;
    let expected = base64::engine::general_purpose::STANDARD.encode(credentials);
    if header("authorization") != format!("Basic {expected}") {
        let refusal = warp::http::Response::builder().status(401).header("www-authenticate", "Basic realm=\"git\"");
        return refusal.body(Vec::new()).unwrap();
    }
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "bot")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&body).await.unwrap();
    let output = child.wait_with_output().await.unwrap().stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let mut response = warp::http::Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value[..3].parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    response.body(output[end + 4..].to_vec()).unwrap()
}
