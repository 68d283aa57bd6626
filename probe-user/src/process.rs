//! The daemon's own process: its rights, its service manager, its self-test.

pub mod deadline;
mod fault_around;
pub mod log;
pub mod memory;
pub mod notify;
pub mod privileges;
pub mod self_test;
