//! The state of a container, as its engine reports it.

use serde::{Deserialize, Serialize};

/// A container engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ContainerEngine {
    Docker,
    Podman,
}

impl ContainerEngine {
    pub const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// The word for it in the configuration and in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Its name in sentences.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
        }
    }
}

/// What the engine's health check of a container found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerHealth {
    /// `starting`, `healthy` or `unhealthy`, as the engine names it.
    pub status: String,
    /// Failures in a row.
    pub failures: u32,
    /// The last output of the check, bounded and on one line.
    pub output: String,
}

impl ContainerHealth {
    pub fn is_unhealthy(&self) -> bool {
        self.status == "unhealthy"
    }

    pub fn is_healthy(&self) -> bool {
        self.status == "healthy"
    }
}

/// A container beside the part that it has in common with a unit ([`super::UnitState`]). All texts are foreign and bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    pub engine: ContainerEngine,
    /// 64 hexadecimal digits.
    pub id: String,
    pub name: String,
    /// The image as it was named when the container was made.
    pub image: String,
    /// The labels that tell who made it and which version it is.
    pub labels: Vec<(String, String)>,
    /// The exit code of its last run; None while it runs.
    pub exit_code: Option<i32>,
    /// The engine saw the OOM killer in its last run.
    pub oom_killed: bool,
    /// None without a health check.
    pub health: Option<ContainerHealth>,
    /// The name of the container whose network namespace it shares.
    pub network_of: Option<String>,
    /// It has the network namespace of an earlier run of that container.
    pub network_lost: bool,
    /// The engine was asked to send it a signal that does not ask politely, as by `docker kill`.
    pub was_killed: bool,
    /// What the engine was asked for, as part of a sentence, if that ended its last run.
    pub request: Option<String>,
}

/// The label of compose with the name of a project.
pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// The label of compose with the name of a service in its project.
pub const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// The label of compose with what a service depends on: `db:service_healthy:false,cache:service_started:true`.
pub const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";

impl ContainerState {
    /// A container of which its name alone is known.
    pub fn named(name: &str, engine: ContainerEngine) -> Self {
        Self {
            engine,
            id: String::new(),
            name: name.to_owned(),
            image: String::new(),
            labels: Vec::new(),
            exit_code: None,
            oom_killed: false,
            health: None,
            network_of: None,
            network_lost: false,
            was_killed: false,
            request: None,
        }
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    /// The names of the compose services that it depends on.
    pub fn compose_dependencies(&self) -> impl Iterator<Item = &str> {
        let written = self.label(COMPOSE_DEPENDS_ON).unwrap_or_default();
        written.split(',').filter_map(|one| one.split(':').next()).filter(|name| !name.is_empty())
    }

    /// All foreign texts.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let labels = self.labels.iter_mut().flat_map(|(name, value)| [name, value]);
        let health = self.health.iter_mut().flat_map(|health| [&mut health.status, &mut health.output]);
        [&mut self.name, &mut self.image]
            .into_iter()
            .chain(labels)
            .chain(health)
            .chain(self.network_of.iter_mut())
            .chain(self.request.iter_mut())
    }
}

/// A container that asks by its labels to be a service. All of it is foreign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledContainer {
    pub engine: ContainerEngine,
    pub name: String,
    /// The labels that begin with [`LABEL_PREFIX`], without that.
    pub labels: std::collections::BTreeMap<String, String>,
    /// It runs. One that does not has no address.
    pub runs: bool,
    /// Its first address; None without a network of its own.
    pub address: Option<std::net::IpAddr>,
}

/// How the labels begin that configure hostprobe.
pub const LABEL_PREFIX: &str = "hostprobe.";
