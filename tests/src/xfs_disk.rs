//! An XFS on a loop device, and its faults.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::loop_disk::run;

/// The least that `mkfs.xfs` makes is 300 MiB. The file has few blocks of it.
const BYTES: u64 = 400 << 20;

const BLOCK: usize = 4096;

/// A file in an allocation group of its own: each new folder is made in the next group.
const FOLDERS: [&str; 2] = ["first", "second"];
const FILE: &str = "second/file";

#[derive(Debug)]
pub struct XfsDisk {
    folder: TempDir,
    device: PathBuf,
}

impl XfsDisk {
    /// Mounted, with the root of the inode tree of every group but the first cleared. To remove its file cannot succeed.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn damaged() -> Self {
        let mut it = Self::new(None);
        FOLDERS.iter().for_each(|name| fs::create_dir(it.point().join(name)).expect("a folder"));
        it.write(FILE).expect("a file");
        run(Command::new("/usr/bin/umount").arg(it.point()));
        let number = |of: &str, field: &str| {
            let print = format!("print {field}");
            let said =
                run(Command::new("/usr/sbin/xfs_db").args(["-r", "-c", of, "-c", &print]).arg(it.image()));
            said.trim().rsplit(' ').next().and_then(|it| it.parse::<u64>().ok()).expect("a number")
        };
        let image = File::options().write(true).open(it.image()).expect("the image");
        let blocks = number("sb 0", "agblocks");
        for group in 1..number("sb 0", "agcount") {
            let root = group * blocks + number(&format!("agi {group}"), "root");
            image.write_all_at(&[0; BLOCK], root * BLOCK as u64).expect("it is cleared");
        }
        // The device may have the blocks in memory.
        run(Command::new("/usr/sbin/losetup").arg("-d").arg(&it.device));
        let device = run(Command::new("/usr/sbin/losetup").args(["-f", "--show"]).arg(it.image()));
        it.device = device.trim().into();
        it.mount();
        it
    }

    /// Mounted, and every further write fails.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn without_room() -> Self {
        let it = Self::new(Some("size=256m"));
        // What a write needs to read is in memory from now on.
        it.write("before").expect("there is room");
        File::options().write(true).open(it.image()).and_then(|it| it.set_len(0)).expect("its end");
        let memory = it.folder.path().join("memory");
        run(Command::new("/usr/bin/mount").args(["-o", "remount,size=4k"]).arg(memory));
        it
    }

    /// Its file is in a folder, or in a file system in memory with these options.
    fn new(memory: Option<&str>) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        ["memory", "disk"]
            .iter()
            .for_each(|name| fs::create_dir(folder.path().join(name)).expect("a folder"));
        if let Some(options) = memory {
            let point = folder.path().join("memory");
            run(Command::new("/usr/bin/mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(point));
        }
        let image = folder.path().join("memory/image");
        File::create(&image).and_then(|file| file.set_len(BYTES)).expect("an image");
        run(Command::new("/usr/sbin/mkfs.xfs").arg("-q").arg(&image));
        let device = run(Command::new("/usr/sbin/losetup").args(["-f", "--show"]).arg(&image));
        let it = Self { folder, device: device.trim().into() };
        it.mount();
        it
    }

    fn mount(&self) {
        run(Command::new("/usr/bin/mount").args(["-t", "xfs"]).arg(&self.device).arg(self.point()));
    }

    pub fn device(&self) -> &Path {
        &self.device
    }

    fn point(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("memory/image")
    }

    /// Writes a file, to the disk itself.
    pub fn write(&self, name: &str) -> io::Result<()> {
        let mut file = File::create(self.point().join(name))?;
        file.write_all(b"written")?;
        file.sync_all()
    }

    /// Removes the file of a damaged one.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(self.point().join(FILE))
    }
}

impl Drop for XfsDisk {
    fn drop(&mut self) {
        let _ = Command::new("/usr/bin/umount").arg(self.point()).output();
        let _ = Command::new("/usr/sbin/losetup").arg("-d").arg(&self.device).output();
        let _ = Command::new("/usr/bin/umount").arg("-l").arg(self.folder.path().join("memory")).output();
    }
}
