//! The greeting that a server sends on connect.

use tokio::{io::AsyncReadExt, net::TcpStream};

use super::failure::refusal;
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome},
    probe::{Waiting, failure::Failure},
};

/// A greeting is some hundred bytes long; whatever claims to be much longer is none.
const PACKET_MAX: usize = 4096;

/// Reads the greeting from a connection to `peer`.
pub(super) async fn read(
    mut stream: TcpStream,
    peer: &str,
    probe: &Probe,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    waiting.set("the server's greeting");
    let failed = |error| Failure::io(&error, peer);
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.map_err(failed)?;
    let length = usize::from(header[0]) | usize::from(header[1]) << 8 | usize::from(header[2]) << 16;
    if length == 0 || length > PACKET_MAX {
        return Err(no_greeting(peer));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.map_err(failed)?;
    match payload.as_slice() {
        [10, ..] => Ok(ProbeOutcome::Ok),
        [0xff, low, high, words @ ..] => {
            let code = u16::from_le_bytes([*low, *high]);
            // Newer servers put an SQLSTATE of six characters before the words.
            let words = if words.first() == Some(&b'#') { words.get(6..).unwrap_or_default() } else { words };
            refusal(code, &String::from_utf8_lossy(words), peer, probe.auth_is_alive)
        }
        _ => Err(no_greeting(peer)),
    }
}

fn no_greeting(peer: &str) -> Failure {
    Failure::new(ProbeFailure::Protocol, format!("{peer} does not greet as a MySQL server does"))
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;
    use crate::{
        fact::ProbeKind,
        probe::{Clients, run_once, tests::probe},
    };

    /// Probes a listener that sends `packet` to whom it accepts, and closes.
    async fn fake_server(packet: &'static [u8]) -> ProbeOutcome {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("mysql://{}/", listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(packet).await.unwrap();
        };
        let clients = Clients::new().unwrap();
        let probe = probe(ProbeKind::Mysql, &target);
        tokio::join!(serve, run_once(&probe, &clients)).1.1
    }

    #[tokio::test]
    async fn a_greeting_of_protocol_10_is_well() {
        assert_eq!(fake_server(b"\x0a\0\0\0\x0a8.0.40\0\x01\0\0").await, ProbeOutcome::Ok);
    }

    #[tokio::test]
    async fn error_1040_is_too_many_connections_and_others_are_quoted() {
        let full = fake_server(b"\x17\0\0\0\xff\x10\x04Too many connections").await;
        let ProbeOutcome::Failed(ProbeFailure::TooManyConnections, text) = full else { panic!("{full:?}") };
        assert!(text.ends_with("error 1040: Too many connections"), "{text}");

        let blocked = fake_server(b"\x18\0\0\0\xff\x69\x04#HY000Host is blocked").await;
        let ProbeOutcome::Failed(ProbeFailure::Auth, text) = blocked else { panic!("{blocked:?}") };
        assert!(text.ends_with("error 1129: Host is blocked"), "{text}");
    }

    #[tokio::test]
    async fn an_invalid_greeting_is_a_protocol_failure() {
        let http = fake_server(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(matches!(http, ProbeOutcome::Failed(ProbeFailure::Protocol, _)), "{http:?}");
        let closed = fake_server(b"").await;
        assert!(matches!(closed, ProbeOutcome::Failed(ProbeFailure::Reset, _)), "{closed:?}");
        let cut = fake_server(b"\x0a\0\0\0\x0a8.0").await;
        assert!(matches!(cut, ProbeOutcome::Failed(ProbeFailure::Reset, _)), "{cut:?}");
    }
}
