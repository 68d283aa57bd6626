//! The engine's facts and effects.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    fact::{
        AlertSilence, DrillFault, EventId, Fact, HookCall, Incident, IncidentId, Memory, Orders, ProcessKey,
        RestartMethod, ServiceId,
    },
};

/// Takes the engine's facts and effects.
pub trait Effects {
    /// Publishes a fact of the time `at`. The event's id can serve as evidence.
    fn publish(&mut self, fact: Fact, at: Timestamp) -> EventId;
    /// Requests an effect. Its outcome comes back as an observation.
    fn request(&mut self, effect: Effect);
}

/// A request to the daemon.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Restart a service. [`Observation::RestartOutcome`](crate::fact::Observation::RestartOutcome) and then
    /// [`Observation::Running`](crate::fact::Observation::Running) answer; for a unit,
    /// [`Observation::Unit`](crate::fact::Observation::Unit) names the new main process.
    Restart {
        service: ServiceId,
        method: RestartMethod,
        /// Clear the unit's failed state and its count of starts first.
        reset_failed: bool,
    },
    /// Stop a service for an operator. [`OperatorCommand::StopFailed`](crate::fact::OperatorCommand::StopFailed)
    /// answers if that fails.
    Stop(ServiceId),
    /// Keep an operator's orders about a service for the next run of the daemon, in place of the earlier ones.
    KeepOrders {
        service: ServiceId,
        orders: Orders,
    },
    /// Keep what the engine has to know of a service after a restart of the daemon, in place of what was kept before. It comes
    /// with the restarts and alerts that it is about, and is kept before any of them is carried out.
    KeepMemory {
        service: ServiceId,
        memory: Box<Memory>,
    },
    /// Clear a unit's failed state, so that systemd accepts an operator's start.
    ResetFailed(ServiceId),
    /// Read a unit's state. [`Observation::Unit`](crate::fact::Observation::Unit) answers.
    InspectUnit(ServiceId),
    ProbeNow(ServiceId),
    /// Probe a service in quick succession until it answers.
    ProbeUntilHealthy(ServiceId),
    /// Sample a service's processes twice and compare the samples.
    /// [`Observation::Examined`](crate::fact::Observation::Examined) answers.
    Examine {
        service: ServiceId,
        /// Time between the two samples.
        over: Duration,
        /// The first sample may have been taken already.
        ahead: Option<EarlySample>,
    },
    /// Write a snapshot of a service's processes, and pause its probes meanwhile.
    /// [`Observation::Snapshot`](crate::fact::Observation::Snapshot) answers.
    Snapshot(ServiceId),
    /// Find out what explains a fault to a person. [`Observation::Context`](crate::fact::Observation::Context) answers.
    GatherContext {
        service: ServiceId,
        /// The run of the unit that failed, by its `InvocationID`.
        invocation: Option<String>,
        /// When the fault happened.
        since: Timestamp,
        /// Memory ran out: find out who took it.
        for_memory: bool,
    },
    /// Find the process that listens on one of these ports.
    /// [`Observation::PortHolder`](crate::fact::Observation::PortHolder) answers.
    FindPortHolder {
        service: ServiceId,
        ports: Vec<u16>,
    },
    /// Find out whether a process of a service holds a listener on a port.
    /// [`Observation::ListenerChecked`](crate::fact::Observation::ListenerChecked) answers.
    FindListener {
        service: ServiceId,
        port: u16,
    },
    /// Find the process that takes the place of a main process that ended. [`Observation::Successor`](crate::fact::Observation::Successor)
    /// answers.
    FindSuccessor {
        service: ServiceId,
        /// The pid of the main process that ended.
        of: u32,
        ports: Vec<u16>,
    },
    /// Make a running process the main process of a supervised service.
    /// [`Observation::Running`](crate::fact::Observation::Running) answers, or
    /// [`Observation::Successor`](crate::fact::Observation::Successor) with None if it does not run any more.
    Adopt {
        service: ServiceId,
        process: ProcessKey,
    },
    /// Find the clients on this host that are connected to these ports.
    /// [`Observation::Holders`](crate::fact::Observation::Holders) answers.
    FindHolders {
        service: ServiceId,
        ports: Vec<u16>,
    },
    /// Cause the fault of a drill. [`OperatorCommand::DrillOver`](crate::fact::OperatorCommand::DrillOver) answers once the
    /// drill is over, or if the fault could not be caused.
    CauseFault {
        service: ServiceId,
        fault: DrillFault,
    },
    /// Run the hooks for an event.
    CallHooks(HookCall),
    /// Alert the receivers.
    Alert {
        incident: Incident,
        resolved: bool,
    },
    /// Hold back what receivers are yet to be told of an open incident that was alerted; None ends that.
    Silence {
        incident: IncidentId,
        silence: Option<AlertSilence>,
    },
}

/// A first sample that may be older than the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlySample {
    /// An older sample says nothing about the present failure.
    pub since: Timestamp,
    /// Time between it and the second sample, at least.
    pub over: Duration,
}
