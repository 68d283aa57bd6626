//! UDP: does a datagram get the expected answer?
//!
//! A connected socket takes datagrams of its peer alone, and the kernel reports to it that nothing has the port (ICMP port
//! unreachable, `udp(7)`).

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use tokio::net::UdpSocket;

use super::{
    exchange::{self, ANSWER_MAX},
    failure::Failure,
    progress::{Connection, Waiting},
    tcp,
};
use crate::{
    config::{Exchange, Probe},
    fact::ProbeOutcome,
};

/// Sends the datagram to `host:port`, and waits for an answer.
pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let target = probe.target.expose();
    let addresses = tcp::resolve(target, waiting).await?;
    waiting.set("the answer");
    // Only a timeout is possible from here on: a datagram has no connection that could be missing.
    waiting.connection(Connection::Made);
    let exchange = Arc::new(probe.exchange.clone());
    tcp::any_of(addresses, target, waiting.stagger(), move |address| ask(Arc::clone(&exchange), address))
        .await
}

async fn ask(exchange: Arc<Exchange>, address: SocketAddr) -> Result<ProbeOutcome, Failure> {
    let peer = address.to_string();
    let answer = answer(&exchange, address).await.map_err(|error| Failure::io(&error, &peer))?;
    exchange::of_datagram(&exchange, &answer, &peer)
}

async fn answer(exchange: &Exchange, address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let own = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(own, 0)).await?;
    socket.connect(address).await?;
    socket.send(exchange.send.as_deref().unwrap_or_default()).await?;
    let mut answer = vec![0; ANSWER_MAX];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}
