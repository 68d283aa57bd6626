//! What a `tcp`, `unix` or `udp` probe sends, and whether the answer is the expected one.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    bounded::{Bounded, Socket},
    failure::Failure,
    progress::Waiting,
};
use crate::{
    config::{Exchange, Expected, Place},
    fact::{ProbeFailure, ProbeOutcome},
    redact::redact_bytes,
};

/// The part of an answer in which bytes are sought: what a datagram may hold, and more than a greeting has.
pub(super) const ANSWER_MAX: usize = 64 << 10;

/// The part of a wrong answer that a failure shows.
const SHOWN_MAX: usize = 120;

/// The part of a wrong answer in which secrets are sought: one that begins in the part that is shown may end behind it.
const SEARCHED_MAX: usize = 4096;

/// What is known of an answer that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Right,
    Wrong,
    Open,
}

/// Sends and reads over a connection to `peer`.
pub(super) async fn over_stream(
    exchange: &Exchange,
    stream: impl Into<Socket>,
    peer: &str,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    if exchange.is_empty() {
        return Ok(ProbeOutcome::Ok);
    }
    let failed = |error: io::Error| Failure::io(&error, peer);
    let mut stream = Bounded::new(stream);
    if let Some(bytes) = &exchange.send {
        waiting.set("the server to take what is sent");
        stream.write_all(bytes).await.map_err(failed)?;
    }
    waiting.set("the answer");
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut part).await.map_err(failed)?;
        if length == 0 && answer.is_empty() {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        answer.extend_from_slice(&part[..length]);
        match judge(exchange, &answer) {
            Judgement::Right => return Ok(ProbeOutcome::Ok),
            Judgement::Open if length > 0 && answer.len() < ANSWER_MAX => {
                let Failure { kind, text } = unexpected(exchange, &answer, peer);
                waiting.unexpected(kind, text);
            }
            Judgement::Open | Judgement::Wrong => return Err(unexpected(exchange, &answer, peer)),
        }
    }
}

/// Whether a datagram is the expected answer.
pub(super) fn of_datagram(exchange: &Exchange, answer: &[u8], peer: &str) -> Result<ProbeOutcome, Failure> {
    match judge(exchange, answer) {
        Judgement::Right => Ok(ProbeOutcome::Ok),
        Judgement::Open | Judgement::Wrong => Err(unexpected(exchange, answer, peer)),
    }
}

/// Without an expectation, any answer is right.
fn judge(exchange: &Exchange, answer: &[u8]) -> Judgement {
    let Some(Expected { place, bytes, .. }) = &exchange.expect else { return Judgement::Right };
    let is_right = match place {
        Place::Start => answer.starts_with(bytes),
        Place::Anywhere => memchr::memmem::find(answer, bytes).is_some(),
    };
    match place {
        _ if is_right => Judgement::Right,
        Place::Start if !bytes.starts_with(answer) => Judgement::Wrong,
        Place::Start | Place::Anywhere => Judgement::Open,
    }
}

