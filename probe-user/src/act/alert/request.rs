//! One request to a receiver, on a thread of its own.
//!
//! An answer can keep the client's library busy until the timeout: interim responses without end cost a whole core, and
//! the library reads some 50 MB of them before anything else on its thread has a turn. On its own thread that costs the
//! loop nothing, and the request ends at that turn if it has used more CPU time than any honest answer takes.

use std::time::Duration;

use reqwest::{Client, Request, StatusCode};
use tokio::{
    runtime::Builder,
    select,
    time::{MissedTickBehavior, interval},
};

use super::client::reason;
use crate::bounded_thread;

/// A TLS handshake takes a few milliseconds, and some tens without optimizations.
const CPU_MAX: Duration = Duration::from_millis(100);

/// How often the CPU time is read.
const LOOK: Duration = Duration::from_millis(10);

/// Beyond the timeout of the request itself, which ends it with a better reason.
const SPARE: Duration = Duration::from_secs(1);

/// The quoted part of a refusal, in bytes.
const QUOTED: usize = 300;

pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The first words of an answer that is no success.
    pub(super) words: String,
}

/// Sends a request, whose own timeout is `timeout`.
pub(super) async fn send(client: Client, request: Request, timeout: Duration) -> Result<Answer, String> {
    let work = move || {
        // The time driver has its turn after every task, however busy they are.
        let runtime = Builder::new_current_thread().enable_all().event_interval(1).build();
        let runtime = runtime.map_err(|error| format!("cannot send: {error}"))?;
        let answer = runtime.block_on(async {
            select! {
                answer = exchange(&client, request) => answer.map_err(reason),
                () = cpu_time_is_used_up() => Err("the receiver sends without end, and never gets to its answer".to_owned()),
            }
        });
        // A resolver that hangs is not waited for.
        runtime.shutdown_background();
        answer
    };
    let answer = bounded_thread::answer("alert", timeout + SPARE, work).await;
    answer.unwrap_or_else(|error| Err(format!("cannot send: {error}")))
}

async fn exchange(client: &Client, request: Request) -> Result<Answer, reqwest::Error> {
    let mut answer = client.execute(request).await?;
    let mut quoted = Vec::new();
    while !answer.status().is_success()
        && quoted.len() < QUOTED
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        quoted.extend_from_slice(&chunk[..chunk.len().min(QUOTED - quoted.len())]);
    }
    Ok(Answer { status: answer.status(), words: String::from_utf8_lossy(&quoted).trim().to_owned() })
}

/// Ends once this thread has used all that a request may.
async fn cpu_time_is_used_up() {
    let used = || Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime));
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while used().is_ok_and(|used| used < CPU_MAX) {
        looks.tick().await;
    }
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
        let request = client.post(url).body("{}").build().unwrap();
        send(client, request, TIMEOUT).await
    }

    #[tokio::test]
    async fn an_answer_without_end_ends_the_request_long_before_its_timeout() {
        let begun = std::time::Instant::now();
        let why = outcome(b"", b"HTTP/1.1 100 Continue\r\n\r\n").await.err().unwrap();
        assert!(why.contains("sends without end"), "{why}");
        assert!(outcome(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n").await.is_err());
        let refused = outcome(b"HTTP/1.1 500 No\r\n\r\n", b"x").await.unwrap();
        assert_eq!((refused.status.as_u16(), refused.words.len()), (500, QUOTED));
        assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_success_is_not_read_to_its_end() {
        let taken = outcome(b"HTTP/1.1 200 OK\r\n\r\n", b"x").await.unwrap();
        assert_eq!((taken.status.as_u16(), taken.words.as_str()), (200, ""));
    }
}
