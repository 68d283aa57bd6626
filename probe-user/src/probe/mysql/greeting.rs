//! A probe without a user: the greeting that a server sends on connect.

use std::time::Duration;

use super::{
    encryption::Encryption,
    failure::{Error, classify},
    login::{Greeting, Line, log_in_after},
    wire::Wire,
};
use crate::{
    config::{MysqlAccount, Probe},
    fact::{ProbeFailure, ProbeOutcome},
    probe::{bounded::Bounded, failure::Failure},
};

/// The longest wait for the refusal of the login. A server may delay it after many (`connection_control`).
const REFUSAL: Duration = Duration::from_millis(100);

/// Reads the greeting from a connection to `peer`, and ends the login in the way the protocol has for it.
///
/// A server counts a login that is broken off as an error of the client's host, and blocks the host after
/// `max_connect_errors` of them. It does not count a login that it refuses.
pub(super) async fn read(
    stream: Bounded,
    probe: &Probe,
    encryption: &Encryption<'_>,
) -> Result<ProbeOutcome, Failure> {
    let Encryption { peer, waiting, .. } = *encryption;
    waiting.set("the server's greeting");
    let mut wire = Wire::new(stream);
    match wire.read().await {
        Ok(packet) if Greeting::is(&packet) => {
            let Some(greeting) = Greeting::parse(&packet) else { return Ok(ProbeOutcome::Ok) };
            let (wire, is_encrypted) = match encryption.begin(&greeting, wire).await {
                Ok(changed) => changed,
                Err(error) => return classify(error, peer, probe.auth_is_alive),
            };
            let _ = tokio::time::timeout(REFUSAL, take_leave(wire, &greeting, is_encrypted)).await;
            Ok(ProbeOutcome::Ok)
        }
        Ok(_) => {
            Err(Failure::new(ProbeFailure::Protocol, format!("{peer} does not greet as a MySQL server does")))
        }
        Err(error) => classify(error, peer, probe.auth_is_alive),
    }
}

/// Logs in without a user name, which few servers allow.
async fn take_leave(mut wire: Wire, greeting: &Greeting, is_encrypted: bool) -> Result<(), Error> {
    let line = Line { is_open: true, is_encrypted };
    match log_in_after(greeting, &mut wire, &MysqlAccount::default(), line).await {
        Ok(()) => wire.quit().await,
        Err(_) => wire.closed().await,
    }
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
