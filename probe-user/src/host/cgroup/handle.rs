//! From a cgroup's id to its path, without a walk through the whole hierarchy.
//!
//! A cgroup's id is all that a file handle of its folder holds (`FILEID_KERNFS` in `linux/exportfs.h`; of every version
//! since Linux 5.5), and a folder that is open has a name in `/proc/self/fd`.

use std::{
    ffi::c_int,
    fs::{self, File},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

/// The type of a handle that is a kernfs node's id.
const FILEID_KERNFS: c_int = 0xfe;

/// `struct file_handle` with room for an id.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: c_int,
    id: [u8; 8],
}

/// The folder with this id, in the hierarchy that is mounted at `mount`.
pub fn path_of(mount: &Path, id: u64) -> Option<PathBuf> {
    let mount = File::open(mount).ok()?;
    let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
    // SAFETY: the handle has the layout of a `struct file_handle` of 8 bytes, and outlives the call.
    let opened = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw mut handle,
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    let opened = c_int::try_from(opened).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the call returned a new descriptor, which nothing else owns.
    let opened = unsafe { OwnedFd::from_raw_fd(opened) };
    let path = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).ok()?;
    // A folder that was removed while it was opened has no path any more.
    (!path.to_string_lossy().ends_with(" (deleted)")).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::host::cgroup::{Cgroups, Hierarchy};

    #[test]
    fn a_group_is_found_by_its_id_in_every_hierarchy() {
        let cgroups = Cgroups::discover(Path::new("/")).unwrap();
        let mut asked = 0;
        for hierarchy in [Hierarchy::V2, Hierarchy::Memory, Hierarchy::Systemd] {
            let Some(top) = cgroups.folder(hierarchy, "/") else { continue };
            let folder = top.join(format!("hostprobe-handle-{}", std::process::id()));
            if let Err(error) = fs::create_dir(&folder) {
                assert!(std::env::var_os("CI").is_none(), "this test needs to make cgroups: {error}");
                eprintln!("skipped: it needs to make cgroups: {error}");
                continue;
            }
            let id = fs::metadata(&folder).unwrap().ino();
            let name = folder.file_name().unwrap().to_str().unwrap();
            let found = cgroups.path_of(hierarchy, id);
            fs::remove_dir(&folder).unwrap();
            assert_eq!(found, Some(format!("/{name}")), "{hierarchy:?}");
            assert_eq!(cgroups.path_of(hierarchy, id), None, "it is gone");
            asked += 1;
        }
        println!("{asked} hierarchies");
    }
}
