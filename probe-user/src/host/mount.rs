//! The mounted file systems, by `mountinfo` (`proc_pid_mountinfo(5)`).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{ProcReader, ReadError, read_text};

/// A host with thousands of containers has a few megabytes.
const MOUNTINFO_MAX: u64 = 16 << 20;

/// Further mounts are left out.
const MOUNTS_MAX: usize = 16_384;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: u32,
    /// The file system, as `major:minor`. Bind mounts of it have the same.
    pub device: String,
    /// The part of the file system that is mounted.
    pub root: String,
    pub point: String,
    /// The mount itself is read-only.
    pub is_read_only: bool,
    pub kind: String,
    pub source: String,
    /// The file system takes no writes: it was mounted so, or became so by an error.
    pub takes_no_writes: bool,
    /// A process of another user than root answers for it, and may say anything or nothing.
    pub is_of_user: bool,
}

/// Where a file system keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A disk of this host.
    Disk,
    /// A server, or a process that may not answer.
    Remote,
    /// Memory.
    Memory,
    /// Another file system below it.
    Layers,
    /// It cannot be written to, or holds no data of services.
    Other,
}

impl Mount {
    pub fn storage(&self) -> Storage {
        if self.is_of_user {
            return Storage::Other;
        }
        match self.kind.as_str() {
            "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs" | "jfs" | "reiserfs" | "zfs" | "bcachefs"
            | "nilfs2" | "ubifs" | "vfat" | "exfat" | "ntfs3" | "hfsplus" | "minix" => Storage::Disk,
            "nfs" | "nfs4" | "cifs" | "smb3" | "ceph" | "9p" | "virtiofs" | "ocfs2" | "gfs2" | "lustre"
            | "glusterfs" | "fuseblk" | "fuse" => Storage::Remote,
            kind if kind.starts_with("fuse.") => Storage::Remote,
            "tmpfs" | "ramfs" | "hugetlbfs" => Storage::Memory,
            "overlay" => Storage::Layers,
            _ => Storage::Other,
        }
    }
}

impl ProcReader {
    /// The mounts of the host, or of the container that the daemon is in, and the folder below which they are seen. A unit may
    /// hide some of them from the daemon, and not from the first process.
    pub fn mounts(&self) -> Result<(Vec<Mount>, PathBuf), ReadError> {
        match self.mounts_of(1) {
            Ok(mounts) if !mounts.is_empty() => Ok((mounts, self.folder(1).join("root"))),
            Ok(_) | Err(_) => Ok((mounts_of(&self.proc().join("self/mountinfo"))?, PathBuf::from("/"))),
        }
    }

    /// The mounts that a process sees.
    pub fn mounts_of(&self, pid: u32) -> Result<Vec<Mount>, ReadError> {
        mounts_of(&self.folder(pid).join("mountinfo"))
    }
}

fn mounts_of(path: &Path) -> Result<Vec<Mount>, ReadError> {
    let text = read_text(path, MOUNTINFO_MAX).map_err(ReadError::at(path))?;
    Ok(text.lines().filter_map(mount).take(MOUNTS_MAX).collect())
}

/// Each file system once: its mount with the largest part of it, and of those the one with the shortest path. What is
/// mounted over is left out.
pub fn file_systems(mounts: Vec<Mount>) -> Vec<Mount> {
    let mut topmost: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in mounts {
        // A later one hides an earlier one at the same path.
        topmost.insert(mount.point.clone(), mount);
    }
    let mut found: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in topmost.into_values() {
        let size = |it: &Mount| (it.root.len(), it.point.len());
        match found.get(&mount.device) {
            Some(known) if size(known) <= size(&mount) => {}
            Some(_) | None => drop(found.insert(mount.device.clone(), mount)),
        }
    }
    found.into_values().collect()
}

