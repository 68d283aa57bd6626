//! Unix sockets: does it accept a connection, and does it answer what is expected?

use std::{fs, io, os::unix::fs::FileTypeExt as _, path::Path};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect as connect_socket, socket_with,
};
use tokio::net::UnixStream;

use super::{
    exchange,
    failure::{Failure, kind_without},
    progress::{Connection, Waiting},
};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome},
};

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
            let connected = waiting.for_files("the path of the socket", move || {
                let connected = to(SocketAddrUnix::new(&*path));
                let other = connected.is_err().then(|| other_file(Path::new(&path))).flatten();
                other.map_or(Ok(connected), Err)
            });
            let connected = connected.await.map_err(|error| {
                Failure::new(kind_without(&error), format!("cannot probe {name} from this host: {error}"))
            })?;
            connected.map_err(|kind| {
                Failure::new(ProbeFailure::CannotAsk, format!("{name} is {kind}, not a socket"))
            })?
        }
    };
    waiting.set("the connection to be accepted");
    let stream = connected.and_then(UnixStream::from_std).map_err(|error| Failure::connect(&error, name))?;
    waiting.connection(Connection::Made);
    Ok(stream)
}

/// What is at the path of a socket instead of one. The kernel refuses it as it refuses a socket without a server.
fn other_file(path: &Path) -> Option<&'static str> {
    let kind = fs::metadata(path).ok()?.file_type();
    match () {
        () if kind.is_socket() => None,
        () if kind.is_file() => Some("a regular file"),
        () if kind.is_dir() => Some("a directory"),
        () if kind.is_fifo() => Some("a FIFO"),
        () => Some("a device"),
    }
}

/// A connection that does not wait for room in the accept queue.
fn to(address: rustix::io::Result<SocketAddrUnix>) -> io::Result<std::os::unix::net::UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect_socket(&socket, &address?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::{
        fact::ProbeKind,
        probe::{Clients, run_once, tests::probe},
    };

    #[tokio::test]
    async fn a_path_that_is_no_socket_is_not_one_that_nothing_listens_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "").unwrap();
        fs::create_dir(path("folder")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), 0o600.into()).unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        drop(UnixListener::bind(path("abandoned")).unwrap());
        let device = "/dev/null".into();
        for (path, kind, words) in [
            (path("file"), ProbeFailure::CannotAsk, "file is a regular file, not a socket"),
            (path("link"), ProbeFailure::CannotAsk, "link is a regular file, not a socket"),
            (path("folder"), ProbeFailure::CannotAsk, "folder is a directory, not a socket"),
            (path("fifo"), ProbeFailure::CannotAsk, "fifo is a FIFO, not a socket"),
            (device, ProbeFailure::CannotAsk, "/dev/null is a device, not a socket"),
            (path("abandoned"), ProbeFailure::Refused, "nothing listens there"),
            (path("missing"), ProbeFailure::Refused, "nothing listens there"),
        ] {
            let probe = probe(ProbeKind::Unix, &path.display().to_string());
            let (_, outcome) = run_once(&probe, &Clients::new().unwrap()).await;
            let ProbeOutcome::Failed(failure, text) = outcome else { panic!("{path:?}") };
            assert_eq!(failure, kind, "{text}");
            assert!(text.ends_with(words), "{text}");
        }
    }
}
