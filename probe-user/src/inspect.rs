//! Answers to questions about processes, found off the daemon's loop: threads, accept queues, connection holders,
//! resource usage, pressure and snapshots.

pub mod answer;
pub mod blocking_reads;
pub mod changes;
pub mod control_probe;
pub mod crash;
pub mod culprit;
pub mod examine;
pub mod hang_stacks;
pub mod holders;
pub mod host;
pub mod inspector;
pub mod log_lines;
pub mod memory_history;
pub mod oom_report;
mod oomd;
pub mod pressure;
pub mod queues;
pub mod queues_elsewhere;
pub mod snapshot;
pub mod usage;
