//! Requests over a real connection.

mod pages;

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{oneshot, watch},
};

use super::*;
use crate::{
    emit::{Tail, tests::samples},
    fact::{IncidentId, ServiceState, Verdict},
};

/// A critical service in this state.
pub(super) fn service(name: &str, state: ServiceState) -> ServiceView {
    ServiceView {
        name: name.to_owned(),
        unit: None,
        critical: true,
        state,
        main_pid: None,
        response_time: None,
        error: None,
        verdict: None,
        incident: None,
        summary: None,
        since: None,
        depends_on: Vec::new(),
        held: Vec::new(),
        stale_since: None,
        orders: Vec::new(),
        maintenance: None,
    }
}

struct Served {
    address: SocketAddr,
    view: watch::Sender<Arc<View>>,
    shutdown: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<io::Result<()>>,
}

impl Served {
    async fn start(view: View) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (view, shown) = watch::channel(Arc::new(view));
        let metrics = Arc::new(Metrics::new(samples::names()));
        let (shutdown, over) = oneshot::channel();
        let shown = Shown {
            origin: Arc::new(samples::origin()),
            view: shown,
            metrics,
            history: Arc::default(),
            tail: Tail::default(),
            heartbeats: Default::default(),
            past: Past::default(),
            hosts: Default::default(),
        };
        let server = tokio::spawn(serve(listener, Access::default(), shown, async {
            over.await.unwrap();
        }));
        Self { address, view, shutdown, server }
    }

    /// The whole answer to a request for `path` under the name `host`: its head and its body.
    async fn ask(&self, path: &str, host: &str) -> (String, String) {
        let mut stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    async fn json(&self, path: &str) -> (String, Value) {
        let (head, body) = self.ask(path, "localhost").await;
        let code = head.split(' ').nth(1).unwrap();
        (code.to_owned(), serde_json::from_str(&body).unwrap())
    }
}

#[tokio::test]
async fn health_has_the_documented_shape() {
    let api = ServiceView {
        response_time: Some(Duration::from_micros(1500)),
        ..service("api", ServiceState::Healthy)
    };
    let cache = ServiceView {
        critical: false,
        error: Some("nothing listens on 127.0.0.1:6379".to_owned()),
        verdict: Some(Verdict::OomKilled),
        ..service("cache", ServiceState::Down)
    };
    let served = Served::start(View { ready: true, services: vec![api, cache], ..View::default() }).await;
    let (code, mut health) = served.json("/health").await;
    assert_eq!(code, "200");
    let timestamp = health.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(timestamp.as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let expected = serde_json::json!({
        "status": "degraded",
        "checks": {
            "api": { "status": "healthy", "response_time_ms": 1.5 },
            "cache": {
                "status": "unhealthy",
                "response_time_ms": null,
                "error": "nothing listens on 127.0.0.1:6379",
                "verdict": "oom_killed",
            },
        },
    });
    assert_eq!(health, expected);

    let down = View { ready: true, services: vec![service("api", ServiceState::Down)], ..View::default() };
    served.view.send(Arc::new(down)).unwrap();
    let (code, health) = served.json("/health").await;
    assert_eq!((code.as_str(), &health["status"]), ("503", &"unhealthy".into()));
    assert!(served.ask("/livez", "localhost").await.0.starts_with("HTTP/1.1 200"), "the daemon lives");
    assert!(served.ask("/readyz", "localhost").await.0.starts_with("HTTP/1.1 200"), "and watches");
}

#[tokio::test]
async fn the_daemon_is_ready_after_agent_ready() {
    let served = Served::start(View::default()).await;
    assert!(served.ask("/livez", "localhost").await.0.starts_with("HTTP/1.1 200"));
    assert!(served.ask("/readyz", "localhost").await.0.starts_with("HTTP/1.1 503"));
    served.view.send(Arc::new(View { ready: true, ..View::default() })).unwrap();
    assert!(served.ask("/readyz", "localhost").await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn metrics_and_status_are_served() {
    let api = ServiceView { incident: Some(IncidentId::new(3)), ..service("api", ServiceState::Down) };
    let served = Served::start(View { ready: true, services: vec![api], ..View::default() }).await;
    let (head, body) = served.ask("/metrics", "localhost").await;
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("hostprobe_build_info") && !body.contains("# EOF"), "{body}");
    let prometheus = "localhost\r\nAccept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let (head, body) = served.ask("/metrics", prometheus).await;
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.contains("hostprobe_build_info") && body.ends_with("# EOF\n"), "{body}");
    let (_, status) = served.json("/api/v1/status").await;
    assert_eq!(status["services"][0]["state"], "down");
    assert_eq!(status["services"][0]["incident"], "c0ffee00-i3");
    assert_eq!(status["counters"]["incidents_open"], 1);
    assert_eq!(served.json("/api/v1/incidents").await.1, serde_json::json!([]));
    let status: status::Status = serde_json::from_value(status).unwrap();
    assert!(status.ready);
}

#[tokio::test]
async fn a_name_of_another_host_is_refused() {
    let served = Served::start(View::default()).await;
    let (head, _) = served.ask("/health", "evil.example").await;
    assert!(head.starts_with("HTTP/1.1 421"), "{head}");
}

#[tokio::test]
async fn nothing_can_be_changed_over_http() {
    let served = Served::start(View::default()).await;
    let mut stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let request =
        b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_an_idle_client() {
    let served = Served::start(View::default()).await;
    let idle = tokio::net::TcpStream::connect(served.address).await.unwrap();
    served.shutdown.send(()).unwrap();
    served.server.await.unwrap().unwrap();
    drop(idle);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("http.listen"), "{error}");
}

#[tokio::test]
async fn a_client_that_asks_is_answered_however_many_send_half_a_request() {
    let served = Served::start(View::default()).await;
    let mut idle = Vec::new();
    for _ in 0..10 * connections::CONNECTIONS_MAX {
        let mut stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
        // It may have been closed for the next one already.
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: loc").await;
        idle.push(stream);
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        assert_eq!(served.ask("/livez", "localhost").await.1, "ok\n");
    }
    let mut open = 0;
    for stream in &mut idle {
        let read = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0; 64])).await;
        open += usize::from(read.is_err());
    }
    assert!(open <= connections::CONNECTIONS_MAX, "{open} connections are open");
}

#[tokio::test]
async fn a_request_with_an_endless_head_is_refused() {
    let served = Served::start(View::default()).await;
    let mut stream = tokio::net::TcpStream::connect(served.address).await.unwrap();
    let mut sent = 0;
    stream.write_all(b"GET /health HTTP/1.1\r\nX: ").await.unwrap();
    while sent < 1 << 20 {
        match stream.write(&[b'x'; 4096]).await {
            Ok(written) => sent += written,
            Err(_) => break,
        }
    }
    let mut answer = Vec::new();
    // A reset is an answer too: the server does not read the rest.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
}
