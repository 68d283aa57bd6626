//! Real faults of the host: tasks that hang, disks that fail requests, file systems that are damaged.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::TempDir;

use crate::{
    loop_disk::run,
    parts::{require, require_root},
};

/// `_IOWR('X', 119, int)` and the one after it (`linux/fs.h`).
const FIFREEZE: libc::Ioctl = 0xc004_5877_u32 as libc::Ioctl;
const FITHAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;

/// In units of 512 bytes: the first sector that a disk of these tests cannot read.
pub const FIRST_BAD_SECTOR: u64 = 2048;

/// The damaged file of a [`DamagedDisk`].
pub const DAMAGED: &str = "damaged";

/// A file system that takes no writes: a process that writes to it hangs until this is dropped.
#[derive(Debug)]
pub struct Frozen(File);

impl Frozen {
    pub fn new(mount_point: &Path) -> io::Result<Self> {
        let folder = File::open(mount_point)?;
        call(&folder, FIFREEZE)?;
        Ok(Self(folder))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Fails only if it is not frozen any more.
        let _ = call(&self.0, FITHAW);
    }
}

fn call(folder: &File, request: libc::Ioctl) -> io::Result<()> {
    // SAFETY: both requests ignore their argument.
    let result = unsafe { libc::ioctl(folder.as_raw_fd(), request, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kernel looks for hung tasks every second, and writes as many warnings as there are. Dropping it restores what was
/// set before. One at a time: the settings are the host's.
#[derive(Debug)]
pub struct HungTaskDetector {
    before: Vec<(PathBuf, String)>,
    _alone: MutexGuard<'static, ()>,
}

impl HungTaskDetector {
    pub fn hasty() -> io::Result<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let mut it =
            Self { before: Vec::new(), _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner) };
        for (name, value) in [("hung_task_warnings", "-1"), ("hung_task_timeout_secs", "1")] {
            let path = Path::new("/proc/sys/kernel").join(name);
            let before = fs::read_to_string(&path)?;
            fs::write(&path, value)?;
            it.before.push((path, before));
        }
        Ok(it)
    }
}

impl Drop for HungTaskDetector {
    fn drop(&mut self) {
        for (path, value) in &self.before {
            let _ = fs::write(path, value);
        }
    }
}

/// Reads a page from a disk, beside the kernel's cache.
pub fn read_sector(disk: &Path, sector: u64) -> io::Result<()> {
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let mut page = Box::new(Page([0; 4096]));
    File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(disk)?
        .read_exact_at(&mut page.0, sector * 512)
}

/// A loop device that cannot read from [`FIRST_BAD_SECTOR`] on, because its file ends there.
#[derive(Debug)]
pub struct ShortDisk {
    _folder: TempDir,
    device: PathBuf,
}

impl ShortDisk {
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
        let file = File::create(&image).expect("an image");
        file.set_len(8 << 20).expect("its length");
        let device = run(Command::new("/usr/sbin/losetup").args(["-f", "--show"]).arg(&image));
        file.set_len(FIRST_BAD_SECTOR * 512).expect("its end");
        Some(Self { _folder: folder, device: device.trim().into() })
    }

    pub fn path(&self) -> &Path {
        &self.device
    }

    /// Such as `loop0`.
    pub fn name(&self) -> String {
        name_of(&self.device)
    }
}

impl Drop for ShortDisk {
    fn drop(&mut self) {
        let _ = Command::new("/usr/sbin/losetup").arg("-d").arg(&self.device).output();
    }
}

/// The kernel's name of a device.
///
/// # Panics
/// If it is no path of a device.
pub fn name_of(device: &Path) -> String {
    device.file_name().expect("the name of a device").to_string_lossy().into_owned()
}

/// An ext4 on a loop device with a file whose inode is cleared: each look at it is an error.
#[derive(Debug)]
pub struct DamagedDisk {
    _folder: TempDir,
    device: PathBuf,
    point: PathBuf,
}

impl DamagedDisk {
    /// Mounted. None if the test has to be skipped.
    ///
    /// # Panics
    /// If it cannot be made although its parts are there.
    pub fn new() -> Option<Self> {
        let parts = [
            ("e2fsprogs", "/usr/sbin/mkfs.ext4"),
            ("e2fsprogs", "/usr/sbin/debugfs"),
            ("mount", "/usr/sbin/losetup"),
        ];
        if !require_root() || !parts.iter().all(|(package, path)| require(package, path)) {
            return None;
        }
        let folder = TempDir::new().expect("a temporary folder");
        let (image, content, point) =
            (folder.path().join("image"), folder.path().join("content"), folder.path().join("disk"));
        File::create(&image).and_then(|file| file.set_len(4 << 20)).expect("an image");
        fs::write(&content, "content").expect("a file");
        fs::create_dir(&point).expect("a mount point");
        let features = ["-q", "-F", "-O", "^has_journal,^metadata_csum"];
        run(Command::new("/usr/sbin/mkfs.ext4").args(features).arg(&image));
        for command in [format!("write {} {DAMAGED}", content.display()), format!("clri {DAMAGED}")] {
            run(Command::new("/usr/sbin/debugfs").args(["-w", "-R", &command]).arg(&image));
        }
        let device = run(Command::new("/usr/sbin/losetup").args(["-f", "--show"]).arg(&image));
        let it = Self { _folder: folder, device: device.trim().into(), point };
        run(Command::new("/usr/bin/mount").args(["-t", "ext4"]).arg(&it.device).arg(&it.point));
        Some(it)
    }

    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        &self.point
    }
}

impl Drop for DamagedDisk {
    fn drop(&mut self) {
        let _ = Command::new("/usr/bin/umount").arg("-l").arg(&self.point).output();
        let _ = Command::new("/usr/sbin/losetup").arg("-d").arg(&self.device).output();
    }
}
