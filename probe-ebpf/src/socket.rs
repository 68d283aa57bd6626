//! State changes of TCP sockets, socket errors, and retransmitted segments.
//!
//! Most of them happen in softirq context, where the current process is unrelated. So the programs note the owner of a
//! socket while it acts ([`owners`]) and look it up later.

mod connect;
mod error;
mod error_report;
mod listen;
mod owner;
mod owners;
mod probes;
mod queue;
mod retransmit;
mod sock;
mod state;
mod unwatched;
