//! Docker's engine: a real dockerd with a store of its own, and an image of nothing but busybox.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    cgroup::hierarchies,
    parts::{require, require_root},
    podman::pack_image,
    process::{Running, until},
};

const DOCKERD: &str = "/usr/sbin/dockerd";
const DOCKER: &str = "/usr/bin/docker";

const IMAGE: &str = "hostprobe-test:latest";

/// Far longer than it takes.
const START: Duration = Duration::from_secs(60);

/// A running engine. Its containers are removed with it.
#[derive(Debug)]
pub struct Docker {
    folder: TempDir,
    engine: Option<Running>,
}

impl Docker {
    /// Starts one and makes its image; None where it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Option<Self> {
        if !(require_root() && require("docker.io", DOCKERD) && require("busybox-static", "/bin/busybox")) {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        // Its mounts go with its namespace.
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--mount", "--propagation=private", DOCKERD, "--data-root", &path("data")]);
        command.args(["--exec-root", &path("exec"), "--pidfile", &path("pid")]);
        command.args(["--host", &format!("unix://{}", path("docker.sock"))]);
        // No network is needed, and the host's own stays as it is.
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"]);
        let engine = Running::start(&mut command, Signal::TERM);
        engine.wait_until_it_says("API listen on", &engine.stderr, START);
        let docker = Self { engine: Some(engine), folder };
        let tar = pack_image(docker.folder());
        docker.invoke(&["import", &tar.display().to_string(), IMAGE]);
        Some(docker)
    }

    /// A folder that containers may be given parts of.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder().join("docker.sock")
    }

    /// Starts a container in the background; its id.
    #[track_caller]
    pub fn run(&self, options: &[&str], command: &[&str]) -> String {
        self.invoke(&[&["run", "--detach", "--network=none"], options, &[IMAGE], command].concat())
    }

    /// Runs docker, which succeeds; what it prints.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn invoke(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(DOCKER);
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        // Nothing of a user's own configuration counts.
        command.env("DOCKER_CONFIG", self.folder());
        command.args(arguments).output().expect("docker can be started")
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let ids = String::from_utf8_lossy(&self.docker(&["ps", "--all", "--quiet"]).stdout).into_owned();
        let ids: Vec<&str> = ids.split_whitespace().collect();
        if !ids.is_empty() {
            self.docker(&[&["rm", "--force"], ids.as_slice()].concat());
        }
        if let Some(mut engine) = self.engine.take() {
            engine.stop();
        }
        // The parent of its containers' groups, unless it holds groups of other containers.
        for parent in hierarchies().into_iter().map(|hierarchy| hierarchy.mount.join("docker")) {
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Waits until a container has a state, such as `running`.
///
/// # Panics
/// If it does not come to it.
pub fn wait_for_state(docker: &Docker, name: &str, state: &str) {
    until("the container has the state", START, || {
        let now = docker.docker(&["inspect", "--format={{.State.Status}}", name]);
        (String::from_utf8_lossy(&now.stdout).trim() == state).then_some(())
    });
}
