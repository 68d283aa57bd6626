//! What hosts publish to each other over NATS, so that one cause is one incident over all of them.
//!
//! [`start`] starts one thread, which alone talks to NATS. The daemon's loop gives it what it knows through [`Link`], and
//! never waits for it. What other hosts report comes back as [`Report`]s. NATS and every other host are foreign: what comes
//! from them is bounded, of known form, redacted and escaped before the daemon has it (`fleet/message.rs`).

mod bucket;
mod client;
mod connect;
mod events;
mod link;
mod message;
mod own_addresses;
mod peers;
mod queue;
mod sign;
pub mod spool;
mod subject;
pub mod view;
mod watchers;

pub use client::{Options, reach, start};
pub use connect::StartError;
pub use link::{Link, Local, LocalIncident, LocalService};
pub use peers::Report;
pub use subject::{HOST_NAME_MAX, host_token};
