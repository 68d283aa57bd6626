//! MySQL and MariaDB: logs in, runs `SELECT 1`, and reads the number of free connections.
//!
//! An address without a user asks for the server's greeting only, which needs no rights. The server counts each
//! such run in its status variable `Aborted_connects`. It does not count towards `max_connect_errors` over the
//! loopback interface; from another host it does, unless the server runs with `skip_name_resolve`.

mod failure;
mod greeting;
mod session;
mod usage;

use mysql_async::{Opts, OptsBuilder};

pub(super) use self::session::Session;
use super::{
    failure::Failure,
    progress::{Connection, Waiting},
    tcp, usage as limit,
};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome, ServerUsage},
};

const DEFAULT_PORT: u16 = 3306;

/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 16 << 20;

/// Reads the greeting, or logs in where the address names a user.
pub(super) async fn run(
    probe: &Probe,
    kept: &mut Option<Session>,
    server: &mut Option<ServerUsage>,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    let target = probe.target.expose();
    let peer = address(target);
    if !names_user(target) {
        let stream = tcp::connect(&peer, waiting).await?;
        return greeting::read(stream, &peer, probe, waiting).await;
    }
    let opts = options(target)
        .map_err(|why| Failure::new(ProbeFailure::Local, format!("{}: {why}", probe.target)))?;
    // A Unix socket connects or refuses at once.
    let over_tcp = opts.socket().is_none();
    waiting.connection(if over_tcp { Connection::Hidden(peer.clone()) } else { Connection::Made });
    login(opts, &peer, probe, kept, server, waiting).await
}

async fn login(
    opts: Opts,
    peer: &str,
    probe: &Probe,
    kept: &mut Option<Session>,
    server: &mut Option<ServerUsage>,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    waiting.set("the server to let us in");
    let mut session = match Session::open(opts).await {
        Ok(session) => session,
        Err(error) => return failure::classify(&error, peer, probe.auth_is_alive),
    };
    waiting.connection(Connection::Made);
    waiting.set("the result of SELECT 1");
    if let Err(error) = session.ping().await {
        return failure::classify(&error, peer, probe.auth_is_alive);
    }
    if probe.connections_percent.is_none() {
        *kept = Some(session);
        return Ok(ProbeOutcome::Ok);
    }
    waiting.set("the number of connections");
    let connections = match session.connections().await {
        Ok(Some(connections)) => connections,
        Ok(None) => {
            let text = format!("{peer} does not show how many connections are in use");
            return Err(Failure::new(ProbeFailure::Local, text));
        }
        Err(error) => return failure::classify(&error, peer, probe.auth_is_alive),
    };
    let usage = server.insert(ServerUsage { connections: Some(connections), ..ServerUsage::default() });
    let above = limit::above_limit(probe, connections);
    if above.is_some() {
        waiting.set("who holds the connections");
        // That there are too many is known; the names are an extra.
        usage.holders = session.holders().await.unwrap_or_default();
    }
    *kept = Some(session);
    match above {
        Some(percent) => Err(limit::too_many(peer, usage, percent)),
        None => Ok(ProbeOutcome::Ok),
    }
}

/// How the client library is to connect; what is wrong must not repeat any part of the address.
fn options(target: &str) -> Result<Opts, &'static str> {
    let opts = Opts::from_url(target).map_err(|_| "not a MySQL URL")?;
    if opts.ssl_opts().is_some() {
        return Err("the mysql probe cannot do TLS");
    }
    // What is given here is not asked for, which saves a query; and a probe of a port is to go to that port.
    let builder = OptsBuilder::from_opts(opts)
        .prefer_socket(false)
        .max_allowed_packet(Some(ANSWER_MAX))
        .wait_timeout(Some(28_800))
        .stmt_cache_size(Some(0));
    Ok(builder.into())
}

/// Whether a URL has a user.
fn names_user(target: &str) -> bool {
    reqwest::Url::parse(target).is_ok_and(|url| !url.username().is_empty())
}

/// `host:port` of a `mysql://` URL or of a bare address.
fn address(target: &str) -> String {
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    // The last colon of a bracketed IPv6 address is inside the brackets.
    if has_port && !host.ends_with(']') { host.to_owned() } else { format!("{host}:{DEFAULT_PORT}") }
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

    #[test]
    fn an_address_has_the_usual_port() {
        assert_eq!(address("mysql://probe:s3c@db/orders?x=y"), "db:3306");
        assert_eq!(address("mysql://[::1]/"), "[::1]:3306");
        assert_eq!(address("mysql://[::1]:3307/"), "[::1]:3307");
        assert_eq!(address("127.0.0.1:3307"), "127.0.0.1:3307");
    }

    #[test]
    fn only_a_named_user_logs_in() {
        assert!(names_user("mysql://probe@db/"));
        assert!(!names_user("mysql://db/"));
        assert!(!names_user("127.0.0.1:3307"));
    }

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

    #[test]
    fn tls_is_refused_and_a_wrong_url_is_not_repeated() {
        assert!(options("mysql://u:s3cret@h/?require_ssl=true").unwrap_err().contains("TLS"));
        assert_eq!(options("mysql://u:s3cret@h/?color=red").unwrap_err(), "not a MySQL URL");
        assert!(options("mysql://u:s3cret@h/d").is_ok());
    }
}
