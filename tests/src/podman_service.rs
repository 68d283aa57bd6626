//! Podman's API socket: a real `podman system service`.

use std::{
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::podman::Podman;

/// Far longer than Podman takes to open its socket.
const OPENS: Duration = Duration::from_secs(30);

/// A running service, ended when it is dropped.
#[derive(Debug)]
pub struct PodmanService {
    process: Child,
    socket: PathBuf,
}

impl PodmanService {
    /// Starts the service of this Podman.
    ///
    /// # Panics
    /// If it does not open its socket.
    pub fn start(podman: &Podman) -> Self {
        let socket = Self::socket_of(podman);
        let address = format!("unix://{}", socket.display());
        let mut command = podman.command(&["system", "service", "--time=0", &address]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("podman starts");
        let service = Self { process, socket };
        let began = Instant::now();
        while UnixStream::connect(&service.socket).is_err() {
            assert!(began.elapsed() < OPENS, "podman opens its socket");
            std::thread::sleep(Duration::from_millis(10));
        }
        service
    }

    /// Lets every user connect, as an operator lets a group: root without all of its rights may not, where the socket is
    /// another user's.
    ///
    /// # Panics
    /// If the mode cannot be changed.
    pub fn open_to_all(&self) {
        let mode = std::fs::Permissions::from_mode(0o666);
        std::fs::set_permissions(&self.socket, mode).expect("root may change the mode");
    }

    /// Where the service of this Podman listens, now or later.
    pub fn socket_of(podman: &Podman) -> PathBuf {
        podman.folder().join("podman.sock")
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for PodmanService {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}
