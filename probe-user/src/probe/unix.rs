//! Unix sockets: does it accept a connection, and does it answer what is expected?

use std::io;

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket, socket_with,
};
use tokio::net::UnixStream;

use super::{
    exchange,
    failure::{Failure, kind_without},
    progress::{Connection, Waiting},
};
use crate::{config::Probe, fact::ProbeOutcome};

/// Connects to a path, or to `@NAME` in the abstract namespace; exchanges bytes if there are any, and closes.
pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let target = probe.target.expose();
    let stream = connect(target, waiting).await?;
    exchange::over_stream(&probe.exchange, stream, target, waiting).await
}

/// Connects to a path, or to `@NAME` in the abstract namespace.
pub(super) async fn connect(name: &str, waiting: &Waiting) -> Result<UnixStream, Failure> {
    let connected = match name.strip_prefix('@') {
        Some(abstract_name) => to(SocketAddrUnix::new_abstract_name(abstract_name.as_bytes())),
        // The look-up of a path may block, on a file system that does not answer.
        None => {
            let path = name.to_owned();
            let connected =
                waiting.for_files("the path of the socket", move || to(SocketAddrUnix::new(path)));
            connected.await.map_err(|error| {
                Failure::new(kind_without(&error), format!("cannot probe {name} from this host: {error}"))
            })?
        }
    };
    waiting.set("the connection to be accepted");
    let stream = connected.and_then(UnixStream::from_std).map_err(|error| Failure::connect(&error, name))?;
    waiting.connection(Connection::Made);
    Ok(stream)
}

/// A connection that does not wait for room in the accept queue.
fn to(address: rustix::io::Result<SocketAddrUnix>) -> io::Result<std::os::unix::net::UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect_socket(&socket, &address?)?;
    Ok(socket.into())
}
