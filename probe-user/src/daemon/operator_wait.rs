//! Operators who wait for the outcome of a command.

use tokio::sync::oneshot;

use crate::{
    fact::{Order, ServiceId},
    serve::control::Refusal,
};

/// Where an operator gets the outcome.
pub(super) type OperatorAnswer = oneshot::Sender<Result<String, Refusal>>;

/// An operator who waits for the outcome of a command.
pub(super) struct OperatorWait {
    pub(super) service: ServiceId,
    pub(super) order: Order,
    pub(super) answer: OperatorAnswer,
}
