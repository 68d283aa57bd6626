//! What a child does between its fork and the exec of its command.

use std::{
    ffi::{CString, OsStr, c_void},
    fs, io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    ptr,
};

use rustix::{
    fs::{Mode, OFlags, open},
    process::Resource,
};

use super::{
    credentials::{Credentials, use_permitted_capabilities},
    environment,
    step::{SpawnError, Step},
};
use crate::{
    account::{self, User},
    config::{Exec, ResourceLimit},
    descriptors,
};

/// The last signal of the kernel (`_NSIG`, `signal(7)`).
const LAST_SIGNAL: i32 = 64;

/// The descriptor that takes the report of a failed call, right after input and outputs.
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
    errors: i32,
    /// The daemon is spared by the OOM killer; its services are not.
    spared: bool,
    /// The signals that the daemon ignores, as bits.
    ignored: u64,
    umask: libc::mode_t,
    limits: Vec<Limit>,
    pub(super) credentials: Option<Credentials>,
}

/// The type of a resource in `setrlimit(2)`.
#[cfg(target_env = "musl")]
type ResourceNumber = libc::c_int;
#[cfg(not(target_env = "musl"))]
type ResourceNumber = libc::__rlimit_resource_t;

/// A limit as `setrlimit(2)` takes it.
struct Limit {
    name: &'static str,
    resource: ResourceNumber,
    values: libc::rlimit,
}

/// The configured limits, and the one on descriptors without the daemon's own increase.
fn limits(exec: &Exec) -> Vec<Limit> {
    let inherited = descriptors::inherited().map(|limit| ResourceLimit {
        resource: Resource::Nofile,
        soft: limit.current,
        hard: limit.maximum,
    });
    let configured = |resource| exec.rlimits.iter().any(|limit| limit.resource == resource);
    let inherited = inherited.filter(|limit| !configured(limit.resource));
    let limit = |limit: &ResourceLimit| Limit {
        name: limit.name(),
        resource: limit.resource as ResourceNumber,
        values: libc::rlimit {
            rlim_cur: limit.soft.unwrap_or(libc::RLIM_INFINITY),
            rlim_max: limit.hard.unwrap_or(libc::RLIM_INFINITY),
        },
    };
    exec.rlimits.iter().chain(&inherited).map(limit).collect()
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
    pub(super) fn new(exec: &Exec, output: &OwnedFd, errors: &OwnedFd) -> Result<Self, SpawnError> {
        let user = exec.user.as_deref().map(account::user).transpose().map_err(SpawnError::Account)?;
        let credentials = Credentials::of(exec, user.as_ref()).map_err(SpawnError::Account)?;
        Self::of(exec, (output, errors), user.as_ref(), credentials).map_err(SpawnError::Call)
    }

    fn of(
        exec: &Exec,
        (output, errors): (&OwnedFd, &OwnedFd),
        user: Option<&User>,
        credentials: Option<Credentials>,
    ) -> io::Result<Self> {
        let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::from);
        let arguments: Vec<CString> =
            exec.command.iter().map(|argument| text(argument.as_ref())).collect::<io::Result<_>>()?;
        let program = arguments.first().cloned().ok_or_else(|| io::Error::other("the command is empty"))?;
        let environment = environment::of(exec, user).into_iter().map(|(mut entry, value)| {
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
            errors: errors.as_raw_fd(),
            spared: oom_score.starts_with('-'),
            ignored: ignored_signals(),
            umask: exec.umask,
            limits: limits(exec),
            credentials,
        })
    }

    /// The names of the limits, in the order of a [`Step::Limit`].
    pub(super) fn limit_names(&self) -> Vec<&'static str> {
        self.limits.iter().map(|limit| limit.name).collect()
    }
}

pub(super) struct Job<'p> {
    pub(super) plan: &'p Plan,
    /// The descriptor that takes the report of a failed call.
    pub(super) report: i32,
    /// `cgroup.procs` of the cgroup that the child has to enter by itself.
    pub(super) processes: Option<i32>,
    /// The fork has left the child the daemon's handlers of signals.
    pub(super) has_handlers: bool,
}

