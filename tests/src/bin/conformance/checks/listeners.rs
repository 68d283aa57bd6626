//! Listeners appear and close, and their accept queues fill up.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, ensure};
use hostprobe::sensor::record::{Listen, Record};
use rustix::net::{AddressFamily, SocketType};

use super::sockets::{V4, V6, ours};
use crate::{check::FixtureCheck, fixture::Fixture, report::Outcome};

pub const CHECKS: &[FixtureCheck] = &[
    ("listener up and down, IPv4", |fixture| up_and_down(fixture, V4)),
    ("listener up and down, IPv6", |fixture| up_and_down(fixture, V6)),
    ("full accept queue", full),
];

fn up_and_down(fixture: &mut Fixture, ip: IpAddr) -> Result<Outcome> {
    let listener = TcpListener::bind((ip, 0))?;
    let port = listener.local_addr()?.port();
    let of_port = |record: &Record| {
        if let Record::Listen(it) = record { Some(it.clone()).filter(|it| it.port == port) } else { None }
    };
    let right = |it: &Listen| it.address == ip && it.pid == std::process::id() && it.start_ns > 0;
    let up = fixture.wait_for("listener up", of_port)?;
    ensure!(up.up && right(&up), "{up:?}");
    drop(listener);
    let down = fixture.wait_for("listener down", of_port)?;
    ensure!(!down.up && right(&down) && down.start_ns == up.start_ns, "{down:?}");
    Ok(Outcome::Passed("address, port, pid".to_owned()))
}

fn full(fixture: &mut Fixture) -> Result<Outcome> {
    fixture.sensor.watch_process(std::process::id(), 1)?;
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddr::new(V4, 0))?;
    rustix::net::listen(&socket, 2)?;
    let address: SocketAddr = rustix::net::getsockname(&socket)?.try_into()?;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(TcpStream::connect(address)?);
    }
    let queue = fixture.wait_for("full queue", |record| {
        if let Record::AcceptQueue(it) = record {
            Some(it.clone()).filter(|it| it.local == address)
        } else {
            None
        }
    })?;
    ours(&queue.owner)?;
    ensure!((queue.waiting, queue.backlog) == (3, 2), "{queue:?}");
    Ok(Outcome::Passed("3 wait, backlog 2".to_owned()))
}
