//! What processes write, by the files that they have open for that: the file systems of these, and how far they are.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::PathBuf,
};

use super::{
    ProcReader,
    mount::{Mount, Storage, mount_at},
    process::{STATUS_MAX, status_field},
    read_record, read_text,
};

/// Further descriptors of a process, and further processes, are left out: one open file of a file system is enough.
const FILES_MAX: usize = 512;
const PROCESSES_MAX: usize = 32;

impl ProcReader {
    /// The file systems that a process and its children write to, as `major:minor`: those of the files that they have open
    /// for writing, and, if it is not the root's, that of their working folder.
    pub fn written_by(&self, main: u32) -> BTreeSet<String> {
        let mut devices = BTreeSet::new();
        let children = self.children_of(main);
        for pid in std::iter::once(main).chain(children).take(PROCESSES_MAX) {
            let Ok(mounts) = self.mounts_of(pid) else { continue };
            let of_file = |file: OpenFile| {
                let mount = mounts.iter().find(|it| Some(it.id) == file.mount && holds_data(it))?;
                Some(mount.device.clone())
            };
            devices.extend(self.open_for_writing(pid).filter_map(of_file));
            let folder = fs::read_link(self.folder(pid).join("cwd")).ok();
            devices.extend(folder.and_then(|folder| written_at(&mounts, folder.to_str()?)));
        }
        devices
    }

    /// How far a process is in the regular files that it writes from their beginning to their end, by path. A file that is
    /// only appended to is a log, and what is written at offsets (`pwrite(2)`) does not move the position.
    pub fn write_positions(&self, pid: u32) -> HashMap<String, u64> {
        let files = self.open_for_writing(pid).filter(|file| !file.appends);
        files.filter_map(|file| Some((file.path.to_str()?.to_owned(), file.position?))).collect()
    }

    /// Whether a process writes files as root: its file system user id is 0 (`proc_pid_status(5)`). None if it is gone.
    pub fn writes_as_root(&self, pid: u32) -> Option<bool> {
        let status = read_record(&self.folder(pid).join("status"), STATUS_MAX).ok()?;
        status_field(&String::from_utf8_lossy(&status), "Uid").nth(3).map(|user| user == 0)
    }

    /// The files that a process has open for writing.
    fn open_for_writing(&self, pid: u32) -> impl Iterator<Item = OpenFile> {
        let folder = self.folder(pid);
        let entries = fs::read_dir(folder.join("fd")).into_iter().flatten().flatten().take(FILES_MAX);
        entries.filter_map(move |entry| {
            let path = fs::read_link(entry.path()).ok()?;
            // Sockets, pipes and the like have no path.
            if !path.is_absolute() || path.starts_with("/dev") || path.starts_with("/proc") {
                return None;
            }
            let info = read_text(&folder.join("fdinfo").join(entry.file_name()), 4096).ok()?;
            let field = |name: &str| Some(info.lines().find_map(|line| line.strip_prefix(name))?.trim());
            let flags = i32::from_str_radix(field("flags:")?, 8).ok()?;
            let number = |name| field(name)?.parse::<u64>().ok();
            let mount = number("mnt_id:").and_then(|id| u32::try_from(id).ok());
            let (position, appends) = (number("pos:"), flags & libc::O_APPEND != 0);
            (flags & libc::O_ACCMODE != libc::O_RDONLY).then_some(OpenFile { path, mount, position, appends })
        })
    }
}

/// A file that a process has open for writing (`proc_pid_fdinfo(5)`).
struct OpenFile {
    path: PathBuf,
    /// The id of its mount.
    mount: Option<u32>,
    position: Option<u64>,
    appends: bool,
}

/// The file system of a folder that a service works in, if it is not the root's: much of a host is there.
pub fn written_at(mounts: &[Mount], folder: &str) -> Option<String> {
    let mount = mount_at(mounts, folder)?;
    (mount.point != "/" && holds_data(mount)).then(|| mount.device.clone())
}

fn holds_data(mount: &Mount) -> bool {
    mount.storage() != Storage::Other
}

#[cfg(test)]
mod tests {
    use crate::host::fake::FakeHost;

    #[test]
    fn a_dump_has_a_position_and_a_log_has_none() {
        let host = FakeHost::v2();
        host.process(7, 1, "db", "/usr/bin/db");
        for (number, target, flags, position) in [
            (1, "/dev/null", "01", 9),
            (2, "socket:[5]", "02", 9),
            (3, "/var/log/db.log", "02001", 9),
            (4, "/etc/db.conf", "0100000", 9),
            (5, "/data/temp-7.rdb", "0101101", 4096),
        ] {
            host.fd(7, number, target);
            let info = format!("pos:\t{position}\nflags:\t{flags}\nmnt_id:\t27\n");
            host.write(&format!("proc/7/fdinfo/{number}"), info.as_bytes());
        }
        let positions = host.reader().write_positions(7);
        assert_eq!(positions.into_iter().collect::<Vec<_>>(), [("/data/temp-7.rdb".to_owned(), 4096)]);
    }

    #[test]
    fn only_what_is_open_for_writing_and_a_working_folder_off_the_root_count() {
        let host = FakeHost::v2();
        host.process(7, 1, "db", "/usr/bin/db");
        host.write(
            "proc/7/mountinfo",
            b"27 1 254:0 / / rw - ext4 /dev/vda rw\n28 27 254:16 / /data rw - ext4 /dev/vdb rw\n\
              29 27 254:32 / /read rw - ext4 /dev/vdc rw\n30 27 0:5 / /sys rw - sysfs sysfs rw\n",
        );
        for (number, target, flags, mount) in [
            (0, "/dev/null", "0100002", 27),
            (1, "socket:[5]", "02", 9),
            (2, "/read/x", "0100000", 29),
            (3, "/sys/x", "01", 30),
            (4, "/var/log/db.log", "0102001", 27),
        ] {
            host.fd(7, number, target);
            let info = format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t{mount}\n");
            host.write(&format!("proc/7/fdinfo/{number}"), info.as_bytes());
        }
        let reader = host.reader();
        assert_eq!(reader.written_by(7).into_iter().collect::<Vec<_>>(), ["254:0"]);
        host.link("proc/7/cwd", "/data/pg");
        assert_eq!(reader.written_by(7).into_iter().collect::<Vec<_>>(), ["254:0", "254:16"]);
        assert!(reader.written_by(8).is_empty());
    }
}
