//! What hostprobe costs and how fast it is, beside what a user would run instead.
//!
//! Each section is a file: it starts the real parts, measures hostprobe and its peers in turn, round after round, so that
//! what else the machine does meets all of them, and returns rows. Everything else here turns rows into pages and plots.

mod attacks;
mod bounds;
mod bpf_stats;
mod build;
mod dashboard;
mod fleet;
mod hang;
mod idle;
mod kernel;
mod latency;
mod outage;
pub mod page;
pub mod peers;
pub mod plot;
mod probed;
mod probes;
mod recovery;
mod scale;
pub mod section;
mod slow;
mod slowdown;
mod start;
pub mod stats;
mod storm;
mod stream;
mod usage;

use anyhow::Result;

use section::{Effort, Section};

/// What can be measured by itself.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Its name on the command line, in the names of plots, and in links.
    pub name: &'static str,
    pub measure: fn(Effort) -> Result<Section>,
}

/// Every section, in the order of the page.
pub const TASKS: &[Task] = &[
    Task { name: "kernel", measure: kernel::measure },
    Task { name: "slowdown", measure: slowdown::measure },
    Task { name: "latency", measure: latency::measure },
    Task { name: "storm", measure: storm::measure },
    Task { name: "recovery", measure: recovery::measure },
    Task { name: "hang", measure: hang::measure },
    Task { name: "slow", measure: slow::measure },
    Task { name: "idle", measure: idle::measure },
    Task { name: "scale", measure: scale::measure },
    Task { name: "probes", measure: probes::measure },
    Task { name: "start", measure: start::measure },
    Task { name: "stream", measure: stream::measure },
    Task { name: "build", measure: build::measure },
    Task { name: "dashboard", measure: dashboard::measure },
    Task { name: "attacks", measure: attacks::measure },
    Task { name: "bounds", measure: bounds::measure },
    Task { name: "fleet", measure: fleet::measure },
];
