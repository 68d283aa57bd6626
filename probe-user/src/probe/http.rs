//! HTTP and HTTPS: checks the status and the body of the answer.

mod connection;
mod status;
mod target;
mod trust;

use std::{
    sync::{Arc, Once, OnceLock},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode, Url, header};
use rustls::ClientConfig;

use self::target::peer;
pub(super) use self::trust::words as tls_words;
use super::{failure::Failure, progress::Waiting};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome},
};

/// How much of a body is searched for the expected text, in bytes.
const BODY_MAX: usize = 1 << 20;

/// How long and how far a body is read whose content does not matter.
///
/// Closing with the body unread would send a reset, which the service may log, and which hostprobe's own
/// kernel side would report as an error of the service. A body may have no end: a stream of events has none.
const DRAIN: Duration = Duration::from_millis(100);
const DRAIN_MAX: usize = 64 * 1024;

/// What all HTTP probes share.
///
/// They keep no connection and follow no redirect: a redirect is an answer of the service, and where it
/// leads may be another one. They take no proxy from the environment, since a proxy's health is not the
/// service's.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// It makes the requests, and sends none. It has no CA certificates.
    requests: Client,
    /// Made for the first https probe: a host has more than a hundred CA certificates, and most probes need none.
    tls: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

impl Clients {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // It fails only where the process already has one, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        Ok(Self { requests: Client::builder().tls_certs_only([]).build()?, tls: Arc::default() })
    }

    /// Makes what a URL needs.
    pub(super) fn prepare(&self, url: &str) {
        if let Ok(url) = Url::parse(url)
            && let Err(error) = self.tls_of(&url)
        {
            tracing::warn!("https probes will fail: {error}");
        }
    }

    /// How to connect to a URL with TLS. None if it is not https.
    fn tls_of(&self, url: &Url) -> Result<Option<Arc<ClientConfig>>, String> {
        if url.scheme() != "https" {
            return Ok(None);
        }
        self.tls.get_or_init(trust::of_host).clone().map(Some)
    }
}

/// Requests the target once.
pub(super) async fn run(
    probe: &Probe,
    clients: &Clients,
    waiting: &Arc<Waiting>,
) -> Result<ProbeOutcome, Failure> {
    let target = probe.target.to_string();
    let request = clients.requests.get(probe.target.expose()).header(header::CONNECTION, "close").build();
    let request = request.map_err(|_| {
        Failure::new(ProbeFailure::CannotAsk, format!("{target} is not a URL that can be requested"))
    })?;
    let tls = clients.tls_of(request.url()).map_err(|error| Failure::new(ProbeFailure::CannotAsk, error))?;
    // Chunks of a byte each have six on the wire; what is more than twice the body is not read.
    let body_max = if probe.expect_body.is_some() { 2 * BODY_MAX } else { 2 * DRAIN_MAX };
    let judge = async |response| judge(probe, response, waiting, &target).await;
    connection::ask(request, tls, body_max, waiting, judge).await
}

/// Whether a response is what the probe expects.
async fn judge(
    probe: &Probe,
    mut response: Response,
    waiting: &Waiting,
    target: &str,
) -> Result<ProbeOutcome, Failure> {
    let status = response.status();
    waiting.set("the end of the body");
    if !expected(status, &probe.expect_status) {
        let headers = response.headers().clone();
        let mut body = Vec::new();
        let _ = tokio::time::timeout(DRAIN, drain(&mut response, &mut body)).await;
        let text = format!("expected status {}, got {}", wanted(&probe.expect_status), status.as_u16());
        return Err(Failure::new(status::failure(status, &headers, &body), text));
    }
    let broken = |error: reqwest::Error| Failure::chain(&error, &peer(target));
    if let Some(text) = &probe.expect_body {
        let (found, read) = search(&mut response, text.as_bytes(), waiting).await.map_err(broken)?;
        if !found {
            let text = format!("expected a body that contains {text:?}, got {read} bytes without it");
            return Err(Failure::new(ProbeFailure::Body, text));
        }
        let _ = tokio::time::timeout(DRAIN, drain(&mut response, &mut Vec::new())).await;
        return Ok(ProbeOutcome::Ok);
    }
    // The status is right. A body that does not end says nothing; one that breaks off does.
    match tokio::time::timeout(DRAIN, drain(&mut response, &mut Vec::new())).await {
        Ok(Err(error)) => Err(broken(error)),
        Ok(Ok(())) | Err(_) => Ok(ProbeOutcome::Ok),
    }
}

/// Reads a body to its end, or as far as it is worth.
async fn drain(response: &mut Response, body: &mut Vec<u8>) -> Result<(), reqwest::Error> {
    while body.len() < DRAIN_MAX {
        let Some(chunk) = response.chunk().await? else { break };
        body.extend_from_slice(&chunk[..chunk.len().min(DRAIN_MAX - body.len())]);
    }
    Ok(())
}

/// Whether a body contains a text, and how many bytes of it were read.
async fn search(
    response: &mut Response,
    text: &[u8],
    waiting: &Waiting,
) -> Result<(bool, usize), reqwest::Error> {
    let mut body: Vec<u8> = Vec::new();
    while body.len() < BODY_MAX {
        let Some(chunk) = response.chunk().await? else { break };
        waiting.body_goes_on(body.len() + chunk.len());
        // The text may begin in what came before.
        let from = (body.len() + 1).saturating_sub(text.len());
        body.extend_from_slice(&chunk[..chunk.len().min(BODY_MAX - body.len())]);
        if contains(&body[from.min(body.len())..], text) {
            return Ok((true, body.len()));
        }
    }
    Ok((text.is_empty(), body.len()))
}

fn expected(status: StatusCode, wanted: &[u16]) -> bool {
    let status = status.as_u16();
    if wanted.is_empty() { (200..400).contains(&status) } else { wanted.contains(&status) }
}

fn wanted(statuses: &[u16]) -> String {
    if statuses.is_empty() {
        return "200–399".to_owned();
    }
    statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ")
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests;
