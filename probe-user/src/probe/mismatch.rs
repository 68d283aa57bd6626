//! A server that speaks TLS where the probe speaks plain text, or the other way round.
//!
//! Mostly its configuration was changed. Neither side understands the other, so that the server breaks off the connection, as
//! one does that a restart may mend. The first bytes of an answer over a further connection tell them apart. No password and
//! no header of the probe is sent over that one. ([`tls::Tls::connect`] recognizes a server that waits for more.)

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{bounded::Bounded, failure::Failure, http, progress::Waiting, tcp, tls};
use crate::{
    config::{GrpcAddress, Probe, RedisAddress},
    fact::{ProbeFailure, ProbeKind},
};

/// The longest wait for an answer, after the run itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// Once the answer has begun, it is read for so long: a close with unread bytes would reset the connection, which the server
/// may log.
const DRAIN: Duration = Duration::from_millis(100);

/// The client's part of an HTTP/2 session (RFC 9113, section 3.4), with empty settings.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A server that may speak otherwise than its probe.
#[derive(Debug)]
pub(super) struct Suspect {
    /// Host and port.
    peer: String,
    protocol: Protocol,
}

/// What it may speak instead, of what a probe speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tls,
    Http,
    Http2,
    Redis,
}

impl Suspect {
    /// The server of a run that failed like this while it waited for something; None if the failure has another reason.
    pub(super) fn of(probe: &Probe, failure: ProbeFailure, waits_for: &str) -> Option<Self> {
        let (peer, plain) = address(probe)?;
        let is_silent = failure == ProbeFailure::Timeout;
        let is_broken_off = failure == ProbeFailure::Reset;
        let (protocol, may_be) = match plain {
            Some(plain) => {
                // The end of a line makes any other server answer within the session itself.
                let is_left = is_broken_off || is_silent && plain == Protocol::Redis;
                (plain, waits_for == tls::HANDSHAKE && is_left)
            }
            // A server that expects TLS ends the session at the first bytes of something else. It waits for them alone.
            None => {
                let is_odd = matches!(failure, ProbeFailure::Protocol | ProbeFailure::Body);
                (Protocol::Tls, is_broken_off || is_odd || is_silent && probe.kind == ProbeKind::Tcp)
            }
        };
        may_be.then_some(Self { peer, protocol })
    }

    fn failure(&self) -> Failure {
        let words =
            if self.protocol == Protocol::Tls { "TLS, not plain text" } else { "plain text, not TLS" };
        Failure::new(ProbeFailure::Tls, format!("the server {} speaks {words}", self.peer))
    }

    /// Asks it as another client would: whether it speaks otherwise. None if it does not answer.
    async fn ask(&self) -> Option<bool> {
        let question = self.protocol.question(&self.peer)?;
        let mut stream = Bounded::new(tcp::connect(&self.peer, &Waiting::default()).await.ok()?);
        let mut answer = vec![0; self.protocol.needs()];
        let exchanged = match stream.write_all(&question).await {
            Ok(()) => stream.read_exact(&mut answer).await,
            Err(error) => Err(error),
        };
        let is_spoken = exchanged.is_ok() && self.protocol.begins(&answer);
        let _ = timeout(DRAIN, stream.read_to_end(&mut Vec::new())).await;
        Some(is_spoken)
    }
}

/// Whether the server of one probe was found to speak otherwise. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Finding(Arc<AtomicBool>);

impl Finding {
    /// Why a run failed, if its server speaks otherwise. One that does not say in time is as it was.
    pub(super) async fn judge(&self, suspect: &Suspect) -> Option<Failure> {
        let said = timeout(PATIENCE, suspect.ask()).await.ok().flatten();
        let is_other = said.unwrap_or_else(|| self.0.load(Ordering::Relaxed));
        self.0.store(is_other, Ordering::Relaxed);
        is_other.then(|| suspect.failure())
    }

    /// The server answers as the probe expects.
    pub(super) fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Host and port of a probe's server, and what it speaks without TLS where the probe wants TLS.
fn address(probe: &Probe) -> Option<(String, Option<Protocol>)> {
    let text = probe.target.expose();
    match probe.kind {
        ProbeKind::Http => {
            let (peer, is_tls) = http::peer(probe)?;
            Some((peer, is_tls.then_some(Protocol::Http)))
        }
        ProbeKind::Grpc => {
            let address = GrpcAddress::parse(text)?;
            Some((address.peer, address.is_tls.then_some(Protocol::Http2)))
        }
        ProbeKind::Redis => {
            let address = RedisAddress::parse(text).ok().filter(|address| address.socket.is_none())?;
            Some((address.peer(), address.is_tls.then_some(Protocol::Redis)))
        }
        ProbeKind::Tcp => (!probe.exchange.is_empty()).then(|| (text.to_owned(), None)),
        // Servers of these databases say in plain text whether they take TLS.
        ProbeKind::Postgres | ProbeKind::Mysql => None,
        ProbeKind::Unix
        | ProbeKind::Udp
        | ProbeKind::Exec
        | ProbeKind::Heartbeat
        | ProbeKind::Dns
        | ProbeKind::Icmp => None,
    }
}

impl Protocol {
    /// What makes a server answer that speaks it.
    fn question(self, peer: &str) -> Option<Vec<u8>> {
        match self {
            Self::Tls => tls::client_hello(),
            Self::Http => {
                Some(format!("HEAD / HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n").into_bytes())
            }
            Self::Http2 => Some(HTTP2.to_vec()),
            Self::Redis => Some(b"PING\r\n".to_vec()),
        }
    }

