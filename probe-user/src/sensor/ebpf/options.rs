use super::coverage::Hook;

/// How the eBPF programs are set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Size of the ring for records that wake the daemon, in bytes. Rounded up to a power of two of pages.
    pub urgent_ring_bytes: u32,
    /// Size of the ring for records that are collected now and then, in bytes. Rounded likewise.
    pub bulk_ring_bytes: u32,
    /// Most records a second that one cgroup may cause about exits, and again about listeners, of unwatched processes.
    /// More are counted as lost.
    pub unwatched_per_second: u32,
    /// The process whose connections are probes and are not reported: this one, or 0 for none.
    pub prober: u32,
    /// Hooks that are not attached even where they could be.
    pub without: Vec<Hook>,
    /// Whether what the kernel's log says of the host is reported. What hooks report of it always is.
    pub host_reports: bool,
    /// Whether the programs themselves write debug lines. Costly, and off by default.
    pub log: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            urgent_ring_bytes: 256 * 1024,
            bulk_ring_bytes: 1024 * 1024,
            unwatched_per_second: 50,
            prober: std::process::id(),
            without: Vec::new(),
            host_reports: false,
            log: false,
        }
    }
}
