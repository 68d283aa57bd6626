//! What a child does between its fork and the exec of its command.

use std::{
    ffi::{CString, OsStr, c_void},
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    ptr,
};

use rustix::fs::{Mode, OFlags, open};

use super::environment;
use crate::{config::Exec, descriptors};

/// New files are readable for all and writable for their owner, as in a login shell.
const UMASK: libc::mode_t = 0o022;

/// The last signal of the kernel (`_NSIG`, `signal(7)`).
const LAST_SIGNAL: i32 = 64;

/// The descriptor that takes the errno of a failed call, right after input and outputs.
const REPORT: i32 = 3;

/// Where close_range(2) is refused, descriptors up to this one are closed one by one.
const MANY_DESCRIPTORS: i32 = 65_536;

/// Everything the child needs, allocated before the fork, because the child must not allocate.
pub(super) struct Plan {
    program: CString,
    directory: CString,
    arguments: Strings,
    environment: Strings,
    input: OwnedFd,
    output: i32,
    /// The daemon is spared by the OOM killer; its services are not.
    spared: bool,
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
    pub(super) fn new(exec: &Exec, output: &File) -> io::Result<Self> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let arguments: Vec<CString> =
            exec.command.iter().map(|argument| text(argument.as_ref())).collect::<io::Result<_>>()?;
        let program = arguments.first().cloned().ok_or_else(|| io::Error::other("the command is empty"))?;
        let environment = environment::of(exec).into_iter().map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            text(&entry)
        });
        let oom_score = fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        Ok(Self {
            program,
            directory: text(exec.directory.as_os_str())?,
            arguments: Strings::new(arguments),
            environment: Strings::new(environment.collect::<io::Result<_>>()?),
            input: open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
            output: output.as_raw_fd(),
            spared: oom_score.starts_with('-'),
            files: descriptors::inherited().map(|limit| libc::rlimit {
                rlim_cur: limit.current.unwrap_or(libc::RLIM_INFINITY),
                rlim_max: limit.maximum.unwrap_or(libc::RLIM_INFINITY),
            }),
        })
    }
}

pub(super) struct Job<'p> {
    pub(super) plan: &'p Plan,
    /// The descriptor that takes the errno of a failed call.
    pub(super) report: i32,
    /// `cgroup.procs` of the cgroup that the child has to enter by itself.
    pub(super) processes: Option<i32>,
}

/// Becomes the command.
///
/// # Safety
/// Only in the child of a fork of [`super::fork`], with a [`Job`].
pub(super) unsafe extern "C" fn exec_command(job: *const c_void) -> ! {
    // SAFETY: only async-signal-safe calls, on descriptors and strings made before the fork. They change only the
    // child's own state, and `errno`, which belongs to the waiting thread.
    unsafe {
        let job = &*job.cast::<Job<'_>>();
        let mut report = job.report;
        if prepare(job, &mut report) {
            libc::execve(
                job.plan.program.as_ptr(),
                job.plan.arguments.pointers.as_ptr(),
                job.plan.environment.pointers.as_ptr(),
            );
        }
        let errno = (*libc::__errno_location()).to_ne_bytes();
        libc::write(report, errno.as_ptr().cast(), errno.len());
        libc::_exit(127)
    }
}

/// Leaves what belongs to the daemon behind. False if a call failed, whose errno then is set. `report` is moved.
///
/// # Safety
/// As for [`exec_command`].
unsafe fn prepare(job: &Job<'_>, report: &mut i32) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        // Writing "0" moves the writer (`cgroups(7)`).
        if let Some(processes) = job.processes
            && libc::write(processes, c"0".as_ptr().cast(), 1) != 1
        {
            return false;
        }
        let files = job.plan.files;
        let placed = libc::setsid() >= 0
            && files.is_none_or(|files| libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files) == 0)
            && libc::dup2(job.plan.input.as_raw_fd(), 0) == 0
            && libc::dup2(job.plan.output, 1) == 1
            && libc::dup2(job.plan.output, 2) == 2
            && (*report == REPORT || libc::dup3(*report, REPORT, libc::O_CLOEXEC) == REPORT);
        if !placed {
            return false;
        }
        *report = REPORT;
        if libc::syscall(libc::SYS_close_range, REPORT + 1, u32::MAX, 0) != 0 {
            for descriptor in REPORT + 1..MANY_DESCRIPTORS {
                libc::close(descriptor);
            }
        }
        libc::umask(UMASK);
        if job.plan.spared {
            // A command that cannot give the daemon's privilege up still runs.
            let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            libc::write(score, c"0".as_ptr().cast(), 1);
            libc::close(score);
        }
        // Ignored signals would stay ignored after exec. The C library refuses two that it uses, so this is the system
        // call; it refuses SIGKILL and SIGSTOP. All zeros are the kernel's `struct sigaction` of the default action.
        let default = [0_u64; 4];
        for signal in 1..=LAST_SIGNAL {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null::<u64>(),
                size_of::<u64>(),
            );
        }
        // The child inherits the signal mask and empties it, so that SIGTERM can end the command.
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut()) == 0
            && libc::chdir(job.plan.directory.as_ptr()) == 0
    }
}
