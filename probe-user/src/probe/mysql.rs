//! MySQL and MariaDB: can one log in and run `SELECT 1`, and how many connections are left?
//!
//! An address without a user needs no rights. Over the loopback interface the probe reads the server's greeting. From
//! another address it only finds out whether the port is open, by a connection that the server never gets to see.

mod encryption;
mod failure;
mod greeting;
mod login;
mod report;
mod session;
mod usage;
mod wire;

use std::time::Duration;

use self::{
    encryption::Encryption,
    failure::is_limit,
    session::{LOGIN, Session},
};
use super::{bounded::Bounded, failure::Failure, progress::Waiting, tcp, tls::Tls, unix, usage as limit};
use crate::{
    config::{MysqlAccount, MysqlAddress, Probe, TlsMode},
    fact::{ProbeFailure, ProbeOutcome, ServerUsage},
};

/// A server notices within a few milliseconds that a session has ended; these are the waits before a login is tried again.
const GIVEN_BACK: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(40), Duration::from_millis(160)];

/// What is kept from one run to the next.
#[derive(Debug, Default)]
pub(super) struct Kept {
    session: Option<Session>,
    /// The account has so few connections that the probe takes only one at a time.
    is_limited: bool,
    reported: report::Reported,
}

impl Kept {
    pub(super) fn close(&mut self) {
        self.session = None;
    }

    pub(super) async fn usage(&mut self) -> Option<ServerUsage> {
        self.session.as_mut()?.usage().await
    }

    fn keep(&mut self, session: Session) {
        self.session = Some(session).filter(|_| !self.is_limited);
    }
}

/// Reads the greeting, or logs in where the address names a user.
pub(super) async fn run(
    probe: &Probe,
    tls: &Tls,
    kept: &mut Kept,
    server: &mut Option<ServerUsage>,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    let mut outcome = connect(probe, tls, kept, server, waiting).await;
    if kept.is_limited && matches!(&outcome, Err(failure) if failure.kind == ProbeFailure::AccountLimit) {
        // The session that the probe keeps, or that of its latest run, may be what takes the last connection.
        kept.session = None;
        for wait in GIVEN_BACK {
            tokio::time::sleep(wait).await;
            outcome = connect(probe, tls, kept, server, waiting).await;
            if outcome.is_ok() {
                break;
            }
        }
    }
    outcome
}

async fn connect(
    probe: &Probe,
    tls: &Tls,
    kept: &mut Kept,
    server: &mut Option<ServerUsage>,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    let address = MysqlAddress::parse(probe.target.expose())
        .map_err(|_| Failure::new(ProbeFailure::CannotAsk, format!("{}: not a MySQL URL", probe.target)))?;
    let (mode, options) = address.tls.clone().resolve(probe.tls.as_ref(), &address.host);
    let peer = address.socket.as_ref().unwrap_or(&address.peer);
    let encryption = Encryption { tls, mode, options: &options, host: &address.host, peer, waiting };
    if let Some(name) = &address.socket {
        let stream = Bounded::new(unix::connect(name, waiting).await?);
        let asking = Asking { stream, encryption, over_tcp: false, probe, waiting };
        return ask(asking, &address, kept, server).await;
    }
    // Without a user the port is asked for, unless TLS is to be proved.
    if address.account.is_none() && matches!(mode, TlsMode::Disable | TlsMode::Allow | TlsMode::Prefer) {
        let addresses = tcp::resolve(peer, waiting).await?;
        if !addresses.iter().all(|address| address.ip().is_loopback()) {
            return tcp::connect_unseen(addresses, peer, waiting).await.map(|()| ProbeOutcome::Ok);
        }
    }
    let stream = Bounded::new(tcp::connect(peer, waiting).await?);
    ask(Asking { stream, encryption, over_tcp: true, probe, waiting }, &address, kept, server).await
}

struct Asking<'a> {
    stream: Bounded,
    encryption: Encryption<'a>,
    over_tcp: bool,
    probe: &'a Probe,
    waiting: &'a Waiting,
}

