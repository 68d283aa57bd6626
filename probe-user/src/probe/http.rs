//! HTTP and HTTPS: checks the status and the body of the answer.

mod connected;
mod plain;
mod status;
mod target;

use std::{
    sync::{Arc, Once, OnceLock},
    time::Duration,
};

use reqwest::{Client, ClientBuilder, Response, StatusCode, Url, header, redirect};

use self::{
    connected::{NoteConnected, noting},
    target::{AGENT, address, peer},
};
use super::{
    failure::Failure,
    progress::{Connection, Waiting},
};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome},
};

/// How much of a body is read, in bytes.
const BODY_MAX: usize = 1 << 20;

/// The longest read of the body of an answer that is already wrong.
///
/// Closing with the body unread would send a reset, which the service may log, and which hostprobe's own
/// kernel side would report as an error of the service.
const DRAIN: Duration = Duration::from_millis(100);

/// The clients that all HTTP probes share.
///
/// They keep no connection and follow no redirect: a redirect is an answer of the service, and where it
/// leads may be another one. They take no proxy from the environment, since a proxy's health is not the
/// service's.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    /// It has no CA certificates: a host has more than a hundred of them, and most probes need none.
    plain: Client,
    /// Made for the first https probe.
    tls: Arc<OnceLock<Client>>,
}

impl Clients {
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // It fails only where the process already has one, which serves as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        Ok(Self { plain: builder().tls_certs_only([]).build()?, tls: Arc::default() })
    }

    /// Makes the client that a URL needs.
    pub(super) fn prepare(&self, url: &str) {
        if let Ok(url) = Url::parse(url) {
            self.of(&url);
        }
    }

    /// The client for a URL.
    fn of(&self, url: &Url) -> &Client {
        if !is_tls(url) {
            return &self.plain;
        }
        self.tls.get_or_init(|| {
            builder().build().unwrap_or_else(|error| {
                // A host without CA certificates must still probe plain HTTP.
                tracing::warn!(%error, "CA certificates: none loaded; https probes will fail");
                self.plain.clone()
            })
        })
    }
}

fn builder() -> ClientBuilder {
    Client::builder()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .no_proxy()
        .connector_layer(NoteConnected)
        .user_agent(AGENT)
}

/// Requests the target once.
pub(super) async fn run(
    probe: &Probe,
    clients: &Clients,
    waiting: &Arc<Waiting>,
) -> Result<ProbeOutcome, Failure> {
    let target = probe.target.to_string();
    let request = clients.plain.get(probe.target.expose()).header(header::CONNECTION, "close").build();
    let request = request.map_err(|_| {
        Failure::new(ProbeFailure::Local, format!("{target} is not a URL that can be requested"))
    })?;
    let judge = async |response| judge(probe, response, waiting, &target).await;
    if plain::suits(&request) {
        return plain::ask(request, waiting, judge).await;
    }
    if let Some(address) = address(request.url()).filter(|_| is_tls(request.url())) {
        // What the client notes is the end of the TLS handshake, not the connection below it.
        waiting.connection(Connection::Hidden(address));
    }
    let url = request.url().clone();
    let response = noting(waiting, clients.of(&url).execute(request)).await.map_err(|error| {
        let failure = Failure::chain(&error, &peer(&target));
        if failure.kind == ProbeFailure::Timeout && error.is_connect() {
            return Failure::new(ProbeFailure::ConnectTimeout, failure.text);
        }
        failure
    })?;
    judge(response).await
}

