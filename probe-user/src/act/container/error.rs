//! What an engine's API cannot do, and what to do about it.

use std::{io, path::PathBuf, time::Duration};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{}: {source}", socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("{}: no answer within {after:?}", socket.display())]
    Late { socket: PathBuf, after: Duration },
    #[error("{}: {source}", socket.display())]
    Broken { socket: PathBuf, source: hyper::Error },
    #[error("{}: an answer that is none: {why}", socket.display())]
    Answer { socket: PathBuf, why: String },
    #[error("it has no such container")]
    NoSuchContainer,
    #[error("it refused with status {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("no engine's socket is configured; set containers.docker_socket or containers.podman_socket")]
    NoSocket,
    #[error(
        "no container engine answers: {0}; start docker.socket or podman.socket, or set containers.podman_socket"
    )]
    NoEngine(String),
}

impl EngineError {
    /// Whether the socket is there and the daemon may not connect to it. To connect is to write to its file.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether another engine may have the container.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoSuchContainer)
    }
}
