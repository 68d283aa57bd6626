use aya::{EbpfError, maps::MapError};

use super::{btf::BtfError, coverage::Attachment};

/// Why no program could be attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("not permitted to load eBPF programs: {} missing", missing.join(" and "))]
    NotPermitted {
        /// Capabilities, or the permission for the bpf system call.
        missing: Vec<&'static str>,
    },
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error("cannot load the eBPF object: {0}")]
    Object(#[source] EbpfError),
    #[error("cannot use the eBPF map {name}: {source}")]
    Map { name: &'static str, source: MapError },
    /// The daemon's pid namespace is not the initial one, and the kernel lacks what a translation of its ids needs.
    #[error(
        "cannot translate the process ids of this pid namespace: {0}; run hostprobe in the host's (--pid=host)"
    )]
    Namespace(String),
    #[error("no hook could be attached: {}", reasons(.0))]
    NoHook(Vec<Attachment>),
}

fn reasons(coverage: &[Attachment]) -> String {
    let one = |it: &Attachment| format!("{}: {}", it.hook.name(), it.reason.as_deref().unwrap_or("unknown"));
    coverage.iter().map(one).collect::<Vec<_>>().join("; ")
}
