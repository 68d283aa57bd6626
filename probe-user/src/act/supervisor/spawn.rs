//! Starts a command inside a cgroup.
//!
//! The standard library can only start a process and move it. Moving one waits for an RCU grace period (seen: 7 to
//! 15 ms; `cgroup_threadgroup_rwsem` in the kernel's `cgroup_attach_lock`), which would be most of a recovery. A
//! process made by clone3(2) with `CLONE_INTO_CGROUP` (Linux 5.7) starts out inside.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr,
};

use rustix::{
    fs::{Mode, OFlags, open},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid},
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::config::Exec;

/// Signals that have a handler get their default action back (`linux/sched.h`, Linux 5.5).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// The child starts in the cgroup of `clone_args.cgroup` (`linux/sched.h`, Linux 5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A child process.
#[derive(Debug)]
pub struct Child {
    /// Its pid.
    pub pid: u32,
    pidfd: AsyncFd<OwnedFd>,
}

impl Child {
    /// Waits for its end and reaps it; returns its wait status (`wait(2)`). Cancel safe.
    pub async fn wait(&mut self) -> io::Result<u32> {
        // A pidfd becomes readable once the process has ended (`pidfd_open(2)`).
        self.pidfd.readable().await?.retain_ready();
        let status = waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), WaitIdOptions::EXITED)?;
        let status = status.ok_or_else(|| io::Error::other("an ended child has no status"))?;
        Ok(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => (code.cast_unsigned() & 0xff) << 8,
            (None, Some(signal)) => signal.cast_unsigned() | if status.dumped() { 0x80 } else { 0 },
            (None, None) => 0,
        })
    }
}

/// Starts `exec` in a process group of its own and, if one is given, in the cgroup with this folder. Its output goes
/// to `output`, its input is empty. An error is that of the call that failed, the execution of the program included.
pub fn spawn(exec: &Exec, output: &File, cgroup: Option<&Path>) -> io::Result<Child> {
    let plan = Plan::new(exec, output)?;
    let cgroup =
        cgroup.map(|path| open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()));
    let cgroup = cgroup.transpose()?;
    let (failure, report) = pipe_with(PipeFlags::CLOEXEC)?;

    // SAFETY: the child calls nothing but `Plan::carry_out`, which keeps to what is allowed between fork and exec.
    let pid = unsafe { clone_into(cgroup.as_ref()) }?;
    if pid == 0 {
        // SAFETY: this is the child of a fork.
        unsafe { plan.carry_out(report.as_raw_fd()) }
    }
    drop(report);
    let raw = Pid::from_raw(pid).ok_or_else(|| io::Error::other("a child without a pid"))?;
    let pidfd = pidfd_open(raw, PidfdFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` is an open descriptor, always the same one, until it is dropped.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    let mut errno = [0; 4];
    match File::from(failure).read(&mut errno)? {
        // The pipe was closed by a successful exec.
        0 => Ok(Child { pid: pid.cast_unsigned(), pidfd }),
        _ => {
            // It ends at once by itself; its status says no more than the error does.
            let _ = waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), WaitIdOptions::EXITED);
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
        }
    }
}

/// Forks into a cgroup; 0 in the child, its pid in the parent.
///
/// # Safety
/// The child may only call what is async-signal-safe (`signal-safety(7)`), and must end by exec or `_exit`.
unsafe fn clone_into(cgroup: Option<&OwnedFd>) -> io::Result<i32> {
    // SAFETY: all zeros are valid for this structure of integers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = libc::SIGCHLD as u64;
    // Handlers of the daemon must not run in the child.
    arguments.flags = CLONE_CLEAR_SIGHAND;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: the arguments are valid and as large as is said; without CLONE_VM the child has its own memory.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid as i32) }
}

/// Everything the child needs, made before the fork: it must not allocate.
struct Plan {
    program: CString,
    directory: CString,
    arguments: Strings,
    environment: Strings,
    input: OwnedFd,
    output: i32,
}

/// Strings as `execve` takes them.
struct Strings {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl Strings {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

impl Plan {
    fn new(exec: &Exec, output: &File) -> io::Result<Self> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let arguments: Vec<CString> =
            exec.command.iter().map(|argument| text(argument.as_ref())).collect::<io::Result<_>>()?;
        let program = arguments.first().cloned().ok_or_else(|| io::Error::other("the command is empty"))?;
        let environment = std::env::vars_os().map(|(name, value)| {
            let mut entry = name;
            entry.push("=");
            entry.push(value);
            text(&entry)
        });
        Ok(Self {
            program,
            directory: text(exec.directory.as_os_str())?,
            arguments: Strings::new(arguments),
            environment: Strings::new(environment.collect::<io::Result<_>>()?),
            input: open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
            output: output.as_raw_fd(),
        })
    }

    /// Becomes the command. Where a call fails, its errno is written to `report`.
    ///
    /// # Safety
    /// Only in the child of a fork.
    unsafe fn carry_out(&self, report: i32) -> ! {
        // SAFETY: only async-signal-safe calls, on descriptors and strings made before the fork. The signal mask was
        // inherited, and is emptied so that the command can be asked to end.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            let ready = libc::setpgid(0, 0) == 0
                && libc::dup2(self.input.as_raw_fd(), 0) == 0
                && libc::dup2(self.output, 1) == 1
                && libc::dup2(self.output, 2) == 2
                && libc::chdir(self.directory.as_ptr()) == 0
                && libc::signal(libc::SIGPIPE, libc::SIG_DFL) != libc::SIG_ERR
                && libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) == 0;
            if ready {
                libc::execve(
                    self.program.as_ptr(),
                    self.arguments.pointers.as_ptr(),
                    self.environment.pointers.as_ptr(),
                );
            }
            let errno = (*libc::__errno_location()).to_ne_bytes();
            libc::write(report, errno.as_ptr().cast(), errno.len());
            libc::_exit(127)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    fn exec(command: &[&str], directory: &str) -> Exec {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Exec { command, output: PathBuf::new(), directory: PathBuf::from(directory) }
    }

    async fn run(command: &[&str], directory: &str) -> io::Result<(u32, String)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("output");
        let output = File::create(&path)?;
        let status = spawn(&exec(command, directory), &output, None)?.wait().await?;
        Ok((status, fs::read_to_string(path)?))
    }

    #[tokio::test]
    async fn a_command_runs_in_its_folder_and_group_with_its_output_kept() {
        let script = "pwd; cat; echo error >&2; [ $(ps -o pgid= -p $$) = $$ ] && exit 7";
        let (status, output) = run(&["/bin/sh", "-c", script], "/usr").await.unwrap();
        assert_eq!((status, output.as_str()), (7 << 8, "/usr\nerror\n"));
    }

    #[tokio::test]
    async fn a_signal_and_its_absence_are_told_as_wait_tells_them() {
        assert_eq!(run(&["/bin/sh", "-c", "kill -9 $$"], "/").await.unwrap().0, 9);
        assert_eq!(run(&["/bin/true"], "/").await.unwrap().0, 0);
    }

    #[tokio::test]
    async fn what_cannot_be_executed_says_why() {
        let missing = run(&["/nonexistent"], "/").await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let no_folder = run(&["/bin/true"], "/nonexistent").await.unwrap_err();
        assert_eq!(no_folder.kind(), io::ErrorKind::NotFound);
        assert_eq!(run(&["/etc/passwd"], "/").await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
