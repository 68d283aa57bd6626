//! Why a fault cannot be caused, and what to do.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    #[error("its main process {pid} has ended meanwhile; try again once the service is healthy")]
    Gone { pid: u32 },
    #[error("its main process is hostprobe itself, or the init of this host; it cannot be drilled")]
    Own,
    #[error(
        "the daemon may not signal process {pid}: {source}; it needs CAP_KILL for the processes of other users, which it \
         keeps only where it starts programs, as under exec"
    )]
    Signal { pid: u32, source: io::Error },
    #[error("it has {count} processes, and a drill stops at most {most}")]
    TooMany { count: usize, most: usize },
    #[error(
        "none of its processes listens on a TCP port that its probes connect to; add a probe of such a port"
    )]
    NoListener,
    #[error(
        "its listener on port {port} is open in process {pid} ({name}) as well, which is not of this service: a listener \
         that systemd or another program holds would refuse the service's clients even after a restart"
    )]
    SharedListener { port: u16, pid: u32, name: String },
    #[error(
        "the daemon may not use the listener on port {port} of process {pid}: {source}; it needs CAP_SYS_PTRACE and the system \
         call pidfd_getfd, which the sandbox of the shipped unit does not allow"
    )]
    Listener { port: u16, pid: u32, source: io::Error },
    #[error(
        "this kernel cannot duplicate another process's descriptors: pidfd_getfd(2) needs Linux 5.6: {0}"
    )]
    NoGetfd(io::Error),
    #[error("{}", .0)]
    Memory(String),
    #[error("{}: what is to be undone cannot be written there, so that nothing was done: {source}", path.display())]
    Record { path: PathBuf, source: io::Error },
}
