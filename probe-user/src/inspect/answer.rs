//! The answers of the inspectors.

use super::queues_elsewhere::QueuesElsewhere;
use crate::fact::{
    AcceptQueue, Examination, FaultContext, HangStacks, Holder, HostReading, PortHolder, ProbeReport,
    ResourceLevel, ResourceUsage, ServiceId, Successor, Unanswered, Writes,
};
use crate::host::{Awaited, ListeningSocket};

/// Listeners by inode number, each with its service; None: it belongs to no watched service.
pub type Owners = Vec<(u64, Option<ServiceId>)>;

/// The answer to one question about processes.
pub enum Answer {
    /// The examination of a service's processes. None if no process was there.
    Examined(ServiceId, Option<Box<Examination>>),
    /// What a service's processes did while two attempts of a probe waited. None if no process was there.
    Unanswered(Box<Unanswered>, Option<Box<Examination>>),
    /// The server that a service waited for while a probe of it waited.
    Awaited(ServiceId, Option<Awaited>),
    /// The path of a snapshot.
    Snapshot(ServiceId, Result<String, String>),
    /// What the threads of a service wait for, beside its snapshot.
    Stacks(ServiceId, HangStacks),
    /// What explains a service's fault to a person.
    Context(ServiceId, FaultContext),
    /// The process that has a port; its service is not filled in yet.
    PortHolder(ServiceId, Option<PortHolder>),
    /// The sockets that listen on a port. None if they cannot be read.
    Listeners(ServiceId, u16, Option<Vec<ListeningSocket>>),
    /// The process that takes the place of a main process.
    Successor(ServiceId, Option<Successor>),
    /// The processes that have connections; their services are not filled in yet.
    Holders(ServiceId, Vec<Holder>),
    /// A probe's report, with the processes behind its holders.
    Probed(Box<ProbeReport>),
    /// The services of listeners that are full.
    QueueOwners(Owners),
    /// The full listeners in other network namespaces, and what is known of those that are not.
    FullElsewhere((QueuesElsewhere, Vec<(AcceptQueue, ServiceId)>)),
    Usage(ServiceId, ResourceUsage),
    Levels(ServiceId, Vec<ResourceLevel>),
    /// What the checks of the host found.
    Host(Vec<HostReading>),
    /// The file systems that a service writes to.
    WritesTo(ServiceId, Writes),
}
