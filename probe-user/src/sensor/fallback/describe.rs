//! What a fallback reads instead of a missing hook, and what it cannot report, for people.

use std::io;

use super::{connector::Connector, kmsg::Kmsg};
use crate::host::sockdiag;

pub const SIGNALS: &str = "/proc: a process that is stopped is found when its probe times out, and the sender of a \
                           signal is not known";
pub const FORKS: &str = "cgroups and parents: a process that has lost its parent and is not in its service's cgroup \
                         belongs to no service";
pub const CGROUPS: &str =
    "/sys/fs/cgroup, read when a process in a cgroup is first reported, if it is still there";
pub const RETRANSMITS: &str = "the counts of segments sent again of each open socket, read every few seconds";

pub const HOST_FAULTS: &str = "the kernel's log, read every second, without numbers";

pub fn exits(connector: Option<&io::Result<Connector>>) -> String {
    match connector {
        Some(Err(error)) => format!(
            "pidfds of main processes: how one ended is not always known, and other processes are not seen, as the \
             process connector cannot be opened: {error}"
        ),
        Some(Ok(_)) | None => {
            "the process connector and pidfds: the sender of a signal is not known, nor how much memory the process had"
                .to_owned()
        }
    }
}

pub fn execs(connector: Option<&io::Result<Connector>>) -> String {
    match connector {
        Some(Err(_)) => "/proc, read when a process is of interest".to_owned(),
        Some(Ok(_)) | None => "the process connector and /proc".to_owned(),
    }
}

pub fn ooms(kmsg: Option<&io::Result<Kmsg>>) -> String {
    match kmsg {
        Some(Err(error)) => format!(
            "the memory cgroups' counts of OOM kills: only of main processes, without numbers, as the kernel's log \
             cannot be read: {error}"
        ),
        Some(Ok(_)) | None => "the kernel's log and the memory cgroups' counts of OOM kills".to_owned(),
    }
}

pub fn listeners(diag: Option<&io::Result<Vec<sockdiag::ListenQueue>>>) -> String {
    let how = match diag {
        Some(Err(_)) => "/proc/net/tcp",
        Some(Ok(_)) | None => "the kernel's list of sockets",
    };
    format!(
        "{how}, read every second: listeners and dependencies are seen later, errors of connections are not"
    )
}
