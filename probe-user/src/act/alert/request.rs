//! One request to a receiver, and its answer.

use std::time::Duration;

use reqwest::{Client, header::RETRY_AFTER};
use tokio::time::{Instant, timeout_at};

use super::{
    client::{client_with_tls, reason},
    format::{Answer, Request},
    own_thread,
};
use crate::config::TlsOptions;

/// How much of an answer is read, in bytes. Slack and Discord repeat the message in it.
const ANSWER_MAX: usize = 64 << 10;

/// The same in chunks. An answer that comes in crumbs must not use up the CPU time of an exchange: its status is known.
const CHUNKS_MAX: usize = 64;

/// How long the body of an answer is read. The status alone says most, and a body may have no end.
const BODY: Duration = Duration::from_secs(2);

/// Sends a request by this client, or by one with this TLS of its own.
pub(in crate::act) async fn send(
    client: Client,
    tls: Option<TlsOptions>,
    request: Request,
    timeout: Duration,
) -> Result<Answer, String> {
    let prepare = move || {
        let client = match &tls {
            None => client,
            Some(tls) => client_with_tls(&request.url, timeout, tls)?,
        };
        let Request { method, url, headers, body } = request;
        let written =
            headers.iter().fold(client.request(method, url).body(body), |written, (name, value)| {
                written.header(name, value)
            });
        let request = written.build().map_err(reason)?;
        Ok((client, request))
    };
    own_thread::run(timeout, prepare, |(client, request)| async move {
        exchange(&client, request).await.map_err(reason)
    })
    .await
}

async fn exchange(client: &Client, request: reqwest::Request) -> Result<Answer, reqwest::Error> {
    let mut answer = client.execute(request).await?;
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| pause(value.to_str().ok()?));
    let (mut body, until) = (Vec::new(), Instant::now() + BODY);
    for _ in 0..CHUNKS_MAX {
        let Ok(Ok(Some(chunk))) = timeout_at(until, answer.chunk()).await else { break };
        body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_MAX - body.len())]);
    }
    Ok(Answer { status: answer.status(), body, retry_after })
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn pause(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    Some(at.duration_since(jiff::Timestamp::now()).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use super::{super::client::client, *};

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// The outcome of a request to a server that sends this, and then copies of `part`.
    async fn outcome(head: &'static [u8], part: &'static [u8]) -> Result<Answer, String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url: reqwest::Url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(head);
            // Slowly enough that a test machine reads it as it comes.
            while stream.write_all(&part.repeat(20)).is_ok() {
                thread::sleep(Duration::from_millis(2));
            }
        });
        let client = client(&url, TIMEOUT).unwrap();
        let (method, headers, body) = (reqwest::Method::POST, Vec::new(), b"{}".to_vec());
        send(client, None, Request { method, url, headers, body }, TIMEOUT).await
    }

    #[tokio::test]
    async fn an_answer_without_end_ends_the_request_long_before_its_timeout() {
        let begun = std::time::Instant::now();
        let why = outcome(b"", b"HTTP/1.1 100 Continue\r\n\r\n").await.err().unwrap();
        assert!(why.contains("sends without end"), "{why}");
        assert!(outcome(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n").await.is_err());
        let refused = outcome(b"HTTP/1.1 500 No\r\n\r\n", &[b'x'; 4096]).await.unwrap();
        assert_eq!(refused.status.as_u16(), 500);
        assert!((4096..=ANSWER_MAX).contains(&refused.body.len()), "{}", refused.body.len());
        assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_success_is_not_read_to_its_end() {
        let taken = outcome(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 4096]).await.unwrap();
        assert!(taken.status.is_success() && taken.body.len() <= ANSWER_MAX, "{}", taken.body.len());
        let crumbs = outcome(b"HTTP/1.1 200 OK\r\n\r\n", b"x").await.unwrap();
        assert!(crumbs.status.is_success(), "{}", crumbs.body.len());
    }

    #[tokio::test]
    async fn a_success_whose_body_never_comes_is_a_success_long_before_the_timeout() {
        let begun = std::time::Instant::now();
        let taken = outcome(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"").await.unwrap();
        assert_eq!((taken.status.as_u16(), taken.body.len()), (200, 0));
        assert!(begun.elapsed() < TIMEOUT / 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn an_answer_says_how_long_to_wait() {
        let busy =
            outcome(b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", b"").await.unwrap();
        assert_eq!(busy.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO), "it is over");
        assert_eq!(pause("soon"), None);
    }
}
