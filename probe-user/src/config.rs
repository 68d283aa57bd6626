//! The running configuration, valid by construction: every reference resolved, every duration parsed.
//!
//! It comes from a file ([`Config::load`]) or, without one, from what listens on this host.

mod absent;
mod address;
mod alert;
mod bytes;
mod check;
mod choice;
mod container;
mod daemon;
mod default;
mod difference;
mod dns;
mod environment_file;
mod error;
mod exchange;
mod exec;
mod file;
mod find;
mod fleet;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod grpc;
mod heartbeat;
mod hook;
mod host;
mod http;
mod labels;
mod left_out;
mod load;
mod maintenance;
mod mysql;
mod nearest;
mod output;
mod parse;
mod postgres;
mod probe;
mod protocol;
mod question;
mod read;
mod redis;
mod schema;
mod secret;
mod served;
mod service;
mod settings;
mod socket;
mod source;
mod spanned;
mod switch;
mod template;
mod tls;
mod values;

pub use self::{
    alert::{AlertFormat, AlertReceiver, AlertRoute, MailOptions},
    container::{Container, ContainerOptions},
    daemon::{Config, KernelOptions, OnExit, OutwardHeartbeat, SnapshotOptions, StateOptions},
    default::DEFAULT_CONTROL,
    difference::Difference,
    dns::DnsAddress,
    error::{ConfigError, ConfigErrors},
    exchange::{Exchange, Expected, Place},
    exec::{Exec, ResourceLimit},
    fleet::{Fleet, NatsServer},
    grpc::GrpcAddress,
    heartbeat::Heartbeat,
    hook::Hook,
    host::{FileSystemOptions, HostOptions},
    http::{HttpMethod, HttpOptions, HttpVersion},
    maintenance::Window,
    mysql::{MysqlAccount, MysqlAddress},
    output::EventOutput,
    postgres::PostgresAddress,
    probe::Probe,
    protocol::{Protocol, protocol},
    redis::RedisAddress,
    schema::schema,
    secret::Secret,
    served::HttpToken,
    service::{Identity, Matcher, Service},
    tls::{DatabaseTls, TlsIdentity, TlsMode, TlsOptions},
    values::duration,
};
pub use crate::fact::{Limits, OnCleanExit, Policy, Response, RestartPolicy};
