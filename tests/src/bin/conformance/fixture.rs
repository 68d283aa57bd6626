//! The eBPF programs under test, and their records.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hostprobe::sensor::{
    ebpf::{EbpfSensor, Options, load},
    loss::{Loss, LossClass},
    record::{Exit, Record},
};
use tokio::runtime::{Builder, Runtime};

/// For one record. An emulated machine is slow.
const TIMEOUT: Duration = Duration::from_secs(120);

pub struct Fixture {
    pub sensor: EbpfSensor,
    runtime: Runtime,
    /// Records that came with an awaited one. The next awaited one may be among them.
    pending: Vec<Record>,
    /// Runs of the programs that the kernel skipped.
    missed: u64,
}

impl Fixture {
    /// Loads the programs with large rings and without a limit on records of unwatched processes. This process is no
    /// prober, so the programs report its connections.
    pub fn new() -> Result<Self> {
        Self::with(Options { urgent_ring_bytes: 4 << 20, bulk_ring_bytes: 8 << 20, ..Options::default() })
    }

    /// [`Self::new`], with rings of another size.
    pub fn with(options: Options) -> Result<Self> {
        Self::at(options, &load::Paths::default())
    }

    /// [`Self::with`], with type information from another file.
    pub fn at(options: Options, paths: &load::Paths) -> Result<Self> {
        let options = Options { unwatched_per_second: u32::MAX, prober: 0, ..options };
        let sensor = EbpfSensor::load_from(&options, paths).context("cannot load the eBPF programs")?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { sensor, runtime, pending: Vec::new(), missed: 0 })
    }

    /// Drops what a check watched, and its leftover records.
    pub fn clear(&mut self) {
        // An unwatched process is no error, and the map worked before.
        let _ = self.sensor.unwatch_process(std::process::id());
        self.sensor.drain(&mut self.pending);
        self.pending.clear();
        self.losses();
    }

    fn losses(&mut self) -> Vec<Loss> {
        let losses = self.sensor.losses();
        self.missed +=
            losses.iter().filter(|it| it.class == LossClass::Missed).map(|it| it.count).sum::<u64>();
        losses
    }

    /// Whether the kernel skipped a run of a program since the last call, so that a record is lost.
    pub fn has_missed(&mut self) -> bool {
        self.losses();
        std::mem::take(&mut self.missed) > 0
    }

    /// The first record that `pick` accepts. Earlier ones are dropped.
    pub fn wait_for<T>(&mut self, what: &str, pick: impl FnMut(&Record) -> Option<T>) -> Result<T> {
        self.wait_within(TIMEOUT, what, pick)
    }

    pub fn wait_within<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut pick: impl FnMut(&Record) -> Option<T>,
    ) -> Result<T> {
        let Self { sensor, runtime, pending, .. } = self;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            sensor.drain(pending);
            let found = pending.iter().enumerate().find_map(|(at, it)| Some((at, pick(it)?)));
            if let Some((at, found)) = found {
                pending.drain(..=at);
                return Ok(found);
            }
            pending.clear();
            // Records of the bulk ring cause no wake-up, hence the short limit.
            let limit = Duration::from_millis(20);
            let _ = runtime.block_on(async { tokio::time::timeout(limit, sensor.readable()).await });
        }
        bail!("no record: {what}; losses: {:?}", self.losses())
    }

    pub fn wait_for_exit(&mut self, pid: u32) -> Result<Exit> {
        self.wait_for("exit", |record| {
            if let Record::Exit(exit) = record { Some(exit.clone()).filter(|it| it.pid == pid) } else { None }
        })
    }
}
