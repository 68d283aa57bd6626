//! Starts a command inside a cgroup.
//!
//! The standard library can only start a process and then move it. The move waits for an RCU grace period
//! (measured: 7 to 15 ms; `cgroup_threadgroup_rwsem` in the kernel's `cgroup_attach_lock`), which would be most of
//! a recovery. clone3(2) with `CLONE_INTO_CGROUP` (Linux 5.7) starts a process inside the cgroup.

mod child;
mod environment;
mod fork;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
    sync::Once,
};

use rustix::{
    fs::{Mode, OFlags, open},
    pipe::{PipeFlags, pipe_with},
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpgid, kill_process_group, pidfd_open,
        pidfd_send_signal, waitid,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use self::child::{Job, Plan, exec_command};
use crate::config::Exec;

/// A child process.
#[derive(Debug)]
pub struct Child {
    pub pid: u32,
    pidfd: AsyncFd<OwnedFd>,
    group: Option<Pid>,
    /// Another process started it, so its status cannot be read.
    adopted: bool,
}

impl Child {
    /// A process that runs already.
    pub fn adopt(pid: u32) -> io::Result<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let raw = raw.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: an `OwnedFd` is an open descriptor, always the same one, until it is dropped.
        let pidfd = unsafe {
            AsyncFd::register_with_interest(pidfd_open(raw, PidfdFlags::NONBLOCK)?, Interest::READABLE)
        }?;
        Ok(Self { pid, pidfd, group: getpgid(Some(raw)).ok(), adopted: true })
    }

    /// Signals the process and its process group, which may be gone already.
    pub fn signal(&self, signal: Signal) {
        if self.adopted {
            let _ = pidfd_send_signal(self.pidfd.get_ref(), signal);
        }
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }

    /// The process group that [`Self::signal`] reaches.
    pub fn group(&self) -> Option<u32> {
        self.group.map(|group| group.as_raw_nonzero().get().cast_unsigned())
    }

    /// Waits until the process has ended, reaps it, and returns its wait status (`wait(2)`). None if another process
    /// started it. Cancel safe.
    pub async fn wait(&mut self) -> io::Result<Option<u32>> {
        // A pidfd becomes readable once the process has ended (`pidfd_open(2)`).
        self.pidfd.readable().await?.retain_ready();
        if self.adopted {
            return Ok(None);
        }
        let status = waitid(WaitId::PidFd(self.pidfd.get_ref().as_fd()), WaitIdOptions::EXITED)?;
        let status = status.ok_or_else(|| io::Error::other("an ended child has no status"))?;
        Ok(Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => (code.cast_unsigned() & 0xff) << 8,
            (None, Some(signal)) => signal.cast_unsigned() | if status.dumped() { 0x80 } else { 0 },
            (None, None) => 0,
        }))
    }
}

