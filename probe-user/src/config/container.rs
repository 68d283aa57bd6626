//! Containers, and the sockets of their engines.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::At;
use crate::fact::ContainerEngine;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContainerKeys {
    /// Docker's API socket; "" for none; "/run/docker.sock" if not given.
    #[schemars(regex(pattern = "^(?:$|/)"), length(max = 107))]
    pub(super) docker_socket: At<String>,
    /// Podman's API socket; "" for none; "/run/podman/podman.sock" if not given.
    #[schemars(regex(pattern = "^(?:$|/)"), length(max = 107))]
    pub(super) podman_socket: At<String>,
    /// Whether containers with labels `hostprobe.*` are services of their own; false if not given.
    pub(super) discover: Option<bool>,
    /// Whether such a label may turn on restarts; false if not given.
    pub(super) discover_restarts: Option<bool>,
}

/// A container by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// As the engine knows it, without a slash.
    pub name: String,
    /// None: the engine that has it.
    pub engine: Option<ContainerEngine>,
}

/// The container engines of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerOptions {
    /// Docker's API socket; None: it is not used.
    pub docker_socket: Option<PathBuf>,
    /// Podman's API socket; None: it is not used.
    pub podman_socket: Option<PathBuf>,
    /// Whether containers with labels `hostprobe.*` are services of their own.
    pub discover: bool,
    /// Whether such a label may turn on restarts.
    pub discover_restarts: bool,
}

impl Default for ContainerOptions {
    /// The sockets of the engines that run as root; no service comes from a label.
    fn default() -> Self {
        Self {
            docker_socket: Some("/run/docker.sock".into()),
            podman_socket: Some("/run/podman/podman.sock".into()),
            discover: false,
            discover_restarts: false,
        }
    }
}

impl ContainerOptions {
    /// The sockets in use, each once: Podman's may be linked to where Docker's is.
    pub fn sockets(&self) -> Vec<(ContainerEngine, &Path)> {
        let all = [
            (ContainerEngine::Docker, self.docker_socket.as_deref()),
            (ContainerEngine::Podman, self.podman_socket.as_deref()),
        ];
        all.into_iter().filter_map(|(engine, path)| Some((engine, path?))).collect()
    }
}