async fn ask(
    asking: Asking<'_>,
    address: &MysqlAddress,
    kept: &mut Kept,
    server: &mut Option<ServerUsage>,
) -> Result<ProbeOutcome, Failure> {
    match &address.account {
        None => greeting::read(asking.stream, asking.probe, &asking.encryption).await,
        Some(account) => log_in(asking, account, kept, server).await,
    }
}

async fn log_in(
    asking: Asking<'_>,
    account: &MysqlAccount,
    kept: &mut Kept,
    server: &mut Option<ServerUsage>,
) -> Result<ProbeOutcome, Failure> {
    let Asking { stream, encryption, over_tcp, probe, waiting } = asking;
    let peer = encryption.peer;
    waiting.set(LOGIN);
    let mut session = match Session::open(stream, account, &encryption, over_tcp).await {
        Ok(session) => session,
        Err(error) => {
            kept.is_limited |= is_limit(&error);
            return failure::classify(error, peer, probe.auth_is_alive);
        }
    };
    waiting.set("the result of SELECT 1");
    if let Err(error) = session.ping().await {
        return failure::classify(error, peer, probe.auth_is_alive);
    }
    let usage = server.get_or_insert_default();
    let mut above = None;
    if probe.connections_percent.is_some() {
        waiting.set("the number of connections");
        let connections = match session.connections().await {
            Ok(Some(connections)) => connections,
            Ok(None) => {
                let text = format!("{peer} does not show how many connections are in use");
                return Err(Failure::new(ProbeFailure::Rejected, text));
            }
            Err(error) => return failure::classify(error, peer, probe.auth_is_alive),
        };
        usage.connections = Some(connections);
        above = limit::above_limit(probe, connections);
    }
    if above.is_some() {
        waiting.set("who holds the connections");
        // That there are too many is known; the names are an extra.
        usage.holders = session.holders().await.unwrap_or_default();
    }
    let asking = report::ask(&mut session, probe, &mut kept.reported, &mut usage.report);
    let complaint = match tokio::time::timeout(limit::report_time(probe), asking).await {
        Ok(Ok(complaint)) => {
            kept.keep(session);
            complaint
        }
        // The server works: a report that takes long, or that breaks off, is no failure. Its session is closed with it.
        Ok(Err(_)) | Err(_) => None,
    };
    match (above, complaint) {
        (Some(percent), _) => Err(limit::too_many(peer, usage, percent)),
        (None, Some((kind, words))) => Err(Failure::new(kind, format!("{peer} {words}"))),
        (None, None) => Ok(ProbeOutcome::Ok),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;
    use crate::{
        fact::ProbeKind,
        probe::{Clients, run_once, tests::probe},
    };

    async fn outcome(target: std::net::SocketAddr) -> (ProbeFailure, String) {
        let mut probe = probe(ProbeKind::Mysql, &format!("mysql://probe:s3cret@{target}/"));
        probe.timeout = Duration::from_millis(50);
        let outcome = run_once(&probe, &Clients::new().unwrap()).await.1;
        let ProbeOutcome::Failed(kind, text) = outcome else { panic!("{outcome:?}") };
        assert!(!text.contains("s3cret"), "{text}");
        (kind, text)
    }

    #[tokio::test]
    async fn a_login_timeout_reports_whether_it_was_connected() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (kind, text) = outcome(silent.local_addr().unwrap()).await;
        assert_eq!(kind, ProbeFailure::Timeout, "{text}");
        assert!(text.ends_with("still waiting for the server to let us in"), "{text}");

        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let _fill = (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
        assert_eq!(outcome(address).await.0, ProbeFailure::ConnectTimeout);

        drop(listener);
        assert_eq!(outcome(address).await.0, ProbeFailure::Refused);
    }

    #[tokio::test]
    async fn a_login_that_takes_too_long_leaves_no_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert_eq!(outcome(listener.local_addr().unwrap()).await.0, ProbeFailure::Timeout);
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = Vec::new();
        // The end comes only when the other side closes.
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut said).await.unwrap();
    }
}
