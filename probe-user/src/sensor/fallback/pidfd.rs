//! Descriptors of processes: whether the process has ended, and sometimes how.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    ioctl::{Updater, ioctl, opcode},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// `PIDFD_INFO_EXIT` (`linux/pidfd.h`, since Linux 6.15).
const EXIT: u64 = 1 << 3;

/// `struct pidfd_info` in its first form, which later ones extend: the mask of what is asked for and answered, the
/// cgroup, eleven ids, and the wait status.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    status: u32,
}

/// A descriptor that becomes readable when the process has ended. Fails with `ESRCH` if it is gone; it needs no right.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// The wait status of a process whose parent has collected it; None before that, and on kernels that do not report it.
pub fn status(process: impl AsFd) -> Option<u32> {
    let mut info = Info { mask: EXIT, ..Info::default() };
    // SAFETY: the request carries the size of the structure, which the kernel fills in and writes nothing beyond.
    let call = unsafe { Updater::<{ opcode::read_write::<Info>(0xff, 11) }, Info>::new(&mut info) };
    // SAFETY: as above.
    unsafe { ioctl(process, call) }.ok()?;
    (info.mask & EXIT != 0).then_some(info.status)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    #[test]
    fn an_exit_is_seen_without_being_the_parent() {
        let mut child = Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let process = open(child.id()).unwrap();
        let mut waiting = [PollFd::new(&process, PollFlags::IN)];
        assert_eq!(poll(&mut waiting, None).unwrap(), 1);
        child.wait().unwrap();
        // Older kernels do not report it.
        assert!(matches!(status(&process), None | Some(0x0700)));
        assert_eq!(open(child.id()).unwrap_err().raw_os_error(), Some(libc::ESRCH));
        assert!(open(0).is_err() && open(u32::MAX).is_err());
    }
}
