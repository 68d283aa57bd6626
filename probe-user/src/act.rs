//! The only modules that change the host, or tell anybody else of it.

pub mod alert;
pub mod command;
pub mod supervisor;
pub mod systemd;
