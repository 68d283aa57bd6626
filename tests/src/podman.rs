//! Real containers, by Podman and crun, with an image of nothing but busybox.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::{
    cgroup::hierarchies,
    parts::{require, require_root},
};

const PODMAN: &str = "/usr/bin/podman";
const CRUN: &str = "/usr/bin/crun";
const BUSYBOX: &str = "/bin/busybox";

const IMAGE: &str = "localhost/hostprobe-test:latest";

/// Podman with a store of its own. Its containers are removed with it.
#[derive(Debug)]
pub struct Podman {
    folder: TempDir,
    /// Where cgroup v2 is mounted beside the controllers of v1, if it is.
    beside_v1: Option<String>,
    is_rootless: bool,
}

/// Debian's user without rights.
const NOBODY: u32 = 65534;

impl Podman {
    /// Podman and its image; None where it is not installed.
    ///
    /// # Panics
    /// If the image cannot be made.
    pub fn new() -> Option<Self> {
        Self::with_rights(false)
    }

    /// The same, of a user without rights: its containers are in a user namespace that has this user alone.
    ///
    /// # Panics
    /// If the image cannot be made.
    pub fn rootless() -> Option<Self> {
        Self::with_rights(true)
    }

    fn with_rights(is_rootless: bool) -> Option<Self> {
        let there = require_root()
            && require("podman", PODMAN)
            && require("crun", CRUN)
            && require("busybox-static", BUSYBOX);
        if !there {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let podman = Self { folder, beside_v1: beside_v1(), is_rootless };
        let tar = pack_image(podman.folder());
        if is_rootless {
            let owned = std::os::unix::fs::chown(podman.folder(), Some(NOBODY), Some(NOBODY));
            owned.expect("root may give a folder away");
        }
        podman.run(&["import", &tar.display().to_string(), IMAGE]);
        Some(podman)
    }

    /// A folder that containers may be given parts of.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a container in the background; its id.
    #[track_caller]
    pub fn start(&self, options: &[&str], command: &[&str]) -> String {
        self.container(&["--detach"], options, command)
    }

    /// Runs a container to its end, and removes it; its id.
    #[track_caller]
    pub fn run_to_its_end(&self, options: &[&str], command: &[&str]) -> String {
        let file = self.folder().join("id");
        let _ = fs::remove_file(&file);
        let id_file = format!("--cidfile={}", file.display());
        let output = self.podman(&Self::words(&["--rm", &id_file], options, command));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        fs::read_to_string(file)
            .unwrap_or_else(|error| panic!("no container: {error}: {said}"))
            .trim()
            .to_owned()
    }

    /// Takes an image from an archive of an OCI layout; its id.
    #[track_caller]
    pub fn load(&self, archive: &Path) -> String {
        self.run(&["pull", "--quiet", &format!("oci-archive:{}", archive.display())])
    }

    /// Runs a container of another image to its end, and removes it; what it printed.
    #[track_caller]
    pub fn output_of(&self, image: &str, options: &[&str], command: &[&str]) -> Output {
        self.podman(&[&["run", "--rm"], options, &[image], command].concat())
    }

    /// Starts a container of another image in the background; its id.
    #[track_caller]
    pub fn start_image(&self, image: &str, options: &[&str], command: &[&str]) -> String {
        self.run(&[&["run", "--detach"], options, &[image], command].concat())
    }

    /// Runs a command in a running container.
    pub fn execute(&self, id: &str, command: &[&str]) -> Output {
        self.podman(&[&["exec", id], command].concat())
    }

    /// Sends the first process of a container a SIGKILL, as an operator does.
    pub fn kill(&self, id: &str) {
        self.run(&["kill", id]);
    }

    /// The pid here of a container's first process.
    ///
    /// # Panics
    /// If it does not run.
    #[track_caller]
    pub fn pid(&self, id: &str) -> u32 {
        self.run(&["inspect", "--format={{.State.Pid}}", id]).parse().expect("a pid")
    }

    #[track_caller]
    fn container(&self, first: &[&str], options: &[&str], command: &[&str]) -> String {
        self.run(&Self::words(first, options, command))
    }

    fn words<'a>(first: &[&'a str], options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
        // Limits that the user who runs the tests may set; no network is needed.
        let always = ["--network=none", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
        let parts: [&[&str]; 6] = [&["run"], first, &always, options, &[IMAGE], command];
        parts.concat()
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.podman(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Starts a container in the background, in this network; its id.
    #[track_caller]
    pub fn start_in_network(&self, network: &str, options: &[&str], command: &[&str]) -> String {
        let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
        self.run(&[&["run", "--detach", network], limits.as_slice(), options, &[IMAGE], command].concat())
    }

    /// Runs the health check of a container once, as systemd's timer does. Its outcome is in the state of the container.
    pub fn check_health(&self, id: &str) {
        self.podman(&["healthcheck", "run", id]);
    }

    /// Runs podman, which succeeds; what it prints.
    #[track_caller]
    pub fn invoke(&self, arguments: &[&str]) -> String {
        self.run(arguments)
    }

    fn podman(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("podman can be started")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let (store, run) = (self.folder().join("store"), self.folder().join("run"));
        // crun refuses a v2 beside v1 that has controllers of its own. What it does not see does not disturb it.
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--mount", "--propagation=private", "/bin/sh", "-c"]);
        command.arg(r#"[ -z "$0" ] || umount "$0"; exec "$@""#);
        command.arg(self.beside_v1.as_deref().unwrap_or_default());
        if self.is_rootless {
            let folder = self.folder().display();
            command.args(["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
            command.args(["/usr/bin/env", &format!("--chdir={folder}"), &format!("HOME={folder}")]);
            command.arg(format!("XDG_RUNTIME_DIR={folder}"));
        }
        command.arg(PODMAN);
        // conmon leaves a file in its folder where the kernel ends a container for lack of memory.
        command.current_dir(self.folder());
        command.arg("--root").arg(store).arg("--runroot").arg(run);
        command.args(["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--runtime=crun"]);
        command.args(["--events-backend=file", "--log-level=error"]).args(arguments);
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.podman(&["rm", "--force", "--all", "--time=0"]);
        if self.is_rootless {
            // A process keeps the user namespace otherwise.
            self.podman(&["system", "migrate"]);
        }
        // The parent of its containers' groups, unless it holds groups of other containers.
        for parent in hierarchies().into_iter().map(|hierarchy| hierarchy.mount.join("libpod_parent")) {
            let _ = fs::remove_dir(parent.join("conmon"));
            let _ = fs::remove_dir(parent);
        }
    }
}

/// Packs the image into a folder; its archive.
pub(crate) fn pack_image(folder: &Path) -> PathBuf {
    let root = folder.join("image");
    fs::create_dir_all(root.join("bin")).expect("a folder is made");
    fs::copy(BUSYBOX, root.join("bin/busybox")).expect("it is copied");
    for name in ["sh", "sleep", "cat", "echo", "rm", "tail", "touch"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).expect("a link is made");
    }
    let tar = folder.join("image.tar");
    let made = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
    assert!(made.is_ok_and(|made| made.success()), "the image is packed");
    tar
}

/// Where cgroup v2 is mounted, on a host whose controllers are on v1.
fn beside_v1() -> Option<String> {
    let hierarchies = hierarchies();
    let v1 = hierarchies.iter().any(|hierarchy| !hierarchy.v2);
    let v2 = hierarchies.iter().find(|hierarchy| hierarchy.v2 && v1);
    v2.map(|hierarchy| hierarchy.mount.display().to_string())
}
