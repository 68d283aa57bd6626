//! The user, the groups and the capabilities of a command.
//!
//! The C library's `setuid` and its like change all threads of a process, by signals. The child of a fork has one
//! thread, but shares the library's list of the daemon's. So these are the system calls themselves.

use std::ptr;

use rustix::process::{getegid, geteuid, getgroups};

use crate::{
    account::{self, AccountError, User},
    config::Exec,
};

/// `_LINUX_CAPABILITY_VERSION_3` (`linux/capability.h`).
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// What a command becomes before it is executed.
#[derive(Debug)]
pub(super) struct Credentials {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Credentials {
    /// None where they are the daemon's own.
    pub(super) fn of(exec: &Exec, user: Option<&User>) -> Result<Option<Self>, AccountError> {
        let group = exec.group.as_deref().map(account::group).transpose()?;
        let credentials = match (user, group) {
            (None, None) => return Ok(None),
            (Some(user), group) => {
                let gid = group.unwrap_or(user.gid);
                Self { uid: user.uid, gid, groups: user.groups(gid)? }
            }
            (None, Some(gid)) => Self { uid: geteuid().as_raw(), gid, groups: Vec::new() },
        };
        Ok(Some(credentials).filter(|wanted| !wanted.are_own()))
    }

    fn are_own(&self) -> bool {
        let own: Vec<u32> = getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()).collect();
        let has = |group: &u32| *group == self.gid || own.contains(group);
        self.uid == geteuid().as_raw() && self.gid == getegid().as_raw() && self.groups.iter().all(has)
    }

    /// Takes them for good. A user other than root has no capability then, also none that the daemon was given for its
    /// services.
    ///
    /// # Safety
    /// Only in the child of a fork that has a memory of its own: the kernel may refuse core dumps of the memory from
    /// then on (`commit_creds` in the kernel).
    pub(super) unsafe fn assume(&self) -> bool {
        // SAFETY: system calls on numbers and on a list that outlives them.
        unsafe {
            libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr()) == 0
                && libc::syscall(libc::SYS_setresgid, self.gid, self.gid, self.gid) == 0
                && libc::syscall(libc::SYS_setresuid, self.uid, self.uid, self.uid) == 0
                && (self.uid == 0 || drop_capabilities())
        }
    }
}

/// The header of `capget(2)`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// Effective, permitted and inheritable capabilities; the lower 32 first.
type Sets = [[u32; 3]; 2];

/// Makes the calling thread use all capabilities that it may use. The daemon keeps more than it uses, for its commands.
///
/// # Safety
/// Only in the child of a fork: the daemon itself does without them.
pub(super) unsafe fn use_permitted_capabilities() {
    let header = Header { version: CAPABILITY_VERSION, pid: 0 };
    let mut sets: Sets = [[0; 3]; 2];
    // SAFETY: both structures outlive the calls and have the form of this version. The call that needs a missing
    // capability reports it.
    unsafe {
        if libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets) == 0 {
            for [effective, permitted, _] in &mut sets {
                *effective = *permitted;
            }
            libc::syscall(libc::SYS_capset, &raw const header, &raw const sets);
        }
    }
}

/// # Safety
/// As for [`use_permitted_capabilities`].
unsafe fn drop_capabilities() -> bool {
    let header = Header { version: CAPABILITY_VERSION, pid: 0 };
    let none: Sets = [[0; 3]; 2];
    // SAFETY: as above. A kernel without ambient capabilities refuses the first call, and has none to clear.
    unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            ptr::null::<u8>(),
            ptr::null::<u8>(),
            ptr::null::<u8>(),
        );
        libc::syscall(libc::SYS_capset, &raw const header, &raw const none) == 0
    }
}
