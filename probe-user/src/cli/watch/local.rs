//! What the viewer reads of this host by itself, so that the daemon has no work with it.

use std::collections::BTreeMap;

use hostprobe::host::{
    ProcReader, Usage,
    overview::{FullestDisk, Overview},
    pressure::Shares,
};

/// The host, and what services use, since the last reading.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// In percent of all CPUs.
    pub cpu: Option<f64>,
    /// In percent.
    pub memory: Option<f64>,
    pub swap: Option<f64>,
    pub pressure: Shares,
    pub disk: Option<FullestDisk>,
    /// By the pid of the main process; with its children.
    pub services: BTreeMap<u32, Used>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// In percent of one core; None at the first reading.
    pub cpu: Option<f64>,
    /// Resident, in bytes.
    pub memory: u64,
}

/// Reads it again and again.
pub struct Reader {
    proc: ProcReader,
    earlier: Option<Overview>,
    usage: BTreeMap<u32, Usage>,
}

impl Reader {
    pub fn new(proc: ProcReader) -> Self {
        Self { proc, earlier: None, usage: BTreeMap::new() }
    }

    /// Reads the host, and what the services with these main processes use.
    pub fn read(&mut self, mains: &[u32]) -> Local {
        let now = self.proc.overview();
        let earlier = self.earlier.replace(now);
        let tree = self.proc.process_tree();
        let usage: BTreeMap<u32, Usage> =
            mains.iter().map(|&main| (main, self.proc.usage(&tree.of(main)))).collect();
        let used = |(main, now): (&u32, &Usage)| {
            let cpu = self.usage.get(main).and_then(|earlier| now.cpu_percent(earlier));
            (*main, Used { cpu, memory: now.rss_bytes })
        };
        let services = usage.iter().map(used).collect();
        self.usage = usage;
        Local {
            cpu: earlier.and_then(|earlier| now.cpu_percent(&earlier)),
            memory: now.memory,
            swap: now.swap,
            pressure: earlier.map(|earlier| now.pressure(&earlier)).unwrap_or_default(),
            disk: self.proc.fullest_disk(),
            services,
        }
    }
}
