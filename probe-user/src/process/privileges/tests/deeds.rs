//! Things that take a right, to be tried.

use std::{
    fs::{self, OpenOptions},
    io,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::{
    process::{Pid, test_kill_process},
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};
use tempfile::TempDir;

use super::{OTHER_ID, apart};
use crate::sensor::ebpf::{EbpfSensor, LoadError, Options};

/// Another user's process, and a file that only that user may write to.
pub(super) struct OtherUser {
    pub(super) process: Child,
    file: PathBuf,
    folder: TempDir,
}

impl OtherUser {
    pub(super) fn new() -> Self {
        Self::of(Some(OTHER_ID))
    }

    /// Of another user, or of this one.
    pub(super) fn of(user: Option<u32>) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, user, user).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read line; kill -SEGV $$"]).stdin(Stdio::piped());
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        let process = command.spawn().unwrap();
        Self { process, file, folder }
    }

    pub(super) fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.process.id())).join(name)
    }
}

impl OtherUser {
    /// Lets the process end itself, by SIGSEGV: a test that has dropped its rights could not kill it.
    pub(super) fn end(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl Drop for OtherUser {
    fn drop(&mut self) {
        self.end();
    }
}

/// A call's outcome in the terms of the standard library.
pub(super) fn called(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether something was done, or failed for another reason than a missing right.
pub(super) fn permitted(outcome: io::Result<()>) -> bool {
    !outcome.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn set_option(name: libc::c_int) -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    let (size, length) = (4096_i32, size_of::<i32>() as u32);
    let socket = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the option is an integer, of which the length is given.
    called(
        unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, name, (&raw const size).cast(), length) }.into(),
    )
}

fn raw_socket() -> io::Result<()> {
    // SAFETY: plain numbers; 1 is ICMP.
    called(unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 1) }.into())
}

/// Sets the clock's status to what it is.
fn touch_clock() -> io::Result<()> {
    // SAFETY: all zeros are valid for this structure of integers: a question that changes nothing.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the structure is valid, and lives on.
    called(unsafe { libc::adjtimex(&raw mut clock) }.into())?;
    clock.modes = libc::ADJ_STATUS;
    // SAFETY: as above.
    called(unsafe { libc::adjtimex(&raw mut clock) }.into())
}

/// Things that take a right, each harmless if it is done, and the right it takes.
pub(super) fn deeds(other: &OtherUser) -> Vec<(&'static str, CapabilitySet, bool)> {
    let device = other.folder.path().join("device");
    let theirs = other.file.clone();
    let pid = Pid::from_raw(other.process.id().cast_signed()).unwrap();
    let deed = |name, capability, attempt: Box<dyn FnOnce() -> io::Result<()> + Send>| {
        // What some of them change is the thread's own.
        (name, capability, permitted(apart(attempt)))
    };
    vec![
        deed(
            "unmount",
            CapabilitySet::SYS_ADMIN,
            // SAFETY: the path is a valid string; nothing is mounted there.
            Box::new(|| called(unsafe { libc::umount2(c"/proc/self".as_ptr(), 0) }.into())),
        ),
        deed("set the clock", CapabilitySet::SYS_TIME, Box::new(touch_clock)),
        deed("raw socket", CapabilitySet::NET_RAW, Box::new(raw_socket)),
        deed("large buffer", CapabilitySet::NET_ADMIN, Box::new(|| set_option(libc::SO_RCVBUFFORCE))),
        deed(
            "low port",
            CapabilitySet::NET_BIND_SERVICE,
            Box::new(|| TcpListener::bind(("127.0.0.1", 9)).map(drop)),
        ),
        deed(
            "change an owner",
            CapabilitySet::CHOWN,
            Box::new({
                let file = other.folder.path().join("owned");
                move || {
                    fs::write(&file, "")?;
                    let changed = chown(&file, Some(OTHER_ID), None);
                    fs::remove_file(&file).and(changed)
                }
            }),
        ),
        deed(
            "become another user",
            CapabilitySet::SETUID,
            // SAFETY: plain numbers. The bare call changes this thread alone.
            Box::new(|| called(unsafe { libc::syscall(libc::SYS_setresuid, OTHER_ID, OTHER_ID, OTHER_ID) })),
        ),
        deed(
            "become another group",
            CapabilitySet::SETGID,
            // SAFETY: as above.
            Box::new(|| called(unsafe { libc::syscall(libc::SYS_setresgid, OTHER_ID, OTHER_ID, OTHER_ID) })),
        ),
        deed(
            "change the root folder",
            CapabilitySet::SYS_CHROOT,
            // SAFETY: the path is a valid string; the root folder is that already.
            Box::new(|| called(unsafe { libc::chroot(c"/".as_ptr()) }.into())),
        ),
        deed(
            "make a device",
            CapabilitySet::MKNOD,
            Box::new(move || {
                let mode = rustix::fs::Mode::RUSR;
                let zero = rustix::fs::makedev(1, 5);
                let kind = rustix::fs::FileType::CharacterDevice;
                rustix::fs::mknodat(rustix::fs::CWD, &device, kind, mode, zero)?;
                fs::remove_file(&device)
            }),
        ),
        deed(
            "priority",
            CapabilitySet::SYS_NICE,
            Box::new(|| Ok(rustix::process::setpriority_process(None, -20)?)),
        ),
        deed(
            "read the kernel's log",
            CapabilitySet::SYSLOG,
            // SAFETY: 9 asks for a size, and needs no buffer.
            Box::new(|| called(unsafe { libc::klogctl(9, std::ptr::null_mut(), 0) }.into())),
        ),
        deed(
            "restart the host",
            CapabilitySet::SYS_BOOT,
            // SAFETY: without the right magic numbers nothing is done.
            Box::new(|| called(unsafe { libc::syscall(libc::SYS_reboot, 0, 0, 0, 0) })),
        ),
        deed("signal another user", CapabilitySet::KILL, Box::new(move || Ok(test_kill_process(pid)?))),
        deed(
            "write another user's file",
            CapabilitySet::DAC_OVERRIDE,
            Box::new(move || OpenOptions::new().write(true).open(theirs).map(drop)),
        ),
        deed(
            "load a program",
            CapabilitySet::BPF,
            Box::new(|| match EbpfSensor::load(&Options { prober: 0, ..Options::default() }) {
                Ok(_) => Ok(()),
                Err(LoadError::NotPermitted { .. } | LoadError::NoHook(_)) => {
                    Err(io::ErrorKind::PermissionDenied.into())
                }
                Err(error) => panic!("{error}"),
            }),
        ),
        deed(
            "take a right",
            CapabilitySet::SETPCAP,
            Box::new(|| Ok(remove_capability_from_bounding_set(CapabilitySet::WAKE_ALARM)?)),
        ),
    ]
}