/// The signals that this process ignores, as bits: unlike handlers, that would outlast the fork and the exec.
fn ignored_signals() -> u64 {
    let is_ignored = |signal: &i32| {
        // The kernel's `struct sigaction` begins with the action.
        let mut found = [0_usize; 4];
        let none = ptr::null::<usize>();
        // SAFETY: the kernel writes no more than its `struct sigaction`, which is as large as this on all 64-bit platforms.
        let is_read = unsafe {
            libc::syscall(libc::SYS_rt_sigaction, *signal, none, found.as_mut_ptr(), size_of::<u64>()) == 0
        };
        is_read && found[0] == libc::SIG_IGN
    };
    (1..=LAST_SIGNAL).filter(is_ignored).map(bit).fold(0, |all, bit| all | bit)
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
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
        let failed = match prepare(job, &mut report) {
            Err(step) => step,
            Ok(()) => {
                libc::execve(
                    job.plan.program.as_ptr(),
                    job.plan.arguments.pointers.as_ptr(),
                    job.plan.environment.pointers.as_ptr(),
                );
                Step::Exec
            }
        };
        let failed = failed.report(*libc::__errno_location());
        libc::write(report, failed.as_ptr().cast(), failed.len());
        libc::_exit(127)
    }
}

/// Leaves what belongs to the daemon behind. An error is the step that failed; `errno` is its reason. `report` is moved.
///
/// # Safety
/// As for [`exec_command`].
unsafe fn prepare(job: &Job<'_>, report: &mut i32) -> Result<(), Step> {
    let done = |done: bool, step: Step| if done { Ok(()) } else { Err(step) };
    let plan = job.plan;
    // SAFETY: as the caller promises.
    unsafe {
        // Writing "0" moves the writer (`cgroups(7)`).
        if let Some(processes) = job.processes {
            done(libc::write(processes, c"0".as_ptr().cast(), 1) == 1, Step::Cgroup)?;
        }
        let placed = libc::setsid() >= 0
            && libc::dup2(plan.input.as_raw_fd(), 0) == 0
            && libc::dup2(plan.output, 1) == 1
            && libc::dup2(plan.errors, 2) == 2
            && (*report == REPORT || libc::dup3(*report, REPORT, libc::O_CLOEXEC) == REPORT);
        done(placed, Step::Setup)?;
        *report = REPORT;
        if libc::syscall(libc::SYS_close_range, REPORT + 1, u32::MAX, 0) != 0 {
            for descriptor in REPORT + 1..MANY_DESCRIPTORS {
                libc::close(descriptor);
            }
        }
        libc::umask(plan.umask);
        if plan.spared {
            // A command that cannot give the daemon's privilege up still runs.
            let score = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            libc::write(score, c"0".as_ptr().cast(), 1);
            libc::close(score);
        }
        done(reset_signals(if job.has_handlers { u64::MAX } else { plan.ignored }), Step::Setup)?;
        if plan.credentials.is_some() || !plan.limits.is_empty() {
            use_permitted_capabilities();
        }
        for (place, limit) in plan.limits.iter().enumerate() {
            let set = libc::setrlimit(limit.resource, &raw const limit.values) == 0;
            done(set, Step::Limit(place as u8))?;
        }
        if let Some(credentials) = &plan.credentials {
            done(credentials.assume(), Step::Credentials)?;
        }
        // As its user, which may be the only one that may enter it.
        done(libc::chdir(plan.directory.as_ptr()) == 0, Step::Directory)
    }
}

/// Gives these signals their default action, and unblocks all.
///
/// # Safety
/// As for [`exec_command`].
unsafe fn reset_signals(which: u64) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        // The C library refuses two that it uses, so this is the system call; it refuses SIGKILL and SIGSTOP. All zeros
        // are the kernel's `struct sigaction` of the default action.
        let default = [0_u64; 4];
        for signal in (1..=LAST_SIGNAL).filter(|signal| which & bit(*signal) != 0) {
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
    }
}
