//! HTTP probes against servers that answer as a test says.

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
    let trusts = |target: &str| probe(ProbeKind::Http, target).trusts_the_hosts_store();
    for plain in ["http://127.0.0.1/", "not a url", "http+unix://%2Frun%2Fa.sock/"] {
        assert!(!trusts(plain), "{plain}");
    }
    assert!(trusts("https://127.0.0.1/"));
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
async fn a_head_that_is_too_large_is_no_other_protocol() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(80 << 10));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    for answer in [long, many] {
        let answer: &'static [u8] = Vec::leak(answer.into_bytes());
        let (kind, text) = failure(fake_server(answer, |_| {}).await);
        assert_eq!(kind, ProbeFailure::Protocol, "{text}");
        assert!(text.contains("head that is larger than 64 KiB, or has more than 100 fields"), "{text}");
    }
    let most = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n", "x: y\r\n".repeat(99));
    assert_eq!(fake_server(Vec::leak(most.into_bytes()), |_| {}).await, ProbeOutcome::Ok);
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
    assert_eq!(failure(local).0, ProbeFailure::CannotAsk);
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probe = probe(ProbeKind::Http, &format!("http://{}/", listener.local_addr().unwrap()));
    probe.timeout = Duration::from_millis(50);
    let (took, outcome) = run_once(&probe, &Clients::new().unwrap()).await;
    let (kind, text) = failure(outcome);
    assert_eq!(kind, ProbeFailure::Timeout);
    assert!(text.ends_with("within 50ms: still waiting for the response on an open connection"), "{text}");
    assert!(took >= probe.timeout && took < Duration::from_secs(2));
}

/// What an endless server sends, again and again, after its first words.
async fn endless_server(
    first: &'static [u8],
    again: &'static [u8],
    pause: Duration,
    change: impl FnOnce(&mut Probe),
) -> (Duration, ProbeOutcome, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probe = probe(ProbeKind::Http, &format!("http://{}/", listener.local_addr().unwrap()));
    probe.timeout = Duration::from_secs(2);
    change(&mut probe);
    let serve = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(first).await;
        let mut sent = 0;
        // Timers have a millisecond's grain: what has no pause comes in large parts.
        let again = if pause.is_zero() { again.repeat(200) } else { again.to_vec() };
        while stream.write_all(&again).await.is_ok() {
            sent += again.len();
            tokio::time::sleep(pause).await;
            if sent > 64 << 20 {
                break;
            }
        }
        sent
    });
    let (took, outcome) = run_once(&probe, &Clients::new().unwrap()).await;
    (took, outcome, serve.await.unwrap())
}

/// A socket's buffers take some more than what was read.
const BUFFERS: usize = 16 << 20;

#[tokio::test]
async fn a_body_without_end_behind_a_right_status_is_healthy() {
    let stream = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let (took, outcome, _) =
        endless_server(stream, b"data: tick\n\n", Duration::from_millis(20), |_| {}).await;
    assert_eq!(outcome, ProbeOutcome::Ok);
    assert!(took < Duration::from_secs(1), "{took:?}");
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let (_, outcome, sent) = endless_server(chunked, b"1\r\nx\r\n", Duration::ZERO, |_| {}).await;
    assert_eq!(outcome, ProbeOutcome::Ok);
    assert!(sent < BUFFERS, "{sent}");
    let silent = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
    let (_, outcome, _) = endless_server(silent, b"x", Duration::from_secs(3), |_| {}).await;
    assert_eq!(outcome, ProbeOutcome::Ok, "no more of a body is read than is needed");
}

#[tokio::test]
async fn a_text_is_found_in_a_body_without_end_and_its_absence_is_no_hang() {
    let stream = b"HTTP/1.1 200 OK\r\n\r\n";
    let wanted = |text: &'static str| {
        move |probe: &mut Probe| {
            probe.expect_body = Some(text.to_owned());
            probe.timeout = Duration::from_millis(500);
        }
    };
    let pause = Duration::from_millis(20);
    let (_, outcome, _) = endless_server(stream, b"data: tick\n\n", pause, wanted("ck\n\nda")).await;
    assert_eq!(outcome, ProbeOutcome::Ok, "it lies across two parts");
    let (kind, text) = failure(endless_server(stream, b"data: tick\n\n", pause, wanted("ready")).await.1);
    assert_eq!(kind, ProbeFailure::Body, "{text}");
    assert!(text.ends_with("within 500ms, and no end of it"), "{text}");
    let (_, outcome, sent) = endless_server(stream, &[b'x'; 4096], Duration::ZERO, wanted("ready")).await;
    assert_eq!(failure(outcome).0, ProbeFailure::Body);
    assert!(sent < BUFFERS, "{sent}");
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let (_, outcome, _) = endless_server(half, b"x", Duration::from_secs(3), wanted("ready")).await;
    assert_eq!(failure(outcome).0, ProbeFailure::Timeout, "it has stopped in the middle");
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_bounded() {
    for again in [
        &b"HTTP/1.1 100 Continue\r\n\r\n"[..],
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let (took, outcome, sent) = endless_server(b"", again, Duration::ZERO, |_| {}).await;
        let (kind, text) = failure(outcome);
        assert_eq!(kind, ProbeFailure::Protocol, "{text}");
        assert!(took < Duration::from_secs(1) && sent < BUFFERS, "{took:?}, {sent} bytes");
    }
    for (first, again) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], &b"x-more: yes\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\nx-long: ", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        (b"HTTP/1.1 200 ", b"OK OK OK OK OK OK OK OK OK OK OK OK "),
    ] {
        let (took, outcome, sent) = endless_server(first, again, Duration::ZERO, |_| {}).await;
        let (kind, text) = failure(outcome);
        assert_eq!(kind, ProbeFailure::Protocol, "{text}");
        assert!(took < Duration::from_secs(1) && sent < BUFFERS, "{took:?}, {sent} bytes");
    }
}

#[tokio::test]
async fn interim_responses_without_end_are_few_however_slowly_they_come() {
    let again = b"HTTP/1.1 100 Continue\r\n\r\n";
    let (took, outcome, sent) = endless_server(b"", again, Duration::from_millis(20), |_| {}).await;
    let (kind, text) = failure(outcome);
    assert_eq!(kind, ProbeFailure::Protocol, "{text}");
    assert!(took < Duration::from_secs(1) && sent < 40 * again.len(), "{took:?}, {sent} bytes");
}

#[tokio::test]
async fn a_few_interim_responses_are_passed_over() {
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(fake_server(answer, |_| {}).await, ProbeOutcome::Ok);
}

#[tokio::test]
async fn a_service_that_refuses_the_probe_is_told_from_one_that_fails() {
    for (status, expected) in [
        ("401 Unauthorized", ProbeFailure::Auth),
        ("403 Forbidden", ProbeFailure::Auth),
        ("404 Not Found", ProbeFailure::Rejected),
        ("421 Misdirected Request", ProbeFailure::Rejected),
        ("429 Too Many Requests", ProbeFailure::Busy),
        ("502 Bad Gateway", ProbeFailure::Upstream),
        ("500 Internal Server Error", ProbeFailure::Status),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(failure(fake_server(answer.as_bytes(), |_| {}).await).0, expected, "{status}");
    }
    let (first, words) = (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"no healthy upstream");
    let (_, outcome, _) = endless_server(first, words, Duration::from_millis(20), |_| {}).await;
    assert_eq!(failure(outcome).0, ProbeFailure::Upstream, "its first words are enough");
}
