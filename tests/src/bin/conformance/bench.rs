//! The kernel side under test, and the way to the records it is to give.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hostprobe::sensor::ebpf::{Exit, Kernel, Loss, Options, Record, load};
use tokio::runtime::{Builder, Runtime};

/// Longest wait for a record. An emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(30);

/// The loaded programs.
pub struct Bench {
    /// The kernel side, as the daemon uses it.
    pub kernel: Kernel,
    runtime: Runtime,
    /// Records that came with one that was waited for, and may be the next to be waited for.
    pending: Vec<Record>,
    /// Runs of the programs that the kernel has left out.
    missed: u64,
}

impl Bench {
    /// Loads the programs without a limit on what strangers may cause, but with room for it, and with this process being
    /// none that probes.
    pub fn new() -> Result<Self> {
        Self::with(Options { urgent_ring_bytes: 4 << 20, bulk_ring_bytes: 8 << 20, ..Options::default() })
    }

    /// Likewise, with rings of another size.
    pub fn with(options: Options) -> Result<Self> {
        Self::at(options, &load::Paths::default())
    }

    /// Likewise, with type information from elsewhere.
    pub fn at(options: Options, paths: &load::Paths) -> Result<Self> {
        let options = Options { unwatched_per_second: u32::MAX, prober: 0, ..options };
        let kernel = load::load(&options, paths).context("cannot load the kernel side")?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { kernel, runtime, pending: Vec::new(), missed: 0 })
    }

    /// Forgets what one check has watched and what it has left over.
    pub fn clear(&mut self) {
        // One that is not watched is no error, and nothing else can be wrong with a map that worked.
        let _ = self.kernel.unwatch_process(std::process::id());
        self.kernel.drain(&mut self.pending);
        self.pending.clear();
        self.losses();
    }

    /// What was lost since the last call.
    fn losses(&mut self) -> Vec<Loss> {
        let losses = self.kernel.losses();
        self.missed += losses.iter().filter(|it| it.class == "missed").map(|it| it.count).sum::<u64>();
        losses
    }

    /// Whether the kernel has left out a run of a program since the last call: what it would have told is lost, and
    /// that is counted.
    pub fn has_missed(&mut self) -> bool {
        self.losses();
        std::mem::take(&mut self.missed) > 0
    }

    /// The first record that `pick` accepts. Those that came before it are dropped.
    pub fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(&Record) -> Option<T>) -> Result<T> {
        let Self { kernel, runtime, pending, .. } = self;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            kernel.drain(pending);
            let found = pending.iter().enumerate().find_map(|(place, it)| Some((place, pick(it)?)));
            if let Some((place, found)) = found {
                pending.drain(..=place);
                return Ok(found);
            }
            pending.clear();
            // Records of the bulk ring wake nobody, hence the short limit.
            let limit = Duration::from_millis(20);
            let _ = runtime.block_on(async { tokio::time::timeout(limit, kernel.readable()).await });
        }
        bail!("no record: {what}; losses: {:?}", self.losses())
    }

    /// The end of a process.
    pub fn wait_for_exit(&mut self, pid: u32) -> Result<Exit> {
        self.wait_for("exit", |record| {
            if let Record::Exit(exit) = record { Some(exit.clone()).filter(|it| it.pid == pid) } else { None }
        })
    }
}
