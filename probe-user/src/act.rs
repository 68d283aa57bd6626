//! The only modules that change the host or send to other hosts.

pub mod alert;
pub mod command;
pub mod container;
pub mod drill;
pub mod hook;
pub mod outward_heartbeat;
mod program;
pub mod supervisor;
pub mod systemd;
