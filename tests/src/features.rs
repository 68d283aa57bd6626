//! What a daemon can do beside its probes, each with the real part that it talks to: to be measured one by one, or all at once.

use std::{any::Any, path::Path};

use crate::{
    fleet::Nats,
    http::free_port,
    matrix::receiver::Receiver,
    parts::{Alertmanager, Postgres, Redis},
    podman::Podman,
    podman_service::PodmanService,
};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// It in a sentence, such as "the page".
    pub name: &'static str,
    /// What a configuration says to do without it; empty if it has to say nothing.
    off: fn(&Path) -> String,
    on: fn(&Path) -> Option<On>,
}

/// One that is on.
struct On {
    config: String,
    /// The server that it talks to, and ends with it.
    part: Box<dyn Any>,
}

impl On {
    fn alone(config: impl Into<String>) -> Option<Self> {
        Some(Self { config: config.into(), part: Box::new(()) })
    }

    fn with(part: impl Any, config: impl Into<String>) -> Option<Self> {
        Some(Self { config: config.into(), part: Box::new(part) })
    }
}

/// A configuration with some of them, and the servers that they talk to.
pub struct Set {
    /// Without services, except those of probes that are features.
    pub config: String,
    _parts: Vec<Box<dyn Any>>,
}

/// All that the host checks have, in a configuration without them.
const NO_HOST_CHECKS: &str = "[host]\nfilesystems = false\nmemory_percent = false\nmemory_pressure_percent = false\n\
    cpu_steal_percent = false\npids_percent = false\nfiles_percent = false\nconntrack_percent = false\nports_percent = false\n\
    neighbours_percent = false\nthermal_percent = false\nclock_offset = false\nclock_sync = false\nreboot = false\n\
    hung_tasks = false\nblock_errors = false\nfs_errors = false\nmemory_errors = false\n";

/// The port of the page, in a configuration that has it.
const PAGE: &str = "[http]\nlisten = \"127.0.0.1:";

/// Every feature, those that a daemon has without a configuration first.
pub const FEATURES: [Feature; 12] = [
    Feature {
        name: "the page and the metrics",
        off: |_| "[http]\nlisten = \"\"\n".to_owned(),
        on: |_| On::alone(format!("{PAGE}{}\"\n", free_port())),
    },
    Feature {
        name: "the control socket",
        off: |_| "[control]\nsocket = \"\"\n".to_owned(),
        on: |folder| On::alone(format!("[control]\nsocket = {:?}\n", text(&folder.join("control.sock")))),
    },
    Feature {
        name: "state and the recording",
        off: |folder| format!("{}recording = \"\"\n", state(folder)),
        on: |folder| On::alone(state(folder)),
    },
    // Other tests fill disks of their own.
    Feature {
        name: "checks of the host",
        off: |_| NO_HOST_CHECKS.to_owned(),
        on: |_| On::alone("[host]\nfilesystems = false\n"),
    },
    Feature {
        name: "limits and their prediction",
        off: nothing,
        on: |_| {
            On::alone(
                "[defaults.limits]\nmemory_percent = 90\nfds_percent = 80\nthreads_percent = 80\ngrowth = \"4h\"\n",
            )
        },
    },
    Feature {
        name: "a webhook",
        off: nothing,
        on: |_| {
            let receiver = Receiver::start();
            let config = receiver.config();
            On::with(receiver, config)
        },
    },
    Feature {
        name: "Alertmanager",
        off: nothing,
        on: |_| {
            let alertmanager = Alertmanager::start()?;
            let url = alertmanager.alerts_url();
            On::with(alertmanager, format!("[[alert]]\nwebhook = {url:?}\nformat = \"alertmanager\"\n"))
        },
    },
    Feature {
        name: "a heartbeat elsewhere, every 10 s",
        off: nothing,
        on: |_| {
            let receiver = Receiver::start();
            let url = format!("http://127.0.0.1:{}/alive", receiver.port);
            On::with(receiver, format!("[heartbeat]\nurl = {url:?}\ninterval = \"10s\"\n"))
        },
    },
    Feature {
        name: "a fleet of one",
        off: nothing,
        on: |_| {
            let (nats, port) = Nats::on_loopback()?;
            On::with(nats, format!("[fleet]\nnats = \"nats://127.0.0.1:{port}\"\nname = \"alone\"\n"))
        },
    },
    Feature {
        name: "an engine of containers",
        off: nothing,
        on: |_| {
            let podman = Podman::new()?;
            let service = PodmanService::start(&podman);
            let socket = text(service.socket());
            On::with(
                (service, podman),
                format!("[containers]\npodman_socket = {socket:?}\ndiscover = true\n"),
            )
        },
    },
    Feature {
        name: "a probe of Redis, every second",
        off: nothing,
        on: |_| {
            let redis = Redis::start(&[])?;
            let probe =
                probe("redis", redis.port, &format!("redis = \"redis://127.0.0.1:{}\"\n", redis.port));
            On::with(redis, probe)
        },
    },
    Feature {
        name: "a probe of PostgreSQL and its connections, every second",
        off: nothing,
        on: |_| {
            let postgres = Postgres::start(&[])?;
            let address = format!("postgres://postgres@127.0.0.1:{}/postgres", postgres.port);
            let key = format!("postgres = {address:?}\nconnections_percent = 90\n");
            let probe = probe("postgres", postgres.port, &key);
            On::with(postgres, probe)
        },
    },
];

/// A configuration with those features that are chosen, in a folder of its own; None if a part of one is not installed.
pub fn with(chosen: impl Fn(&Feature) -> bool, folder: &Path) -> Option<Set> {
    let (mut config, mut parts) = (String::new(), Vec::new());
    for feature in &FEATURES {
        if chosen(feature) {
            let on = (feature.on)(folder)?;
            config += &on.config;
            parts.push(on.part);
        } else {
            config += &(feature.off)(folder);
        }
    }
    Some(Set { config, _parts: parts })
}

impl Set {
    /// The port of the page, if it has one.
    pub fn page(&self) -> Option<u16> {
        let (_, port) = self.config.split_once(PAGE)?;
        port.split_once('"')?.0.parse().ok()
    }
}

/// A service that is a server on a port, with a probe of its own.
fn probe(name: &str, port: u16, key: &str) -> String {
    format!(
        "[[service]]\nname = {name:?}\nmatch = {{ port = {port} }}\n[[service.probe]]\n{key}interval = \"1s\"\n"
    )
}

/// The state directory, which a daemon with a control socket has in any case.
fn state(folder: &Path) -> String {
    format!("[state]\ndirectory = {:?}\n", text(&folder.join("state")))
}

fn nothing(_: &Path) -> String {
    String::new()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
