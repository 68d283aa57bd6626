//! A small ext4 on a loop device, mounted for one test.

use std::{
    fs::{self, File},
    io::{ErrorKind, Seek as _, SeekFrom, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

use crate::parts::{require, require_root};

/// A user without rights.
const NOBODY: u32 = 65534;

/// Unmounted when it is dropped.
#[derive(Debug)]
pub struct LoopDisk {
    folder: TempDir,
    point: PathBuf,
}

impl LoopDisk {
    /// One of so many MiB, all of which any user can fill unless the options of mkfs say otherwise; None if the test has to be skipped.
    ///
    /// # Panics
    /// If it cannot be made or mounted although its parts are there.
    pub fn new(mebibytes: u64, options: &[&str]) -> Option<Self> {
        if !require_root()
            || !require("e2fsprogs", "/usr/sbin/mkfs.ext4")
            || !require("mount", "/usr/bin/mount")
        {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let (image, point) = (folder.path().join("image"), folder.path().join("disk"));
        File::create(&image).and_then(|file| file.set_len(mebibytes << 20)).expect("an image");
        fs::create_dir(&point).expect("a mount point");
        run(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-m", "0"]).args(options).arg(&image));
        run(Command::new("/usr/bin/mount").args(["-o", "loop"]).arg(&image).arg(&point));
        // The tests of services under another user go through it.
        run(Command::new("/bin/chmod").arg("755").arg(folder.path()).arg(&point));
        Some(Self { folder, point })
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Fills what is for all users, as one that is not root: the blocks that it reserves for root are left.
    ///
    /// # Panics
    /// If it does not become full.
    pub fn fill_as_another_user(&self) {
        run(Command::new("/bin/chmod").arg("1777").arg(&self.point));
        let ballast = format!("of={}", self.ballast().display());
        let mut copy = Command::new("/bin/dd");
        copy.args(["if=/dev/zero", &ballast, "bs=4096"]).uid(NOBODY).gid(NOBODY);
        let output = copy.output().expect("dd can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("No space left on device"), "{said}");
    }

    /// Fills it to the last block.
    ///
    /// # Panics
    /// If that fails for another reason than that it is full.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file on the disk");
        // Most of it at once, so that no check of the disk sees it half full.
        let room = statvfs(self.path()).map(|disk| disk.f_bavail * disk.f_frsize).expect("the disk answers");
        fallocate(&ballast, FallocateFlags::empty(), 0, room / 100 * 98).expect("there is room");
        ballast.seek(SeekFrom::End(0)).expect("a file can be sought in");
        for size in [1 << 20, 4096] {
            let block = vec![7; size];
            let error = loop {
                if let Err(error) = ballast.write_all(&block) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    /// Gives back what [`Self::fill`] took.
    ///
    /// # Panics
    /// If that fails.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("the ballast is removed");
    }

    /// Makes files until no further one fits.
    ///
    /// # Panics
    /// If that fails for another reason.
    pub fn use_up_inodes(&self) {
        for number in 0.. {
            if let Err(error) = File::create(self.point.join(format!("file-{number}"))) {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
                return;
            }
        }
    }

    /// Remounts it, such as `ro`.
    ///
    /// # Panics
    /// If that fails.
    pub fn remount(&self, options: &str) {
        run(Command::new("/usr/bin/mount").args(["-o", &format!("remount,{options}")]).arg(&self.point));
    }

    fn ballast(&self) -> PathBuf {
        self.point.join("ballast")
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("/usr/bin/umount").arg("-l").arg(self.folder.path().join("disk")).output();
    }
}

/// A loop device whose file is on a file system in memory that is too small for it: the kernel's writes fail.
#[derive(Debug)]
pub struct FailingDisk {
    folder: TempDir,
    device: String,
}

impl FailingDisk {
    /// None if the test has to be skipped.
    ///
    /// # Panics
    /// If it cannot be made although its parts are there.
    pub fn new() -> Option<Self> {
        if !require_root() || !require("mount", "/usr/sbin/losetup") {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let image = folder.path().join("image");
        run(Command::new("/usr/bin/mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(folder.path()));
        File::create(&image).and_then(|file| file.set_len(64 << 20)).expect("an image");
        let device = run(Command::new("/usr/sbin/losetup").args(["-f", "--show"]).arg(&image));
        Some(Self { folder, device: device.trim().to_owned() })
    }

    /// Its name, as the kernel's log has it.
    pub fn name(&self) -> &str {
        self.device.trim_start_matches("/dev/")
    }

    /// Writes more to it than it can hold.
    ///
    /// # Panics
    /// If that succeeds.
    pub fn fail(&self) {
        let written = File::options().write(true).open(&self.device).and_then(|mut disk| {
            disk.write_all(&vec![1; 16 << 20])?;
            disk.sync_all()
        });
        assert!(written.is_err(), "the disk takes more than its file has room for");
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        let _ = Command::new("/usr/sbin/losetup").args(["-d", &self.device]).output();
        let _ = Command::new("/usr/bin/umount").arg("-l").arg(self.folder.path()).output();
    }
}

/// Runs a program to its end.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program can be run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
