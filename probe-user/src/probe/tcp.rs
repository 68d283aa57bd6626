//! TCP: does it accept a connection, and does it answer what is expected?

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    task::JoinSet,
    time::timeout,
};

use super::{
    exchange,
    failure::Failure,
    progress::{Connection, Waiting},
};
use crate::{
    config::Probe,
    descriptors,
    fact::{ProbeFailure, ProbeOutcome},
};

/// Connects to `host:port`, exchanges bytes if there are any, and closes.
pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let target = probe.target.expose();
    let stream = connect(target, waiting).await?;
    exchange::over_stream(&probe.exchange, stream, target, waiting).await
}

/// Connects to an address of `host:port` that accepts.
pub(super) async fn connect(target: &str, waiting: &Waiting) -> Result<TcpStream, Failure> {
    connect_by(resolve(target, waiting).await?, target, Way::Usual, waiting).await
}

/// Connects to one address.
pub(super) async fn connect_at(address: SocketAddr, waiting: &Waiting) -> Result<TcpStream, Failure> {
    connect_by(vec![address], &address.to_string(), Way::Usual, waiting).await
}

/// Finds out whether a port is open, by a connection that its server never gets to see.
pub(super) async fn connect_unseen(
    addresses: Vec<SocketAddr>,
    target: &str,
    waiting: &Waiting,
) -> Result<(), Failure> {
    connect_by(addresses, target, Way::Unseen, waiting).await.map(drop)
}

#[derive(Clone, Copy)]
enum Way {
    Usual,
    /// The kernel delays its acknowledgement and then resets the connection, which ends before it is in the accept queue.
    Unseen,
}

/// The addresses of `host:port`.
pub(super) async fn resolve(target: &str, waiting: &Waiting) -> Result<Vec<SocketAddr>, Failure> {
    waiting.set("the name to resolve");
    waiting.connection(Connection::Resolving);
    let addresses = lookup_host(target).await.map_err(|error| {
        // The resolver may have no descriptors, memory or threads to ask with.
        let is_own = descriptors::is_shortage(&error);
        let kind = if is_own { ProbeFailure::Local } else { ProbeFailure::Dns };
        Failure::new(kind, format!("the name in {target} does not resolve: {error}"))
    })?;
    Ok(with_both_families(target, addresses.collect()))
}

/// The addresses, and the loopback address of the family that the host's files have no `localhost` for.
fn with_both_families(target: &str, mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (name, _) = target.rsplit_once(':').unwrap_or((target, ""));
    let Some(port) = addresses.first().map(SocketAddr::port).filter(|_| name == "localhost") else {
        return addresses;
    };
    for own in [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)] {
        if !addresses.iter().any(|address| address.is_ipv6() == own.is_ipv6()) {
            addresses.push(SocketAddr::new(own, port));
        }
    }
    addresses
}

async fn connect_by(
    addresses: Vec<SocketAddr>,
    target: &str,
    way: Way,
    waiting: &Waiting,
) -> Result<TcpStream, Failure> {
    waiting.set("the connection to be accepted");
    waiting.connection(Connection::Missing);
    let stagger = waiting.stagger();
    let stream = any_of(addresses, target, stagger, move |address| connect_to(address, way)).await?;
    waiting.connection(Connection::Made);
    Ok(stream)
}

/// The first trial of one of these addresses to succeed. Some of a name's addresses may lead nowhere, so that the next one
/// is tried beside an address that does not answer.
pub(super) async fn any_of<T, F>(
    addresses: Vec<SocketAddr>,
    target: &str,
    stagger: Duration,
    try_one: impl Fn(SocketAddr) -> F,
) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let mut failure = Failure::new(ProbeFailure::Dns, format!("the name in {target} has no address"));
    if let [address] = addresses[..] {
        return try_one(address).await;
    }
    let (mut addresses, mut trials, mut has_tried) = (addresses.into_iter(), JoinSet::new(), false);
    loop {
        match addresses.next() {
            Some(address) => drop(trials.spawn(try_one(address))),
            None if trials.is_empty() => return Err(failure),
            None => {}
        }
        let patience = if addresses.len() > 0 { stagger } else { Duration::MAX };
        match timeout(patience, trials.join_next()).await {
            Ok(Some(Ok(Ok(answer)))) => return Ok(answer),
            // An address of a kind that this host does not have says nothing about the service, and one that nothing listens
            // at says less than another one's answer.
            Ok(Some(Ok(Err(why))))
                if has_tried && matches!(why.kind, ProbeFailure::CannotAsk | ProbeFailure::Refused) => {}
            Ok(Some(Ok(Err(why)))) => (failure, has_tried) = (why, true),
            Ok(Some(Err(_)) | None) | Err(_) => {}
        }
    }
}

