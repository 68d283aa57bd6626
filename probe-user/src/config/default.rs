//! The defaults, for configuration files and for discovered services.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{
    container::ContainerOptions,
    daemon::{Config, KernelOptions, SnapshotOptions, StateOptions},
    exchange::Exchange,
    host::HostOptions,
    http::HttpOptions,
    output::EventOutput,
    probe::Probe,
    secret::Secret,
};
use crate::{
    fact::{OnCleanExit, ProbeKind, RestartBudget, RestartPolicy, ServerLimits},
    rotated_file::Rotation,
};

pub const DEFAULT_CONTROL: &str = "/run/hostprobe/control.sock";

impl Default for Config {
    /// No services, events to standard output, health and metrics on the loopback interface, commands at the usual
    /// socket.
    fn default() -> Self {
        Self {
            events: vec![EventOutput::Stdout],
            event_files: Rotation::by_size(100 << 20, 3),
            http: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9464))),
            http_tls: None,
            http_token: None,
            public_url: None,
            control: Some(PathBuf::from(DEFAULT_CONTROL)),
            control_group: None,
            alerts: Vec::new(),
            heartbeat: None,
            fleet: None,
            hooks: Vec::new(),
            host: HostOptions::default(),
            restart_budget: RestartBudget::default(),
            services: Vec::new(),
            containers: ContainerOptions::default(),
            kernel: KernelOptions::default(),
            snapshots: SnapshotOptions::default(),
            state: StateOptions::default(),
            on_exit: None,
            warnings: Vec::new(),
        }
    }
}

impl Default for KernelOptions {
    fn default() -> Self {
        Self { urgent_ring_bytes: 256 << 10, bulk_ring_bytes: 1 << 20, unwatched_exits_per_second: 50 }
    }
}

impl Default for SnapshotOptions {
    /// The newest 32, in the daemon's state directory.
    fn default() -> Self {
        Self { directory: "/var/lib/hostprobe/snapshots".into(), keep: 32, stacks: true }
    }
}

impl Default for StateOptions {
    /// 64 MiB hold weeks of a calm host, or some days of a busy one.
    fn default() -> Self {
        Self {
            directory: "/var/lib/hostprobe".into(),
            recording_bytes: 64 << 20,
            keep: Duration::from_secs(90 * 24 * 3600),
        }
    }
}

impl Probe {
    /// A probe with the default times: every 10 s, at most 5 s, 3 failures.
    pub fn new(kind: ProbeKind, target: Secret) -> Self {
        Self {
            // The silence of a job is one failure, however often it is looked at.
            failures: if matches!(kind, ProbeKind::Heartbeat) { 1 } else { 3 },
            kind,
            target,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            slow: None,
            tls: None,
            http: HttpOptions::default(),
            expect_status: Vec::new(),
            expect_body: None,
            exchange: Exchange::default(),
            exec: None,
            expect_answers: Vec::new(),
            heartbeat: None,
            memory_percent: None,
            connections_percent: None,
            server: ServerLimits::default(),
            auth_is_alive: false,
        }
    }
}

impl Default for RestartPolicy {
    /// Watching only; what applies once `enabled` is set.
    fn default() -> Self {
        Self {
            enabled: false,
            on_clean_exit: OnCleanExit::default(),
            budget: 5,
            budget_window: Duration::from_secs(600),
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            grace: Duration::from_secs(30),
            command: None,
            before: None,
        }
    }
}
