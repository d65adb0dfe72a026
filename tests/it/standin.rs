//! A stand-in for any API that answers go to: a real HTTP server on loopback that remembers what arrived.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Arrived {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What is answered: status, headers, body.
pub type Said = (u16, Vec<(&'static str, String)>, Value);

pub struct StandIn {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Arrived>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl StandIn {
    /// Answers as `say` tells, which sees all that came before.
    pub async fn start(say: impl Fn(&Arrived, &[Arrived]) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Arrived>>> = Arc::default();
        let (kept, say) = (Arc::clone(&seen), Arc::new(say));
        let server = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (kept, say) = (Arc::clone(&kept), Arc::clone(&say));
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (kept, say) = (Arc::clone(&kept), Arc::clone(&say));
                    async move {
                        let arrived = arrived(request).await;
                        let (status, headers, body) = {
                            let mut kept = kept.lock().unwrap();
                            let said = say(&arrived, &kept);
                            kept.push(arrived);
                            said
                        };
                        let mut response =
                            Response::builder().status(status).header("content-type", "application/json");
                        for (name, value) in headers {
                            response = response.header(name, value);
                        }
                        response.body(Full::new(Bytes::from(body.to_string())))
                    }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { address, seen, server }
    }

    /// Answers every request with 200 and what most APIs would take for success.
    pub async fn friendly() -> Self {
        Self::start(|_, seen| (200, Vec::new(), json!({ "ok": true, "id": seen.len() }))).await
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Arrived> {
        self.seen.lock().unwrap().clone()
    }
}

async fn arrived(request: Request<hyper::body::Incoming>) -> Arrived {
    let (head, body) = request.into_parts();
    let headers = head.headers.iter();
    Arrived {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: body.collect().await.map(|body| body.to_bytes()).unwrap_or_default(),
    }
}
