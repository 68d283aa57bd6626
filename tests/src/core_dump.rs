//! Core dumps that take their time.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{http, process::until};

/// Far more than a dump takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// Core dumps go through a program that reads that of one process late, and no other. The setting is the whole host's,
/// so it holds only until that dump has begun.
#[derive(Debug)]
pub struct SlowDumps {
    before: String,
    folder: PathBuf,
    _alone: File,
}

/// Keeps the setting as it is until it is dropped: a test that is to change it waits, one of another program as well.
///
/// # Panics
/// If there can be no file for that.
pub fn alone() -> File {
    let path = std::env::temp_dir().join("hostprobe-test-core-pattern");
    let file = File::create(path).expect("a temporary file");
    file.lock().expect("it can be locked");
    file
}

impl SlowDumps {
    /// The dump of this process is read after so many seconds. The program that reads it is in this folder.
    ///
    /// # Panics
    /// If this user may not change the setting.
    pub fn new(folder: &Path, pid: u32, seconds: u32) -> Self {
        let alone = alone();
        let before = fs::read_to_string(CORE_PATTERN).expect("the pattern can be read");
        let (script, base) = (folder.join("dump"), folder.display());
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = {pid} ] || exit 0\n: > {base}/begun\nsleep {seconds}\nwc -c > {base}/size\n"
        );
        fs::write(&script, text).expect("a script is written");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("it may be executed");
        fs::write(CORE_PATTERN, format!("|{} %p", script.display())).expect("root may set the pattern");
        Self { before, folder: folder.to_owned(), _alone: alone }
    }

    pub fn until_begun(&self) {
        until("a dump begins", LONG, || self.folder.join("begun").exists().then_some(()));
    }

    /// The size of the dump, once it is complete.
    pub fn size(folder: &Path) -> u64 {
        let size = || fs::read_to_string(folder.join("size")).ok()?.trim().parse().ok();
        until("the dump ends", LONG, size)
    }
}

impl Drop for SlowDumps {
    fn drop(&mut self) {
        let _ = fs::write(CORE_PATTERN, &self.before);
    }
}

/// Has a victim use so many megabytes, which are in its dump.
///
/// # Panics
/// If it does not answer.
pub fn allocate(port: u16, pid: u32, megabytes: u64) {
    assert_eq!(http::get(port, &format!("/alloc?mb={megabytes}")).expect("an answer").0, 200);
    let statm = format!("/proc/{pid}/statm");
    let resident = || fs::read_to_string(&statm).ok()?.split(' ').nth(1)?.parse::<u64>().ok();
    until("it uses the memory", LONG, || resident().filter(|pages| pages * 4096 > megabytes * 1_000_000));
}
