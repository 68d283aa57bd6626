//! Where a fact was learned.

use serde::{Deserialize, Serialize};

/// Where a fact was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// An eBPF program saw it happen.
    Ebpf,
    /// `/proc`, a cgroup file or a pidfd.
    Proc,
    /// Netlink: the kernel's process connector, or its list of sockets.
    Netlink,
    /// The kernel log.
    Kmsg,
    /// systemd, over D-Bus.
    Dbus,
    /// A probe found it.
    Probe,
    /// The supervisor started the process, and read its exit status.
    Supervisor,
    /// A container engine, over its API.
    Container,
    /// The engine concluded it.
    Engine,
}

impl Source {
    /// The word used for it in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ebpf => "ebpf",
            Self::Proc => "proc",
            Self::Netlink => "netlink",
            Self::Kmsg => "kmsg",
            Self::Dbus => "dbus",
            Self::Probe => "probe",
            Self::Supervisor => "supervisor",
            Self::Container => "container",
            Self::Engine => "engine",
        }
    }
}
