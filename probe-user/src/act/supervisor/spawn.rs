//! Starts a command inside a cgroup.
//!
//! The standard library can only start a process and then move it. The move waits for an RCU grace period
//! (measured: 7 to 15 ms; `cgroup_threadgroup_rwsem` in the kernel's `cgroup_attach_lock`), which would be most of
//! a recovery. clone3(2) with `CLONE_INTO_CGROUP` (Linux 5.7) starts a process inside the cgroup.

mod fork;

use std::{
    ffi::{CString, OsStr, c_void},
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

use crate::{config::Exec, descriptors};

/// A child process.
#[derive(Debug)]
pub struct Child {
    pub pid: u32,
    pidfd: AsyncFd<OwnedFd>,
}

impl Child {
    /// Reaps the process and returns its wait status (`wait(2)`). Cancel safe.
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

/// Starts `exec` in its own process group and, if one is given, in the cgroup with this folder. Its output goes to
/// `output`; its input is empty. An error is the error of the failed call, exec included.
pub fn spawn(exec: &Exec, output: &File, cgroup: Option<&Path>) -> io::Result<Child> {
    let plan = Plan::new(exec, output)?;
    let cgroup =
        cgroup.map(|path| open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()));
    let cgroup = cgroup.transpose()?;
    let (failure, report) = pipe_with(PipeFlags::CLOEXEC)?;

    let job = Job { plan: &plan, report: report.as_raw_fd() };
    // SAFETY: `exec_command` makes only calls that are allowed between fork and exec, and the job outlives the
    // call.
    let pid = unsafe { fork::fork(cgroup.as_ref(), exec_command, (&raw const job).cast()) }?;
    drop(report);
    let raw = Pid::from_raw(pid).ok_or_else(|| io::Error::other("a child without a pid"))?;
    let pidfd = pidfd_open(raw, PidfdFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` is an open descriptor, always the same one, until it is dropped.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    let mut errno = [0; 4];
    match File::from(failure).read(&mut errno)? {
        // A successful exec closed the pipe.
        0 => Ok(Child { pid: pid.cast_unsigned(), pidfd }),
        _ => {
            // The child ends by itself at once. Its status says no more than the error.
            let _ = waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), WaitIdOptions::EXITED);
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
        }
    }
}

/// Everything the child needs, allocated before the fork, because the child must not allocate.
struct Plan {
    program: CString,
    directory: CString,
    arguments: Strings,
    environment: Strings,
    input: OwnedFd,
    output: i32,
    /// The limit on descriptors without the daemon's own increase.
    files: Option<libc::rlimit>,
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
            files: descriptors::inherited().map(|limit| libc::rlimit {
                rlim_cur: limit.current.unwrap_or(libc::RLIM_INFINITY),
                rlim_max: limit.maximum.unwrap_or(libc::RLIM_INFINITY),
            }),
        })
    }
}

struct Job<'p> {
    plan: &'p Plan,
    /// The descriptor that takes the errno of a failed call.
    report: i32,
}

/// Becomes the command.
///
/// # Safety
/// Only in the child of a [`fork::fork`], with a [`Job`].
unsafe extern "C" fn exec_command(job: *const c_void) -> ! {
    // SAFETY: only async-signal-safe calls, on descriptors and strings made before the fork. They change only the
    // child's own state, and `errno`, which belongs to the waiting thread. The child inherits the signal mask and
    // empties it, so that SIGTERM can end the command.
    unsafe {
        let Job { plan, report } = &*job.cast::<Job<'_>>();
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        let ready = libc::setpgid(0, 0) == 0
            && plan.files.is_none_or(|files| libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files) == 0)
            && libc::dup2(plan.input.as_raw_fd(), 0) == 0
            && libc::dup2(plan.output, 1) == 1
            && libc::dup2(plan.output, 2) == 2
            && libc::chdir(plan.directory.as_ptr()) == 0
            && libc::signal(libc::SIGPIPE, libc::SIG_DFL) != libc::SIG_ERR
            && libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) == 0;
        if ready {
            libc::execve(
                plan.program.as_ptr(),
                plan.arguments.pointers.as_ptr(),
                plan.environment.pointers.as_ptr(),
            );
        }
        let errno = (*libc::__errno_location()).to_ne_bytes();
        libc::write(*report, errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
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
    async fn a_command_runs_in_its_folder_and_group_and_writes_its_output() {
        let script = "pwd; cat; echo error >&2; [ $(ps -o pgid= -p $$) = $$ ] && exit 7";
        let (status, output) = run(&["/bin/sh", "-c", script], "/usr").await.unwrap();
        assert_eq!((status, output.as_str()), (7 << 8, "/usr\nerror\n"));
    }

    #[tokio::test]
    async fn a_wait_status_distinguishes_signal_and_exit() {
        assert_eq!(run(&["/bin/sh", "-c", "kill -9 $$"], "/").await.unwrap().0, 9);
        assert_eq!(run(&["/bin/true"], "/").await.unwrap().0, 0);
    }

    /// The action and mask of SIGPIPE, the current folder and the target of standard input.
    fn own_state() -> (usize, i32, PathBuf, PathBuf) {
        // SAFETY: zeros are valid for both, and nothing is changed.
        let (action, blocked) = unsafe {
            let (mut action, mut mask): (libc::sigaction, libc::sigset_t) = std::mem::zeroed();
            libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut action);
            libc::sigprocmask(libc::SIG_BLOCK, ptr::null(), &raw mut mask);
            (action.sa_sigaction, libc::sigismember(&raw const mask, libc::SIGPIPE))
        };
        let input = fs::read_link("/proc/self/fd/0").unwrap_or_default();
        (action, blocked, std::env::current_dir().unwrap(), input)
    }

    #[tokio::test]
    async fn the_child_does_not_change_the_daemons_state() {
        let before = own_state();
        run(&["/bin/true"], "/usr").await.unwrap();
        run(&["/nonexistent"], "/usr").await.unwrap_err();
        assert_eq!(own_state(), before);
    }

    #[test]
    fn many_commands_start_at_once_while_other_threads_use_the_memory() {
        let starter = |number: usize| {
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for round in 0..20 {
                        let (word, code) = (format!("{number}-{round}"), round % 7);
                        let script = format!("echo {word}; exit {code}");
                        let (status, output) = run(&["/bin/sh", "-c", &script], "/").await.unwrap();
                        assert_eq!((status, output), (code << 8, format!("{word}\n")));
                    }
                });
            }
        };
        let starters: Vec<_> = (0..4).map(|number| std::thread::spawn(starter(number))).collect();
        let mut texts = Vec::new();
        while starters.iter().any(|starter| !starter.is_finished()) {
            texts = (0..1000).map(|number: usize| number.to_string()).collect();
        }
        starters.into_iter().for_each(|starter| starter.join().unwrap());
        assert!(texts.iter().enumerate().all(|(at, text)| *text == at.to_string()));
    }

    #[tokio::test]
    async fn a_failed_exec_returns_its_errno() {
        let missing = run(&["/nonexistent"], "/").await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let no_folder = run(&["/bin/true"], "/nonexistent").await.unwrap_err();
        assert_eq!(no_folder.kind(), io::ErrorKind::NotFound);
        assert_eq!(run(&["/etc/passwd"], "/").await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
