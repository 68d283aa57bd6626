//! The running configuration, valid by construction: every reference resolved, every duration parsed.
//!
//! It comes from a file ([`Config::load`]) or, without one, from what listens on this host.

mod absent;
mod address;
mod check;
mod choice;
mod daemon;
mod default;
mod difference;
mod environment_file;
mod error;
mod exec;
mod file;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod hook;
mod host;
mod load;
mod maintenance;
mod mysql;
mod nearest;
mod parse;
mod probe;
mod protocol;
mod read;
mod schema;
mod secret;
mod service;
mod settings;
mod source;
mod spanned;
mod switch;
mod template;
mod unsupported;
mod values;

pub use self::{
    daemon::{
        AlertFormat, AlertReceiver, Config, EventOutput, KernelOptions, OnExit, SnapshotOptions, StateOptions,
    },
    default::DEFAULT_CONTROL,
    difference::Difference,
    error::{ConfigError, ConfigErrors},
    exec::{Exec, ResourceLimit},
    hook::Hook,
    host::{FileSystemOptions, HostOptions},
    maintenance::Window,
    mysql::{MysqlAccount, MysqlAddress},
    probe::Probe,
    protocol::{Protocol, protocol},
    schema::schema,
    secret::Secret,
    service::{Identity, Matcher, Service},
    values::duration,
};
pub use crate::fact::{Limits, OnCleanExit, Policy, Response, RestartPolicy};
