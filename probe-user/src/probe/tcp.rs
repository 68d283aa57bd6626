//! TCP: does it accept a connection?

use std::path::Path;

use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::{
    failure::Failure,
    progress::{Connection, Waiting},
};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome},
};

/// Connects to `host:port`, and closes.
pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    connect(probe.target.expose(), waiting).await?;
    Ok(ProbeOutcome::Ok)
}

/// Connects to a Unix socket.
pub(super) async fn connect_unix(path: &Path, waiting: &Waiting) -> Result<UnixStream, Failure> {
    waiting.set("the connection to be accepted");
    let connected = UnixStream::connect(path).await;
    let stream = connected.map_err(|error| Failure::connect(&error, &path.display().to_string()))?;
    waiting.connection(Connection::Made);
    Ok(stream)
}

/// Connects to the first address of `host:port` that accepts.
pub(super) async fn connect(target: &str, waiting: &Waiting) -> Result<TcpStream, Failure> {
    waiting.set("the name to resolve");
    waiting.connection(Connection::Resolving);
    let addresses = lookup_host(target).await.map_err(|error| {
        Failure::new(ProbeFailure::Dns, format!("the name in {target} does not resolve: {error}"))
    })?;
    waiting.set("the connection to be accepted");
    waiting.connection(Connection::Missing);
    let mut failure = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                waiting.connection(Connection::Made);
                return Ok(stream);
            }
            Err(error) => failure = Some(Failure::connect(&error, &address.to_string())),
        }
    }
    Err(failure
        .unwrap_or_else(|| Failure::new(ProbeFailure::Dns, format!("the name in {target} has no address"))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        fact::ProbeKind,
        probe::{Clients, run_once, tests::probe},
    };

    #[tokio::test]
    async fn a_listener_is_well_and_its_absence_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients = Clients::new().unwrap();
        let probe = probe(ProbeKind::Tcp, &address.to_string());

        assert_eq!(run_once(&probe, &clients).await.1, ProbeOutcome::Ok);

        drop(listener);
        let (took, outcome) = run_once(&probe, &clients).await;
        let text = format!("connection refused by {address}: nothing listens there");
        assert_eq!(outcome, ProbeOutcome::Failed(ProbeFailure::Refused, text));
        assert!(took < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_name_that_cannot_exist_is_dns() {
        let clients = Clients::new().unwrap();
        let (_, outcome) = run_once(&probe(ProbeKind::Tcp, "no-such-host.invalid:80"), &clients).await;
        assert!(matches!(outcome, ProbeOutcome::Failed(ProbeFailure::Dns, _)), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_full_accept_queue_times_out_in_connect() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        // A backlog of one holds two; what connects beyond that is not answered.
        let _fill = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        let mut probe = probe(ProbeKind::Tcp, &address.to_string());
        probe.timeout = Duration::from_millis(50);

        let (_, outcome) = run_once(&probe, &Clients::new().unwrap()).await;
        let ProbeOutcome::Failed(ProbeFailure::ConnectTimeout, text) = outcome else { panic!("{outcome:?}") };
        assert!(text.contains("still waiting for the connection to be accepted"), "{text}");
    }
}
