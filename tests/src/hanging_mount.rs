//! A file system that does not answer: FUSE whose server never reads a request.

use std::{
    fs::{File, OpenOptions},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::parts::{available, require_root};

/// Every lookup in its folder hangs until it is dropped.
#[derive(Debug)]
pub struct HangingMount {
    /// The end of its server. When it is closed, the kernel fails all requests.
    server: Option<File>,
    folder: TempDir,
}

impl HangingMount {
    /// Mounts one; None if the test has to be skipped.
    ///
    /// # Panics
    /// If it cannot be mounted although its parts are there.
    pub fn new() -> Option<Self> {
        if !require_root() || !available(Path::new("/dev/fuse").exists(), "/dev/fuse") {
            return None;
        }
        let server = OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("/dev/fuse opens");
        let folder = TempDir::new().expect("a temporary folder");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0\0", server.as_raw_fd());
        let options = std::ffi::CStr::from_bytes_with_nul(options.as_bytes()).expect("options");
        mount("hanging", folder.path(), "fuse", MountFlags::NOSUID | MountFlags::NODEV, options)
            .expect("FUSE can be mounted");
        Some(Self { server: Some(server), folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for HangingMount {
    fn drop(&mut self) {
        drop(self.server.take());
        // A mount that stays holds nothing: its requests have failed.
        let _ = unmount(self.folder.path(), UnmountFlags::DETACH);
    }
}
