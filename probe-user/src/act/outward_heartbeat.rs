//! Tells a dead man's switch elsewhere that this daemon lives. That one notices the silence of a daemon, or of a whole host.
//!
//! The daemon's loop itself asks for each request, so a loop that is stuck sends none.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, Method, Url};
use tokio::time::Instant;

use super::alert::{
    client,
    format::{Answer, Request},
    request,
};
use crate::{config, redact::redact};

/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What came of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatCounts {
    pub sent: u64,
    pub failed: u64,
    /// When the latest was answered with success.
    pub last_success: Option<jiff::Timestamp>,
}

/// The requests to one address.
#[derive(Debug, Default)]
pub struct OutwardHeartbeat {
    target: Option<Target>,
    /// What came of all requests since the daemon's start.
    counts: Arc<Mutex<HeartbeatCounts>>,
}

#[derive(Debug)]
struct Target {
    config: config::OutwardHeartbeat,
    url: Url,
    client: Client,
    due: Instant,
    is_under_way: Arc<AtomicBool>,
    is_failing: Arc<AtomicBool>,
}

impl OutwardHeartbeat {
    /// Asks this address from now on; None: none. The error says why that cannot be.
    pub fn configure(&mut self, config: Option<&config::OutwardHeartbeat>) -> Result<(), String> {
        let Some(config) = config else {
            self.target = None;
            return Ok(());
        };
        if self.target.as_ref().is_some_and(|target| target.config == *config) {
            return Ok(());
        }
        let url = Url::parse(config.url.expose()).map_err(|error| format!("heartbeat.url: {error}"))?;
        let client = client(&url, TIMEOUT)
            .map_err(|error| format!("heartbeat.url: no client: {}", error.without_url()))?;
        let (due, config) = (Instant::now(), config.clone());
        let (is_under_way, is_failing) = Default::default();
        self.target = Some(Target { config, url, client, due, is_under_way, is_failing });
        Ok(())
    }

    /// Sends the next request if it is due. Never waits. The daemon's loop calls it each second.
    pub fn beat(&mut self) {
        let now = Instant::now();
        let Some(target) = self.target.as_mut().filter(|target| target.due <= now) else { return };
        if target.is_under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        // Not at once for each that a suspended host has missed.
        target.due = (target.due + target.config.interval).max(now + target.config.interval / 2);
        let (method, url, client) = (Method::GET, target.url.clone(), target.client.clone());
        let request = Request { method, url, headers: Vec::new(), body: Vec::new() };
        let (is_under_way, is_failing) = (Arc::clone(&target.is_under_way), Arc::clone(&target.is_failing));
        let counts = Arc::clone(&self.counts);
        tokio::spawn(async move {
            let answer = request::send(client, None, request, TIMEOUT).await;
            let error = answer.and_then(|answer| success(&answer)).err();
            is_under_way.store(false, Ordering::Release);
            let failed_before = is_failing.swap(error.is_some(), Ordering::AcqRel);
            match &error {
                Some(why) if !failed_before => tracing::warn!("heartbeat: could not be sent: {why}"),
                None if failed_before => tracing::info!("heartbeat: is sent again"),
                Some(_) | None => {}
            }
            lock(&counts).add(error.is_none());
        });
    }

    /// What came of the requests since the daemon's start; None without an address.
    pub fn counts(&self) -> Option<HeartbeatCounts> {
        self.target.as_ref().map(|_| *lock(&self.counts))
    }
}

impl HeartbeatCounts {
    fn add(&mut self, success: bool) {
        if success {
            self.sent += 1;
            self.last_success = Some(jiff::Timestamp::now());
        } else {
            self.failed += 1;
        }
    }
}

fn success(answer: &Answer) -> Result<(), String> {
    if answer.status.is_success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&answer.body);
    let words = &words[..words.floor_char_boundary(200)];
    Err(format!("the answer is {}: {}", answer.status, redact(words.trim())))
}

/// It stays usable if a task panicked: each of its changes is whole.
fn lock(counts: &Mutex<HeartbeatCounts>) -> MutexGuard<'_, HeartbeatCounts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::State, http::StatusCode, routing::get};
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::Secret;

    type Asked = mpsc::UnboundedSender<()>;

    /// A fake dead man's switch, which answers with this status.
    async fn fake(status: StatusCode) -> (Secret, mpsc::UnboundedReceiver<()>) {
        let (asked, requests) = mpsc::unbounded_channel();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = move |State(asked): State<Asked>| async move {
            let _ = asked.send(());
            (status, "no: token=abc")
        };
        let router = Router::new().route("/ping/t0ken", get(answer)).with_state(asked);
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        (Secret::new(format!("http://{address}/ping/t0ken")), requests)
    }

    async fn counted(heartbeat: &OutwardHeartbeat, is_it: impl Fn(HeartbeatCounts) -> bool) {
        while !heartbeat.counts().is_some_and(&is_it) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn each_beat_that_is_due_is_one_request() {
        let (url, mut requests) = fake(StatusCode::OK).await;
        let mut heartbeat = OutwardHeartbeat::default();
        assert_eq!(heartbeat.counts(), None);
        heartbeat.beat();
        let interval = Duration::from_secs(3600);
        heartbeat.configure(Some(&config::OutwardHeartbeat { url, interval })).unwrap();
        heartbeat.beat();
        heartbeat.beat();
        requests.recv().await.unwrap();
        counted(&heartbeat, |counts| counts.sent == 1).await;
        heartbeat.beat();
        assert!(requests.try_recv().is_err(), "the next is due in an hour");
        assert!(heartbeat.counts().unwrap().last_success.is_some());
    }

    #[tokio::test]
    async fn a_refusal_is_counted_as_a_failure() {
        let (url, _requests) = fake(StatusCode::NOT_FOUND).await;
        let mut heartbeat = OutwardHeartbeat::default();
        let interval = Duration::from_secs(3600);
        heartbeat.configure(Some(&config::OutwardHeartbeat { url, interval })).unwrap();
        heartbeat.beat();
        counted(&heartbeat, |counts| counts.failed == 1 && counts.sent == 0).await;
        let answer =
            Answer { status: StatusCode::NOT_FOUND, body: b"no: token=abc".to_vec(), retry_after: None };
        assert_eq!(success(&answer).unwrap_err(), "the answer is 404 Not Found: no: token=***");
    }
}
