//! Forwards the debug lines of the eBPF programs to `tracing`.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
};

/// Starts a task that reads the programs' log ring. Logs a warning if that fails.
pub fn spawn(ebpf: &mut Ebpf) -> Option<JoinHandle<()>> {
    let logger = EbpfLogger::init_with_logger(ebpf, ToTracing)
        .map_err(|error| tracing::warn!(%error, "log of the eBPF programs: cannot read it"))
        .ok()?;
    // SAFETY: the logger owns its ring's map, and with it one open descriptor, until it is dropped.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }
        .map_err(|error| tracing::warn!(%error, "log of the eBPF programs: cannot wait for it"))
        .ok()?;
    Some(tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    }))
}

struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::debug!(target: "hostprobe::ebpf", "{}", record.args());
    }

    fn flush(&self) {}
}