/// The mount that a path is on.
pub fn mount_at<'m>(mounts: &'m [Mount], path: &str) -> Option<&'m Mount> {
    let is_below = |mount: &&Mount| {
        let rest = path.strip_prefix(mount.point.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    mounts.iter().filter(is_below).max_by_key(|mount| mount.point.len())
}

/// Such as `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn mount(line: &str) -> Option<Mount> {
    let (own, of_file_system) = line.split_once(" - ")?;
    let mut own = own.split(' ');
    let id = own.next()?.parse().ok()?;
    let (device, root, point, options) = (own.nth(1)?, own.next()?, own.next()?, own.next()?);
    let mut of_file_system = of_file_system.split(' ');
    let (kind, source) = (of_file_system.next()?, of_file_system.next()?);
    let super_options = of_file_system.next().unwrap_or_default();
    // ext4 keeps `rw` there after an error since Linux 6.15, and adds a word (`ext4_show_options`).
    let takes_no_writes =
        super_options.split(',').any(|option| matches!(option, "ro" | "emergency_ro" | "shutdown"));
    let user = super_options.split(',').find_map(|option| option.strip_prefix("user_id="));
    Some(Mount {
        id,
        device: device.to_owned(),
        root: unescaped(root),
        point: unescaped(point),
        is_read_only: options.split(',').any(|option| option == "ro"),
        kind: kind.to_owned(),
        source: unescaped(source),
        takes_no_writes,
        is_of_user: kind.starts_with("fuse") && user.is_some_and(|user| user != "0"),
    })
}

/// The kernel writes blanks, line ends and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = |digit: u8| (b'0'..=b'7').contains(&digit).then(|| u32::from(digit - b'0'));
        let code = match after {
            [a, b, c, ..] if byte == b'\\' => {
                octal(*a).zip(octal(*b)).zip(octal(*c)).map(|((a, b), c)| a * 64 + b * 8 + c)
            }
            _ => None,
        };
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 27 254:0 /srv/data /data rw - ext4 /dev/vda rw
31 27 254:16 / /mnt/a\\040b rw,relatime shared:5 - ext4 /dev/vdb ro,errors=remount-ro
32 27 254:16 / /mnt/x ro - ext4 /dev/vdb ro
33 27 254:32 / /mnt/new rw - ext4 /dev/vdc rw,emergency_ro
34 27 0:40 / /mnt/x rw - tmpfs hidden rw
35 27 0:41 / /var/lib/docker/overlay2/m rw - overlay overlay rw,lowerdir=/a
36 27 7:0 / /snap/core ro - squashfs /dev/loop0 ro
nonsense
37 27 0:42 / /nfs rw - nfs4 server:/x rw
38 27 0:43 / /home/eve/x rw - fuse.evil evil rw,user_id=1000,group_id=0
";

    fn table() -> Vec<Mount> {
        TABLE.lines().filter_map(mount).collect()
    }

    #[test]
    fn each_file_system_is_there_once_by_its_largest_visible_part() {
        let found = file_systems(table());
        let points: Vec<&str> =
            found.iter().filter(|it| it.storage() != Storage::Other).map(|it| it.point.as_str()).collect();
        assert_eq!(
            points,
            ["/mnt/x", "/var/lib/docker/overlay2/m", "/nfs", "/", "/mnt/a b", "/mnt/new"],
            "in the order of their devices; the second mount of 254:16 is hidden by a tmpfs"
        );
    }

    #[test]
    fn a_file_system_that_became_read_only_is_told_from_a_mount_that_is() {
        let by_point = |point: &str| table().into_iter().find(|it| it.point == point).unwrap();
        let (became, meant, new) = (by_point("/mnt/a b"), by_point("/snap/core"), by_point("/mnt/new"));
        assert_eq!((became.is_read_only, became.takes_no_writes), (false, true));
        assert_eq!((meant.is_read_only, meant.takes_no_writes), (true, true));
        assert_eq!((new.is_read_only, new.takes_no_writes), (false, true));
    }

    #[test]
    fn a_path_is_on_the_mount_with_the_longest_prefix() {
        let table = table();
        let at = |path: &str| mount_at(&table, path).map(|mount| mount.point.as_str());
        assert_eq!(at("/data/pg/base"), Some("/data"));
        assert_eq!(at("/database"), Some("/"));
        assert_eq!(at("/mnt/a b"), Some("/mnt/a b"));
        assert_eq!(mount_at(&[], "/"), None);
    }

    #[test]
    fn escapes_that_are_cut_short_are_kept() {
        assert_eq!(unescaped("a\\134b\\040"), "a\\b ");
        assert_eq!(unescaped("\\04\\9\\777x"), "\\04\\9\\777x");
    }
}
