//! The running configuration, valid by construction: every reference resolved, every duration parsed.
//!
//! It comes from a file ([`Config::load`]) or, without one, from what listens on this host.

mod absent;
mod address;
mod check;
mod choice;
mod daemon;
mod default;
mod environment_file;
mod error;
mod exec;
mod file;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod load;
mod maintenance;
mod mysql;
mod nearest;
mod parse;
mod probe;
mod protocol;
mod read;
mod secret;
mod service;
mod template;
mod unsupported;
mod values;

pub use self::{
    daemon::{AlertFormat, AlertReceiver, Config, EventOutput, KernelOptions, SnapshotOptions, StateOptions},
    default::DEFAULT_CONTROL,
    error::{ConfigError, ConfigErrors},
    exec::{Exec, ResourceLimit},
    maintenance::Window,
    mysql::{MysqlAccount, MysqlAddress},
    probe::Probe,
    protocol::{Protocol, protocol},
    secret::Secret,
    service::{Identity, Limits, Matcher, OnCleanExit, Policy, Response, RestartPolicy, Service},
    values::duration,
};
