//! The vocabulary: what the daemon can know and say, as plain data.
//!
//! Every layer speaks these types. The kernel's records and `/proc` are turned into them, the engine
//! decides on them, and [`crate::emit`] alone turns them into JSON.

mod agent;
mod event;
pub mod health;
mod id;
pub mod incident;
pub mod observation;
pub mod place;
pub mod probe;
pub mod process;
pub mod socket;
mod source;
pub mod unit;

pub use agent::{AgentReady, AgentStart, HookCoverage};
pub use event::Fact;
pub use health::{Examination, Pressure, ResourceUsage, ServerUsage, Share};
pub use id::{EventId, ServiceId};
pub use incident::{
    Action, AlertOutcome, Incident, IncidentId, Phase, Restart, RestartMethod, ServiceState, Severity,
    Timing, Verdict,
};
pub use observation::Observation;
pub use place::{CgroupMode, Container, INITIAL_PID_NAMESPACE, Place};
pub use probe::{ProbeChange, ProbeFailure, ProbeKind, ProbeOutcome, ProbeReport};
pub use process::{
    Cgroup, ExitStatus, Listener, Membership, OomKill, OomScope, Process, ProcessExit, ProcessKey, Sender,
};
pub use socket::{
    AcceptQueue, Direction, Holder, Peer, PortHolder, Protocol, Retransmits, SocketError, Suspension,
    TcpState,
};
pub use source::Source;
pub use unit::{UnitJob, UnitState};