    /// How many bytes of an answer are enough to know it.
    const fn needs(self) -> usize {
        match self {
            Self::Tls => 3,
            Self::Http => 12,
            Self::Http2 => 9,
            Self::Redis => 1,
        }
    }

    /// Whether so many bytes begin an answer.
    fn begins(self, answer: &[u8]) -> bool {
        match self {
            // A handshake or an alert, of any version (RFC 8446, section 5.1).
            Self::Tls => matches!(answer, [0x15 | 0x16, 3, 0..=4]),
            // Servers that expect TLS may answer a plain request, and then with this status.
            Self::Http => answer.starts_with(b"HTTP/1.") && !answer.ends_with(b"400"),
            // A frame of settings on stream 0.
            Self::Http2 => matches!(answer, [0, _, _, 4, _, 0, 0, 0, 0]),
            Self::Redis => matches!(answer, [b'+' | b'-']),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::probe::tests::probe;

    fn suspects(target: &str, kind: ProbeKind, failure: ProbeFailure, waits_for: &str) -> bool {
        Suspect::of(&probe(kind, target), failure, waits_for).is_some()
    }

    #[test]
    fn only_failures_that_the_other_way_of_speaking_can_cause_are_looked_into() {
        use ProbeFailure::{ConnectTimeout, Protocol, Refused, Reset, Timeout};
        let (plain, over_tls) = ("redis://h", "rediss://h");
        assert!(suspects(over_tls, ProbeKind::Redis, Reset, tls::HANDSHAKE));
        assert!(!suspects(over_tls, ProbeKind::Redis, Reset, "the reply to PING"));
        assert!(suspects(over_tls, ProbeKind::Redis, Timeout, tls::HANDSHAKE));
        assert!(
            !suspects("https://h/", ProbeKind::Http, Timeout, tls::HANDSHAKE),
            "the session has asked already"
        );
        for failure in [Protocol, Reset] {
            assert!(suspects(plain, ProbeKind::Redis, failure, "the reply to PING"), "{failure:?}");
        }
        assert!(!suspects(plain, ProbeKind::Redis, Timeout, "the reply to PING"), "it may hang");
        for failure in [Refused, ConnectTimeout] {
            assert!(!suspects("https://h/", ProbeKind::Http, failure, tls::HANDSHAKE), "{failure:?}");
        }
        assert!(!suspects("redis+unix:///run/redis.sock", ProbeKind::Redis, Reset, ""));
        assert!(!suspects("h:1", ProbeKind::Tcp, Timeout, ""), "nothing is expected of its answer");
    }

    #[test]
    fn the_first_bytes_of_an_answer_tell_what_it_is() {
        for (protocol, right, wrong) in [
            (
                Protocol::Tls,
                &[&b"\x16\x03\x03"[..], b"\x15\x03\x01"][..],
                &[&b"HTT"[..], b"\x16\x04\x03"][..],
            ),
            (
                Protocol::Http,
                &[b"HTTP/1.0 200", b"HTTP/1.1 503"],
                &[b"HTTP/1.1 400", b"\x15\x03\x03\0\x02\x02F\0\0\0\0\0"],
            ),
            (Protocol::Http2, &[b"\0\0\x06\x04\0\0\0\0\0"], &[b"HTTP/1.1 "]),
            (Protocol::Redis, &[b"+", b"-"], &[b"\x15", b"H"]),
        ] {
            for (answers, expected) in [(right, true), (wrong, false)] {
                for answer in answers {
                    let answer = &answer[..answer.len().min(protocol.needs())];
                    assert_eq!(protocol.begins(answer), expected, "{protocol:?}: {answer:?}");
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_is_as_it_was() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("rediss://{}", listener.local_addr().unwrap());
        let suspect = Suspect::of(&probe(ProbeKind::Redis, &target), ProbeFailure::Timeout, tls::HANDSHAKE);
        let (suspect, finding) = (suspect.unwrap(), Finding::default());
        assert!(finding.judge(&suspect).await.is_none());

        let answer = async {
            // The first one has gone.
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.write_all(b"-NOAUTH Authentication required.\r\n").await;
            }
        };
        let (found, ()) = tokio::join!(finding.judge(&suspect), answer);
        assert!(found.is_some_and(|failure| failure.text.ends_with("speaks plain text, not TLS")));
        assert!(finding.judge(&suspect).await.is_some(), "it is silent, and spoke plain text before");
        finding.forget();
        assert!(finding.judge(&suspect).await.is_none());
    }
}
