//! The daemon's own process, by the names of Prometheus' client libraries.

use std::fmt;

use procfs::process::{LimitValue, Process};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

#[derive(Debug)]
pub(super) struct OwnProcess;

impl Collector for OwnProcess {
    /// What cannot be read is left out.
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric =
            |name: &str, help: &str, metric: &dyn Encode| metric.encode_as(name, help, &mut encoder);
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            let cpu = (stat.utime + stat.stime) as f64 / ticks;
            metric("process_cpu_seconds", "CPU time of the daemon, in seconds", &ConstCounter::new(cpu))?;
            let resident = stat.rss * procfs::page_size();
            let help = "Resident memory of the daemon, in bytes";
            metric("process_resident_memory_bytes", help, &ConstGauge::new(resident as f64))?;
            let help = "Virtual memory of the daemon, in bytes";
            metric("process_virtual_memory_bytes", help, &ConstGauge::new(stat.vsize as f64))?;
            metric("process_threads", "Threads of the daemon", &ConstGauge::new(stat.num_threads as f64))?;
            if let Ok(boot) = procfs::boot_time_secs() {
                let start = boot as f64 + stat.starttime as f64 / ticks;
                let help = "Start of the daemon, in seconds since 1970";
                metric("process_start_time_seconds", help, &ConstGauge::new(start))?;
            }
        }
        if let Ok(open) = process.fd_count() {
            metric("process_open_fds", "Open file descriptors of the daemon", &ConstGauge::new(open as f64))?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            let help = "The most file descriptors that the daemon may open";
            metric("process_max_fds", help, &ConstGauge::new(most as f64))?;
        }
        Ok(())
    }
}

/// A metric of any type.
trait Encode {
    fn encode_as(&self, name: &str, help: &str, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result;
}

impl<M: EncodeMetric> Encode for M {
    fn encode_as(&self, name: &str, help: &str, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}
