//! The drill that is under way, and the preparation of one.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use crate::{
    act::drill::{PreparedFault, Undo},
    clock::Timestamp,
    engine::Effect,
    fact::{DrillFault, Order, ServiceId},
    serve::control::{DrillAnswer, DrillRequest, Refusal},
};

/// A fault that was looked into, or the reason that it cannot be caused.
pub struct DrillPreparation {
    pub(super) service: ServiceId,
    pub(super) request: DrillRequest,
    pub(super) prepared: Result<PreparedFault, String>,
}

/// The drill that is under way.
pub(super) struct RunningDrill {
    pub(super) id: String,
    pub(super) service: ServiceId,
    /// Its name at the beginning: a reload may remove it.
    pub(super) name: String,
    pub(super) fault: DrillFault,
    pub(super) order: Order,
    /// None once it was taken to be caused.
    pub(super) prepared: Option<PreparedFault>,
    /// Shared with the thread that causes it.
    pub(super) causing: Arc<()>,
    /// When the fault was caused. Until the daemon knows, no restart of the service is carried out.
    pub(super) caused: Option<Timestamp>,
    /// A restart that waits for that.
    pub(super) delayed: Option<Effect>,
    pub(super) undo: Option<Undo>,
    /// When the fault was undone.
    pub(super) undone: Option<Timestamp>,
    /// How long the service may take to recover before the fault is undone.
    pub(super) limit: Duration,
    /// A client that went away is not answered.
    pub(super) answer: oneshot::Sender<Result<DrillAnswer, Refusal>>,
}