async fn connect_to(address: SocketAddr, way: Way) -> Result<TcpStream, Failure> {
    let stream = match way {
        Way::Usual => TcpStream::connect(address).await,
        Way::Unseen => unseen(address).await,
    };
    refuse_own(stream.map_err(|error| unconnected(&error, address))?, address)
}

/// Why there is no connection. The kernel has one error for a host without a free port and for one without an address of
/// its own to connect from.
fn unconnected(error: &io::Error, address: SocketAddr) -> Failure {
    let failure = Failure::connect(error, &address.to_string());
    if error.kind() != io::ErrorKind::AddrNotAvailable || has_source(address) {
        return failure;
    }
    let text = format!("cannot probe {address}: this host has no address to connect from");
    Failure::new(ProbeFailure::CannotAsk, text)
}

/// Whether this host has an address to connect from. UDP has ports of its own, and sends nothing to connect.
fn has_source(address: SocketAddr) -> bool {
    let own = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let connected = UdpSocket::bind(SocketAddr::new(own, 0)).and_then(|socket| socket.connect(address));
    let lacks = [libc::EADDRNOTAVAIL, libc::EAFNOSUPPORT, libc::ENETUNREACH];
    !connected.is_err_and(|error| error.raw_os_error().is_some_and(|errno| lacks.contains(&errno)))
}

async fn unseen(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    rustix::net::sockopt::set_tcp_quickack(&socket, false)?;
    socket.set_zero_linger()?;
    socket.connect(address).await
}

/// Refuses a connection of a socket with itself.
fn refuse_own(stream: TcpStream, address: SocketAddr) -> Result<TcpStream, Failure> {
    // A port of the ephemeral range that nothing listens on may be the one that the kernel chooses for this end. TCP
    // then connects the socket to itself (RFC 9293, simultaneous open).
    if stream.local_addr().is_ok_and(|own| stream.peer_addr().is_ok_and(|peer| own == peer)) {
        // A reset leaves no TIME_WAIT, which would keep the service from listening.
        let _ = stream.set_zero_linger();
        return Err(Failure::connect(&io::ErrorKind::ConnectionRefused.into(), &address.to_string()));
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::{
        fact::ProbeKind,
        probe::{Clients, progress::STAGGER, run_once, tests::probe},
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

    #[test]
    fn a_host_without_a_free_port_differs_from_one_without_an_address() {
        let error = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        assert_eq!(unconnected(&error, ([127, 0, 0, 1], 80).into()).kind, ProbeFailure::Local);
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(unconnected(&refused, ([127, 0, 0, 1], 80).into()).kind, ProbeFailure::Refused);
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

    /// Listens on a port of the ephemeral range, and frees it.
    async fn ephemeral_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    /// Connects to a port where nothing listens, from the same port: the kernel's choice made certain.
    #[tokio::test]
    async fn a_connection_of_a_socket_with_itself_is_refused() {
        let address: SocketAddr = ([127, 0, 0, 1], ephemeral_port().await).into();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let own = socket.connect(address).await.unwrap();
        assert_eq!(own.local_addr().unwrap(), own.peer_addr().unwrap());
        let failure = refuse_own(own, address).unwrap_err();
        assert_eq!(failure.kind, ProbeFailure::Refused);
        TcpListener::bind(address).await.unwrap();
    }

    #[test]
    fn localhost_has_an_address_of_both_families() {
        let both = |target: &str, found: &[&str]| {
            let found = found.iter().map(|address| address.parse().unwrap()).collect();
            let all = with_both_families(target, found);
            all.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(both("localhost:80", &["127.0.0.1:80"]), ["127.0.0.1:80", "[::1]:80"]);
        assert_eq!(both("localhost:80", &["[::1]:80"]), ["[::1]:80", "127.0.0.1:80"]);
        assert_eq!(both("localhost:80", &["[::1]:80", "127.0.0.1:80"]), ["[::1]:80", "127.0.0.1:80"]);
        assert_eq!(both("db:80", &["127.0.0.1:80"]), ["127.0.0.1:80"]);
    }

    #[tokio::test]
    async fn an_address_that_leads_nowhere_does_not_hide_one_that_accepts() {
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(1).unwrap();
        let silent = full.local_addr().unwrap();
        let _fill = (TcpStream::connect(silent).await.unwrap(), TcpStream::connect(silent).await.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refused = ([127, 0, 0, 1], ephemeral_port().await).into();
        let usual = |address| connect_to(address, Way::Usual);
        let stream = any_of(vec![refused, silent, address], "name:80", STAGGER, usual).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let none = any_of(vec![refused, refused], "name:80", STAGGER, usual).await.unwrap_err();
        assert_eq!(none.kind, ProbeFailure::Refused);
        assert_eq!(any_of(vec![], "name:80", STAGGER, usual).await.unwrap_err().kind, ProbeFailure::Dns);
    }
}
