//! HTTP and HTTPS: checks the status and the body of the answer.

mod connection;
mod json;
mod request;
mod status;
mod target;
mod version;

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode};

use self::{request::Hop, target::Target};
use super::{failure::Failure, progress::Waiting, tls::Tls};
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

/// More redirects than this are no way to an answer.
const REDIRECTS_MAX: usize = 10;

/// What all HTTP probes share.
///
/// They keep no connection, and take no proxy from the environment, since a proxy's health is not the service's.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// It makes the requests, and sends none. It has no CA certificates.
    requests: Client,
}

impl Clients {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // It fails only where the process already has one, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        Ok(Self { requests: Client::builder().tls_certs_only([]).build()? })
    }
}

/// What follows from a response.
enum Step {
    Ended(ProbeOutcome),
    /// It is asked for elsewhere.
    Next(Hop),
}

/// Host and port of a probe's server, and whether it is asked over TLS; None with a Unix socket.
pub(super) fn peer(probe: &Probe) -> Option<(String, bool)> {
    let target = Target::of(probe).filter(|target| target.socket.is_none())?;
    Some((target.address(), target.url.scheme() == "https"))
}

/// Requests the target once, and what it redirects to where that is to be followed.
pub(super) async fn run(
    probe: &Probe,
    clients: &Clients,
    tls: &Tls,
    waiting: &Arc<Waiting>,
) -> Result<ProbeOutcome, Failure> {
    let unusable = || {
        Failure::new(ProbeFailure::CannotAsk, format!("{} is not a URL that can be requested", probe.target))
    };
    let mut hop = Hop::first(probe, Target::of(probe).ok_or_else(unusable)?);
    for _ in 0..=REDIRECTS_MAX {
        let request = hop.request(probe, &clients.requests).ok_or_else(unusable)?;
        // Chunks of a byte each have six on the wire; what is more than twice the body is not read.
        let body_max = if wants_body(probe) { 2 * BODY_MAX } else { 2 * DRAIN_MAX };
        let judge = async |response| judge(probe, &hop, response, waiting).await;
        let asked = connection::ask(probe, tls, &hop.target, request, body_max, waiting, judge);
        hop = match asked.await? {
            Step::Ended(outcome) => return Ok(outcome),
            Step::Next(next) => next,
        };
    }
    let text = format!("{} redirects more than {REDIRECTS_MAX} times", probe.target);
    Err(Failure::new(ProbeFailure::Rejected, text))
}

fn wants_body(probe: &Probe) -> bool {
    probe.expect_body.is_some() || !probe.http.expect_json.is_empty()
}

/// Whether a response is what the probe expects.
async fn judge(probe: &Probe, hop: &Hop, mut response: Response, waiting: &Waiting) -> Result<Step, Failure> {
    let status = response.status();
    waiting.set("the end of the body");
    if let Some(next) = hop.next(probe, &response)? {
        let _ = tokio::time::timeout(DRAIN, drain(&mut response, &mut Vec::new())).await;
        return Ok(Step::Next(next));
    }
    if !expected(status, &probe.expect_status) {
        let headers = response.headers().clone();
        let mut body = Vec::new();
        let _ = tokio::time::timeout(DRAIN, drain(&mut response, &mut body)).await;
        let (kind, words) = status::failure(status, &headers, &body);
        let text =
            format!("expected status {}, got {}{words}", wanted(&probe.expect_status), status.as_u16());
        return Err(Failure::new(kind, text));
    }
    let broken = |error: reqwest::Error| Failure::chain(&error, &hop.target.peer());
    let text = probe.expect_body.as_deref();
    if !probe.http.expect_json.is_empty() {
        let body = whole(&mut response, waiting).await.map_err(broken)?;
        let lacks = |text: &&str| !contains(&body, text.as_bytes());
        let complaint = match text.filter(lacks) {
            Some(text) => Some(without(text, body.len())),
            None => json::complaint(&body, &probe.http.expect_json),
        };
        return match complaint {
            Some(text) => Err(Failure::new(ProbeFailure::Body, text)),
            None => Ok(Step::Ended(ProbeOutcome::Ok)),
        };
    }
    if let Some(text) = text {
        let (found, read) = search(&mut response, text.as_bytes(), waiting).await.map_err(broken)?;
        if !found {
            return Err(Failure::new(ProbeFailure::Body, without(text, read)));
        }
        let _ = tokio::time::timeout(DRAIN, drain(&mut response, &mut Vec::new())).await;
        return Ok(Step::Ended(ProbeOutcome::Ok));
    }
    // The status is right. A body that does not end says nothing; one that breaks off does.
    match tokio::time::timeout(DRAIN, drain(&mut response, &mut Vec::new())).await {
        Ok(Err(error)) => Err(broken(error)),
        Ok(Ok(())) | Err(_) => Ok(Step::Ended(ProbeOutcome::Ok)),
    }
}

fn without(text: &str, read: usize) -> String {
    format!("expected a body that contains {text:?}, got {read} bytes without it")
}

/// Reads a body whole, or as much of it as a probe reads.
async fn whole(response: &mut Response, waiting: &Waiting) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    // One that is too long cannot be read as JSON.
    if response.content_length().is_some_and(|length| length > BODY_MAX as u64) {
        return Ok(body);
    }
    while body.len() <= BODY_MAX {
        let Some(chunk) = response.chunk().await? else { break };
        waiting.body_goes_on(body.len() + chunk.len());
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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
