//! TLS handshakes: each is timed, and together they take a part of one CPU.
//!
//! A handshake costs a signature, up to some milliseconds, on the thread that also detects deaths. So none goes on before a rest
//! after the one that went on last, which is four times as long as that took. A client that says nothing costs its place among
//! the connections alone (`serve/connections.rs`).

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// How long a client may take for its handshake.
const TIME: Duration = Duration::from_secs(5);

/// A rest is so many times as long as the part of a handshake before it.
const REST: u32 = 4;

/// The first byte of each client of TLS: a record of the handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What a client gets that asks in plain text.
const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 29\r\n\
                     Connection: close\r\n\r\nask this port over https://\r\n";

/// The most that is read of a request in plain text, in bytes.
const PLAIN_MAX: u64 = 8192;

/// When the next part of a handshake may go on.
#[derive(Debug)]
pub(super) struct Handshakes {
    due: Mutex<Instant>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { due: Mutex::new(Instant::now()) }
    }
}

impl Handshakes {
    /// The session of a client that makes it in time. Any other one is of no interest.
    pub async fn make(&self, stream: TcpStream, config: Arc<ServerConfig>) -> Option<TlsStream<TcpStream>> {
        let made = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 0 {
                return Ok(None);
            }
            if first != [HANDSHAKE] {
                return refuse_plain(stream).await.map(|()| None);
            }
            let session = TlsAcceptor::from(config).accept(stream);
            let rest = Box::pin(sleep_until(Instant::now()));
            Paced { handshakes: self, session, rest }.await.map(Some)
        };
        // The end of a client's wait and its faults concern nobody else.
        timeout(TIME, made).await.ok()?.unwrap_or_else(|error: io::Error| {
            tracing::trace!("http: a handshake failed: {error}");
            None
        })
    }

    fn due(&self) -> MutexGuard<'_, Instant> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that is answered and cut off at once may not see the answer, so the rest of its request is read.
async fn refuse_plain(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(PLAIN.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(PLAIN_MAX);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map(drop)
}

/// A session that goes on when it is due.
struct Paced<'h, S> {
    handshakes: &'h Handshakes,
    session: S,
    rest: Pin<Box<Sleep>>,
}

impl<S: Future + Unpin> Future for Paced<'_, S> {
    type Output = S::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<S::Output> {
        let this = self.get_mut();
        loop {
            let due = *this.handshakes.due();
            if due <= Instant::now() {
                break;
            }
            this.rest.as_mut().reset(due);
            ready!(this.rest.as_mut().poll(context));
        }
        let begun = Instant::now();
        let polled = Pin::new(&mut this.session).poll(context);
        let took = begun.elapsed();
        *this.handshakes.due() = begun + took + took * REST;
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_handshake_waits_for_the_rest_after_another_one() {
        let handshakes = Handshakes::default();
        let long = Duration::from_millis(20);
        let part = || {
            let session = Box::pin(async move { std::thread::sleep(long) });
            Paced { handshakes: &handshakes, session, rest: Box::pin(sleep_until(Instant::now())) }
        };
        let begun = Instant::now();
        tokio::join!(part(), part());
        assert!(begun.elapsed() >= 2 * long + long * REST, "{:?}", begun.elapsed());
    }

    #[test]
    fn the_answer_in_plain_text_has_its_length() {
        let (head, body) = PLAIN.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