/// Starts `exec` in its own session and, if one is given, in the cgroup with this folder. Its output goes to
/// `output`; its input is empty. It inherits nothing else of the daemon: no descriptor, no signal's action, and of the
/// environment only what [`environment`] lists. An error is the error of the failed call, exec included.
pub fn spawn(exec: &Exec, output: &File, cgroup: Option<&Path>) -> io::Result<Child> {
    let plan = Plan::new(exec, output)?;
    let folder = cgroup
        .map(|path| open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))
        .transpose()?;
    let (failure, report) = pipe_with(PipeFlags::CLOEXEC)?;

    let mut job = Job { plan: &plan, report: report.as_raw_fd(), processes: None };
    // SAFETY: `exec_command` makes only calls that are allowed between fork and exec, and the job outlives the
    // call.
    let forked = unsafe { fork::clone3(folder.as_ref(), exec_command, (&raw const job).cast()) };
    let pid = match forked {
        Err(error) if fork::is_filtered(&error) => {
            report_filter(&error);
            let processes = cgroup.map(|path| OpenOptions::new().write(true).open(path.join("cgroup.procs")));
            let processes = processes.transpose()?;
            job.processes = processes.as_ref().map(File::as_raw_fd);
            // SAFETY: as above; the file outlives the call too.
            unsafe { fork::clone(exec_command, (&raw const job).cast()) }?
        }
        forked => forked?,
    };
    drop(report);
    let raw = Pid::from_raw(pid).ok_or_else(|| io::Error::other("a child without a pid"))?;
    let pidfd = pidfd_open(raw, PidfdFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` is an open descriptor, always the same one, until it is dropped.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    let mut errno = [0; 4];
    match File::from(failure).read(&mut errno)? {
        // A successful exec closed the pipe.
        0 => Ok(Child { pid: pid.cast_unsigned(), pidfd, group: Some(raw), adopted: false }),
        _ => {
            // The child ends by itself at once. Its status says no more than the error.
            let _ = waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), WaitIdOptions::EXITED);
            Err(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))
        }
    }
}

/// Logs once that services start in the slower way.
fn report_filter(error: &io::Error) {
    static LOGGED: Once = Once::new();
    LOGGED.call_once(|| {
        tracing::warn!(
            "clone3: a system call filter refuses it ({error}): services under `exec` start some milliseconds later; \
             under systemd, install the drop-in exec.conf of the package, which also gives them rights of their own"
        );
    });
}

#[cfg(test)]
mod tests {
    use std::{fs, os::fd::IntoRawFd as _, path::PathBuf, ptr};

    use super::*;
    use crate::config::Secret;

    fn exec(command: &[&str], directory: &str) -> Exec {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let environment = vec![("GREETING".to_owned(), Secret::new("hello"))];
        Exec { command, output: PathBuf::new(), directory: PathBuf::from(directory), environment }
    }

    async fn run(command: &[&str], directory: &str) -> io::Result<(u32, String)> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("output");
        let output = File::create(&path)?;
        let status = spawn(&exec(command, directory), &output, None)?.wait().await?;
        let status = status.ok_or_else(|| io::Error::other("an own child has a status"))?;
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

    #[tokio::test]
    async fn a_command_inherits_no_variable_descriptor_terminal_or_signal_action() {
        // A descriptor without close-on-exec, as a service manager passes them.
        let leaked = File::open("/etc/passwd").unwrap();
        let leaked = rustix::io::fcntl_dupfd_cloexec(&leaked, 200).unwrap();
        rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
        let raw = leaked.into_raw_fd();
        // SAFETY: no test depends on the action of SIGUSR2, which the whole process shares.
        unsafe { libc::signal(libc::SIGUSR2, libc::SIG_IGN) };
        // The shell lists its descriptors without a pipe, which would be one more of them.
        let script = "env | cut -d= -f1 | sort | tr '\\n' ' '; echo; echo $GREETING; ls -C -w 0 /proc/$$/fd; \
                      grep -E 'SigIgn|SigBlk' /proc/$$/status | cut -f2 | tr '\\n' ' '; echo; \
                      umask; cut -d' ' -f6,7 /proc/$$/stat; echo $$";
        let (status, output) = run(&["/bin/sh", "-c", script], "/").await.unwrap();
        // SAFETY: the descriptor is this test's own.
        unsafe { libc::close(raw) };
        assert_eq!(status, 0, "{output}");
        let lines: Vec<&str> = output.lines().map(str::trim).collect();
        let [names, greeting, descriptors, masks, umask, session, pid] = lines[..] else {
            panic!("{output}")
        };
        for name in names.split(' ') {
            let known =
                ["GREETING", "PWD", "OLDPWD", "SHLVL", "_"].contains(&name) || environment::is_kept(name);
            assert!(known, "{name} is not inherited: {output}");
        }
        assert!(names.contains("PATH"), "{output}");
        assert_eq!(greeting, "hello");
        let descriptors: Vec<&str> = descriptors.split_whitespace().collect();
        assert_eq!(descriptors.join(" "), "0 1 2", "{output}");
        assert_eq!(masks, "0000000000000000 0000000000000000", "{output}");
        assert_eq!(umask, "0022");
        assert_eq!(session, format!("{pid} 0"), "its own session, and no terminal: {output}");
    }

    /// Has the calling thread's clone3 fail, as a service manager's or a container engine's filter does.
    fn refuse_clone3(errno: i32) {
        let (load, equal, answer) =
            (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_RET);
        let step =
            |code: u32, jt, k| libc::sock_filter { code: u16::try_from(code).unwrap(), jt, jf: 1 - jt, k };
        let refused = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
        let mut filter = [
            libc::sock_filter { jf: 0, ..step(load, 0, 0) },
            libc::sock_filter { jt: 0, jf: 1, ..step(equal, 0, u32::try_from(libc::SYS_clone3).unwrap()) },
            step(answer, 0, refused),
            step(answer, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: the program outlives the calls, which concern this thread alone.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let filtered = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
            assert_eq!(filtered, 0, "{}", io::Error::last_os_error());
        }
    }

    #[test]
    fn a_command_starts_under_a_filter_that_refuses_clone3() {
        for errno in [libc::ENOSYS, libc::EPERM] {
            let filtered = std::thread::spawn(move || {
                refuse_clone3(errno);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let script = "echo $GREETING; ps -o pgid= -p $$ | tr -d ' '; echo $$; exit 3";
                let (status, output) = runtime.block_on(run(&["/bin/sh", "-c", script], "/usr")).unwrap();
                let missing = runtime.block_on(run(&["/nonexistent"], "/")).unwrap_err();
                (status, output, missing.kind(), own_state())
            });
            let before = own_state();
            let (status, output, missing, after) = filtered.join().unwrap();
            let lines: Vec<&str> = output.lines().collect();
            assert_eq!((status, lines[0], lines[1]), (3 << 8, "hello", lines[2]), "{output}");
            assert_eq!(missing, io::ErrorKind::NotFound);
            assert_eq!(after, before);
        }
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
