//! Servers that never end their answer: what they send is bounded, in bytes and in reads, whatever the protocol.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{Clients, TEXT_MAX, bounded::BUDGET, run_once, tests::probe};
use crate::fact::{ProbeFailure, ProbeKind, ProbeOutcome};

/// Beside what a probe reads, this much fits into the buffers of the two sockets.
const BUFFERS: usize = 16 << 20;

/// The number of bytes that a server gets rid of, and the failure: it gives these answers and then copies of `part`.
async fn endless(
    kind: ProbeKind,
    target: &str,
    exchange: &[&[u8]],
    part: &[u8],
) -> (usize, ProbeFailure, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target.replace("ADDRESS", &listener.local_addr().unwrap().to_string());
    let mut probe = probe(kind, &target);
    probe.timeout = Duration::from_secs(20);
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for (nth, answer) in exchange.iter().enumerate() {
            // The MySQL server speaks first, the others are spoken to.
            if nth > 0 || kind != ProbeKind::Mysql {
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
            }
            stream.write_all(answer).await.unwrap();
        }
        let mut sent = 0;
        while stream.write_all(part).await.is_ok() {
            sent += part.len();
            tokio::task::yield_now().await;
        }
        sent
    };
    let begun = Instant::now();
    let clients = Clients::new().unwrap();
    let (sent, (_, outcome)) = tokio::join!(serve, run_once(&probe, &clients));
    let ProbeOutcome::Failed(failure, text) = outcome else { panic!("{outcome:?}") };
    assert!(begun.elapsed() < probe.timeout, "it ends before its timeout: {text}");
    (sent, failure, text)
}

async fn is_bounded(kind: ProbeKind, target: &str, exchange: &[&[u8]], part: &[u8]) {
    let (sent, failure, text) = endless(kind, target, exchange, part).await;
    assert_eq!(failure, ProbeFailure::Protocol, "{text}");
    assert!(sent <= BUDGET + BUFFERS, "{sent} bytes");
}

/// 4 KiB of copies of a message.
fn many(message: &[u8]) -> Vec<u8> {
    message.repeat(4096 / message.len())
}

/// Let in, the process 7 and its key, ready.
const LET_IN: &[u8] = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x07\0\0\0\0Z\0\0\0\x05I";

/// A note that is allowed at any time.
const NOTICE: &[u8] = b"N\0\0\0\x15SNOTE\0C00000\0Mm\0\0";

/// A column named `n`.
const COLUMN: &[u8] = b"T\0\0\0\x1a\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\0\0\0\0\0\0";

#[tokio::test]
async fn a_postgres_server_cannot_make_a_probe_read_without_end() {
    let target = "postgres://u@ADDRESS/d";
    let part = |exchange: &'static [&'static [u8]], part: Vec<u8>| async move {
        is_bounded(ProbeKind::Postgres, target, exchange, &part).await;
    };
    part(&[b"E\x7f\xff\xff\xff"], vec![b'x'; 4096]).await;
    part(&[b"R\x7f\xff\xff\xff"], vec![b'x'; 4096]).await;
    part(&[b""], many(NOTICE)).await;
    // One without its code.
    part(&[b""], many(b"N\0\0\0\x0bSNOTE\0\0")).await;
    part(&[b"R\0\0\0\x08\0\0\0\0"], many(b"S\0\0\0\x08a\0b\0")).await;
    part(&[LET_IN, COLUMN], many(b"D\0\0\0\x0b\0\x01\0\0\0\x011")).await;
    part(&[LET_IN, COLUMN], many(b"D\0\0\0\x06\0\0")).await;
    part(&[LET_IN], many(NOTICE)).await;
}

/// A greeting of MySQL 8 with `mysql_native_password`.
const GREETING: &[u8] =
    b"\x4a\0\0\0\x0a8.0.40\0\x01\0\0\0abcdefgh\0\xff\xff\x2d\x02\0\x0f\0\x15\0\0\0\0\0\0\0\0\0\0\
    ijklmnopqrst\0mysql_native_password\0";

const OK: &[u8] = b"\x07\0\0\x02\0\0\0\x02\0\0\0";

#[tokio::test]
async fn a_mysql_server_cannot_make_a_probe_read_without_end() {
    let target = "mysql://u:p@ADDRESS/";
    let part = |exchange: &'static [&'static [u8]], part: Vec<u8>| async move {
        is_bounded(ProbeKind::Mysql, target, exchange, &part).await;
    };
    part(&[b"\xff\xff\xff\0\x0a"], vec![b'x'; 4096]).await;
    part(&[b"\xff\xff\0\0\x0a"], vec![b'x'; 4096]).await;
    part(&[GREETING], many(b"\x02\0\0\x02\x01\x03")).await;
    part(&[GREETING], many(b"\x1b\0\0\x02\xfemysql_native_password\0abc\0")).await;
    part(&[GREETING, OK], many(b"\xff\xff\xff\x01x")).await;
    // 2⁶⁴ − 1 columns, and then 16 of them; rows of one column.
    part(&[GREETING, OK], many(b"\x09\0\0\x01\xfe\xff\xff\xff\xff\xff\xff\xff\xff")).await;
    part(&[GREETING, OK, b"\x01\0\0\x01\x10"], many(b"\x04\0\0\x02\x03def")).await;
    let result: &[u8] = b"\x01\0\0\x01\x01\x04\0\0\x02\x03def\x05\0\0\x03\xfe\0\0\x02\0";
    let rows = many(b"\x02\0\0\x04\x011");
    is_bounded(ProbeKind::Mysql, target, &[GREETING, OK, result], &rows).await;
}

#[tokio::test]
async fn a_redis_server_cannot_make_a_probe_read_without_end() {
    let part =
        |part: Vec<u8>| async move { is_bounded(ProbeKind::Redis, "redis://ADDRESS", &[b""], &part).await };
    part(b"$2147483647\r\n".to_vec()).await;
    part(b"$9223372036854775807\r\n".to_vec()).await;
    part(vec![b'+'; 4096]).await;
    part(many(b"*1\r\n")).await;
    part(many(b"%1\r\n")).await;
}

#[tokio::test]
async fn the_words_of_a_server_are_kept_in_part() {
    let long = [b"-ERR ".to_vec(), "ü".repeat(100_000).into_bytes(), b"\r\n".to_vec()].concat();
    let (_, _, text) = endless(ProbeKind::Redis, "redis://ADDRESS", &[&long], b"x").await;
    assert!(text.contains("ERR üü") && text.len() <= TEXT_MAX, "{} bytes", text.len());
}

#[tokio::test]
async fn single_bytes_cost_no_more_than_many() {
    let (sent, _, text) = endless(ProbeKind::Redis, "redis://ADDRESS", &[b""], b"+").await;
    assert!(sent < BUDGET, "{sent} bytes: {text}");
}

#[tokio::test]
async fn a_drip_ends_with_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        while stream.write_all(b"N").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut probe = probe(ProbeKind::Postgres, &format!("postgres://u@{address}/d"));
    probe.timeout = Duration::from_millis(300);
    let clients = Clients::new().unwrap();
    let ((), (took, outcome)) = tokio::join!(serve, run_once(&probe, &clients));
    assert!(outcome.is_timeout(), "{outcome:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}
