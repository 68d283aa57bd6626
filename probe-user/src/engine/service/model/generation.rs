//! Knowledge of one main process, which says nothing about the next one.

use super::{breaches::Breaches, dead_workers::DeadWorkers, listeners::LostListener, liveness::Liveness};

/// Replaced as a whole when the main process ends, or another one takes its place.
#[derive(Debug, Default)]
pub struct Generation {
    pub lost_listener: Option<LostListener>,
    pub liveness: Liveness,
    /// Dead workers, until it is clear whether the main process outlives them.
    pub dead_workers: Option<DeadWorkers>,
    pub breaches: Breaches,
}