fn unexpected(exchange: &Exchange, answer: &[u8], peer: &str) -> Failure {
    let expected = exchange.expect.as_ref().map(ToString::to_string).unwrap_or_default();
    let length = answer.len();
    let answer = redact_bytes(&answer[..length.min(SEARCHED_MAX)]);
    let begin = &answer[..answer.len().min(SHOWN_MAX)];
    let more = if answer.len() > begin.len() || length > SEARCHED_MAX { "…" } else { "" };
    let got = format!("\"{}\"{more}", begin.escape_ascii());
    Failure::new(
        ProbeFailure::Body,
        format!("expected an answer of {peer} that {expected}, got {got} ({length} bytes)"),
    )
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, UdpSocket, UnixListener},
    };

    use super::*;
    use crate::{
        config::Probe,
        fact::ProbeKind,
        probe::{Clients, run_once, tests::probe},
        redact,
    };

    fn exchange(send: &[u8], place: Place, expect: &[u8]) -> Exchange {
        let shown = String::from_utf8_lossy(expect).into_owned();
        let mut exchange = Exchange::default();
        exchange.send = Some(send.to_vec()).filter(|send| !send.is_empty());
        exchange.expect = (!expect.is_empty()).then(|| Expected { place, bytes: expect.to_vec(), shown });
        exchange
    }

    /// What a probe makes of a TCP server that sends these parts, and then closes.
    async fn answered(exchange: Exchange, parts: &'static [&'static [u8]]) -> ProbeOutcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let is_spoken_to = exchange.send.is_some();
        let probe = Probe { exchange, ..probe(ProbeKind::Tcp, &target) };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            if is_spoken_to {
                assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
            }
            for part in parts {
                // The probe may have closed already.
                let _ = stream.write_all(part).await;
                let _ = stream.flush().await;
            }
        };
        let clients = Clients::new().unwrap();
        let ((_, outcome), ()) = tokio::join!(run_once(&probe, &clients), serve);
        outcome
    }

    fn failed(outcome: ProbeOutcome) -> (ProbeFailure, String) {
        let ProbeOutcome::Failed(failure, text) = outcome else { panic!("{outcome:?}") };
        (failure, text)
    }

    #[tokio::test]
    async fn an_answer_is_right_as_soon_as_it_has_what_is_expected() {
        let ok = ProbeOutcome::Ok;
        assert_eq!(answered(exchange(b"PING", Place::Start, b"+PONG"), &[b"+PO", b"NG\r\n"]).await, ok);
        assert_eq!(answered(exchange(b"x", Place::Anywhere, b"well"), &[b"all is we", b"ll"]).await, ok);
        assert_eq!(answered(exchange(b"", Place::Start, b"220 "), &[b"220 mail"]).await, ok, "a greeting");
        assert_eq!(answered(exchange(b"x", Place::Start, b""), &[b"?"]).await, ok, "any answer");
    }

    #[tokio::test]
    async fn a_wrong_answer_is_shown_escaped_and_silence_is_a_reset() {
        let (failure, text) =
            failed(answered(exchange(b"x", Place::Start, b"+OK"), &[b"+O", b"H\x1b[2J"]).await);
        assert_eq!(failure, ProbeFailure::Body);
        assert!(text.contains(r#"that begins with "+OK", got "+OH\x1b[2J" (7 bytes)"#), "{text}");
        let (failure, text) = failed(answered(exchange(b"x", Place::Anywhere, b"+OK"), &[b"no"]).await);
        assert!(failure == ProbeFailure::Body && text.contains(r#"contains "+OK", got "no""#), "{text}");
        let (failure, _) = failed(answered(exchange(b"x", Place::Anywhere, b"+OK"), &[]).await);
        assert_eq!(failure, ProbeFailure::Reset);
    }

    #[tokio::test]
    async fn an_answer_without_what_is_expected_is_wrong_also_if_the_connection_stays_open() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let exchange = exchange(b"", Place::Anywhere, b"+OK");
        let mut probe = Probe { exchange, ..probe(ProbeKind::Tcp, &target) };
        probe.timeout = std::time::Duration::from_millis(100);
        let clients = Clients::new().unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"-no").await.unwrap();
            stream
        };
        let (_open, (_, outcome)) = tokio::join!(serve, run_once(&probe, &clients));
        let (failure, text) = failed(outcome);
        assert!(failure == ProbeFailure::Body && text.contains(r#"got "-no""#), "{text}");
    }

    #[tokio::test]
    async fn an_answer_without_end_is_read_up_to_a_bound() {
        const PART: &[u8] = &[b'x'; 8192];
        let (failure, text) = failed(answered(exchange(b"x", Place::Anywhere, b"ok"), &[PART; 64]).await);
        assert_eq!(failure, ProbeFailure::Body);
        assert!(text.len() < 400 && text.contains("\"…"), "{text}");
    }

    #[test]
    fn an_answer_that_repeats_a_secret_is_shown_without_it() {
        redact::remember(["S3cr/et-exch-42".to_owned()]);
        let sent = exchange(b"AUTH S3cr/et-exch-42", Place::Start, b"+OK");
        let long = [&[b'x'; 100][..], b"dTpTM2NyL2V0LWV4Y2gtNDI= and more"].concat();
        let across = [&[b'x'; SHOWN_MAX - 5][..], b"S3cr/et-exch-42"].concat();
        let endless = [&[b'x'; SHOWN_MAX - 5][..], br"S3cr\/et-exch\u002d42", &[b'y'; SEARCHED_MAX]].concat();
        for answer in [
            &b"-no user S3cr/et-exch-42, sorry"[..],
            b"-no \xff\xfe S3cr/et-exch-42",
            b"-no user s3CR/ET-EXCH-42",
            b"-no user S3cr/et-exch-4 here",
            b"-no user S3cr/e",
            br#"{"got": "S3cr\/et-exch-42"}"#,
            br#"{"got": "\u0053\u0033cr/et-exch-42"}"#,
            br"{got: S3cr\/et\u00",
            b"-no S3cr%2Fet-exch-42",
            b"-no 533363722f65742d657863682d3432",
            b"-no UzNjci9ldC1leGNoLTQy",
            &long,
            &across,
            &endless,
            br#"{"password": "another", "x": 1}"#,
        ] {
            let text = unexpected(&sent, answer, "h:1").text;
            assert!(text.contains("***"), "{text}");
            for part in ["3cr", "3CR", "u0053", "exch", "EXCH", "333637", "dTpTM", "NjciO", "another"] {
                assert!(!text.contains(part), "{part} of {text}");
            }
        }
        let text = unexpected(&sent, b"-no S3c or sect", "h:1").text;
        assert!(text.contains(r#""-no S3c or sect" (15 bytes)"#), "{text}");
    }

    #[tokio::test]
    async fn a_datagram_is_answered_refused_or_lost() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap().to_string();
        let clients = Clients::new().unwrap();
        let mut probe =
            Probe { exchange: exchange(b"?", Place::Start, b"!"), ..probe(ProbeKind::Udp, &target) };
        for (answer, expected) in [(b"!ok", None), (b"?no", Some(ProbeFailure::Body))] {
            let serve = async {
                let (_, peer) = server.recv_from(&mut [0; 8]).await.unwrap();
                server.send_to(answer, peer).await.unwrap();
            };
            let ((), (_, outcome)) = tokio::join!(serve, run_once(&probe, &clients));
            match expected {
                None => assert_eq!(outcome, ProbeOutcome::Ok),
                Some(expected) => assert_eq!(failed(outcome).0, expected),
            }
        }
        probe.timeout = std::time::Duration::from_millis(50);
        let (failure, text) = failed(run_once(&probe, &clients).await.1);
        assert_eq!(failure, ProbeFailure::Timeout);
        assert!(text.contains("still waiting for the answer"), "{text}");
        drop(server);
        assert_eq!(failed(run_once(&probe, &clients).await.1).0, ProbeFailure::Refused, "ICMP");
    }

    #[tokio::test]
    async fn a_unix_socket_has_a_path_or_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let clients = Clients::new().unwrap();
        let named = format!("hostprobe-test-{}", std::process::id());
        for target in [path.display().to_string(), format!("@{named}")] {
            let listener = match target.strip_prefix('@') {
                Some(name) => UnixListener::bind(format!("\0{name}")),
                None => UnixListener::bind(&path),
            };
            let listener = listener.unwrap();
            let probe =
                Probe { exchange: exchange(b"?", Place::Start, b"!"), ..probe(ProbeKind::Unix, &target) };
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 1);
                stream.write_all(b"!").await.unwrap();
            };
            let ((), (_, outcome)) = tokio::join!(serve, run_once(&probe, &clients));
            assert_eq!(outcome, ProbeOutcome::Ok, "{target}");
            drop(listener);
            let (failure, text) = failed(run_once(&probe, &clients).await.1);
            assert_eq!(failure, ProbeFailure::Refused);
            assert!(text.contains(&target), "{text}");
        }
    }
}