/// Whether a response is what the probe expects.
async fn judge(
    probe: &Probe,
    response: Response,
    waiting: &Waiting,
    target: &str,
) -> Result<ProbeOutcome, Failure> {
    let status = response.status();
    waiting.set("the end of the body");
    if !expected(status, &probe.expect_status) {
        let headers = response.headers().clone();
        let mut body = Vec::new();
        let _ = tokio::time::timeout(DRAIN, read(response, &mut body)).await;
        let text = format!("expected status {}, got {}", wanted(&probe.expect_status), status.as_u16());
        return Err(Failure::new(status::failure(status, &headers, &body), text));
    }
    let mut body = Vec::new();
    read(response, &mut body).await.map_err(|error| Failure::chain(&error, &peer(target)))?;
    match &probe.expect_body {
        Some(text) if !contains(&body, text.as_bytes()) => Err(Failure::new(
            ProbeFailure::Body,
            format!("expected a body that contains {text:?}, got {} bytes without it", body.len()),
        )),
        Some(_) | None => Ok(ProbeOutcome::Ok),
    }
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

async fn read(mut response: Response, body: &mut Vec<u8>) -> Result<(), reqwest::Error> {
    while body.len() < BODY_MAX {
        let Some(chunk) = response.chunk().await? else { break };
        body.extend_from_slice(&chunk[..chunk.len().min(BODY_MAX - body.len())]);
    }
    Ok(())
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

fn is_tls(url: &Url) -> bool {
    url.scheme() == "https"
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        fact::ProbeKind,
        probe::{Clients, run_once, tests::probe},
    };

    #[test]
    fn ca_certificates_are_read_for_https_alone() {
        let clients = super::Clients::new().unwrap();
        for plain in ["http://127.0.0.1/", "not a url", "HTTP://host:443/"] {
            clients.prepare(plain);
            assert!(clients.tls.get().is_none(), "{plain}");
        }
        clients.prepare("https://127.0.0.1/");
        assert!(clients.tls.get().is_some());
    }

    /// Probes a listener that sends `response` once it has read the request, and closes.
    async fn fake_server(response: &[u8], change: impl FnOnce(&mut Probe)) -> ProbeOutcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:s3cret@{}/health?token=x", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(response).await.unwrap();
            stream.shutdown().await.unwrap();
            // Held until the probe is through, so that what it sees is its own doing.
            stream
        };
        let clients = Clients::new().unwrap();
        let mut probe = probe(ProbeKind::Http, &url);
        change(&mut probe);
        tokio::join!(serve, run_once(&probe, &clients)).1.1
    }

    fn failure(outcome: ProbeOutcome) -> (ProbeFailure, String) {
        let ProbeOutcome::Failed(kind, text) = outcome else { panic!("{outcome:?}") };
        assert!(!text.contains("s3cret") && !text.contains("token"), "{text}");
        (kind, text)
    }

    #[tokio::test]
    async fn the_status_decides() {
        let ok = fake_server(b"HTTP/1.1 204 No Content\r\n\r\n", |_| {}).await;
        assert_eq!(ok, ProbeOutcome::Ok);
        let moved = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(fake_server(moved, |_| {}).await, ProbeOutcome::Ok, "a redirect is not followed");

        let busy = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
        let (kind, text) = failure(fake_server(busy, |_| {}).await);
        assert_eq!((kind, text.as_str()), (ProbeFailure::Status, "expected status 200–399, got 503"));
        let wanted = |probe: &mut Probe| probe.expect_status = vec![200, 503];
        assert_eq!(fake_server(busy, wanted).await, ProbeOutcome::Ok);
        let (_, text) = failure(fake_server(moved, wanted).await);
        assert_eq!(text, "expected status 200 or 503, got 302");
    }

    #[tokio::test]
    async fn the_body_decides_where_it_is_asked_for() {
        let expect = |text: &'static str| move |probe: &mut Probe| probe.expect_body = Some(text.to_owned());
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";
        assert_eq!(fake_server(answer, expect("\"ok\"")).await, ProbeOutcome::Ok);
        let (kind, text) = failure(fake_server(answer, expect("ready")).await);
        assert_eq!(kind, ProbeFailure::Body);
        assert_eq!(text, "expected a body that contains \"ready\", got 15 bytes without it");

        let mut large = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
        large.resize(large.len() + BODY_MAX / 2, b'x');
        let (_, text) = failure(fake_server(&large, expect("ready")).await);
        assert!(text.contains("524288 bytes"), "{text}");
    }

    #[tokio::test]
    async fn a_cut_answer_and_an_invalid_one_have_their_own_failures() {
        let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
        assert_eq!(failure(fake_server(cut, |_| {}).await).0, ProbeFailure::Reset);
        let (kind, text) = failure(fake_server(b"", |_| {}).await);
        assert_eq!(kind, ProbeFailure::Reset, "{text}");
        let (kind, text) = failure(fake_server(b"-ERR unknown command\r\n", |_| {}).await);
        assert_eq!(kind, ProbeFailure::Protocol, "{text}");
        assert!(text.contains("does not speak HTTP"), "{text}");
    }

    #[tokio::test]
    async fn refused_dns_and_tls_have_their_own_failures() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients = Clients::new().unwrap();
        let plain = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"I speak no TLS\r\n").await.unwrap();
            stream
        };
        let https = probe(ProbeKind::Http, &format!("https://{address}/"));
        let (_stream, (_, outcome)) = tokio::join!(plain, run_once(&https, &clients));
        assert_eq!(failure(outcome).0, ProbeFailure::Tls);

        drop(listener);
        let refused = run_once(&probe(ProbeKind::Http, &format!("http://{address}/")), &clients).await.1;
        let expected = format!("connection refused by {address}: nothing listens there");
        assert_eq!(failure(refused), (ProbeFailure::Refused, expected));

        let nowhere = run_once(&probe(ProbeKind::Http, "http://no-such-host.invalid/"), &clients).await.1;
        assert_eq!(failure(nowhere).0, ProbeFailure::Dns);
        let local = run_once(&probe(ProbeKind::Http, "not a url"), &clients).await.1;
        assert_eq!(failure(local).0, ProbeFailure::Local);
    }

    #[tokio::test]
    async fn silence_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut probe = probe(ProbeKind::Http, &format!("http://{}/", listener.local_addr().unwrap()));
        probe.timeout = Duration::from_millis(50);
        let (took, outcome) = run_once(&probe, &Clients::new().unwrap()).await;
        let (kind, text) = failure(outcome);
        assert_eq!(kind, ProbeFailure::Timeout);
        assert!(
            text.ends_with("within 50ms: still waiting for the response on an open connection"),
            "{text}"
        );
        assert!(took >= probe.timeout && took < Duration::from_secs(2));
    }
}
