//! Rights are tried, not read: what may be done is done, on a thread that has narrowed its rights as the daemon does.

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
    thread,
    time::Duration,
};

use rustix::process::{Pid, geteuid, test_kill_process};
use tempfile::TempDir;
use tokio::{runtime::Builder, time::timeout};

use super::*;
use crate::kernel::{KernelError, Options, Record};

/// Longest wait for a record, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A user that owns nothing on this host: the numbers need no name.
const STRANGER: u32 = 54_321;

/// Runs on a thread of its own, whose rights are its own as well.
fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether this process is root, with the rights of root; where it has to be, it must.
fn is_root() -> bool {
    let root =
        geteuid().is_root() && capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_ADMIN);
    assert!(root || std::env::var_os("CI").is_none(), "this test needs root");
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Somebody else's process, and a file that only that user may write to.
struct Stranger {
    process: Child,
    file: PathBuf,
    folder: TempDir,
}

impl Stranger {
    fn new() -> Self {
        Self::of(Some(STRANGER))
    }

    /// Of another user, or of this one.
    fn of(user: Option<u32>) -> Self {
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

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.process.id())).join(name)
    }
}

impl Stranger {
    /// Lets the process end itself, by SIGSEGV: whoever narrowed its rights could not kill it.
    fn end(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.end();
    }
}

/// A call's outcome in the terms of the standard library.
fn called(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether something was done, or failed for another reason than a missing right.
fn permitted(outcome: io::Result<()>) -> bool {
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
fn deeds(stranger: &Stranger) -> Vec<(&'static str, CapabilitySet, bool)> {
    let device = stranger.folder.path().join("device");
    let theirs = stranger.file.clone();
    let pid = Pid::from_raw(stranger.process.id().cast_signed()).unwrap();
    let deed = |name, capability, attempt: Box<dyn FnOnce() -> io::Result<()> + Send>| {
        // What some of them change is the thread's own.
        (name, capability, permitted(apart(attempt)))
    };
    vec![
        // SAFETY: the path is a valid string; nothing is mounted there.
        deed(
            "unmount",
            CapabilitySet::SYS_ADMIN,
            Box::new(|| called(unsafe { libc::umount2(c"/proc/self".as_ptr(), 0) }.into())),
        ),
        deed("set the clock", CapabilitySet::SYS_TIME, Box::new(touch_clock)),
        deed(
            "raw socket",
            CapabilitySet::NET_RAW,
            // SAFETY: plain numbers.
            Box::new(|| {
                called(unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 1) }.into())
            }),
        ),
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
                let file = stranger.folder.path().join("owned");
                move || {
                    fs::write(&file, "")?;
                    let changed = chown(&file, Some(STRANGER), None);
                    fs::remove_file(&file).and(changed)
                }
            }),
        ),
        deed(
            "become another user",
            CapabilitySet::SETUID,
            // SAFETY: plain numbers. The bare call changes this thread alone.
            Box::new(|| called(unsafe { libc::syscall(libc::SYS_setresuid, STRANGER, STRANGER, STRANGER) })),
        ),
        deed(
            "become another group",
            CapabilitySet::SETGID,
            // SAFETY: as above.
            Box::new(|| called(unsafe { libc::syscall(libc::SYS_setresgid, STRANGER, STRANGER, STRANGER) })),
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
            Box::new(|| Ok(rustix::process::setpriority_process(None, -1)?)),
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
            Box::new(|| match Kernel::load(&Options { prober: 0, ..Options::default() }) {
                Ok(_) => Ok(()),
                Err(KernelError::NotPermitted { .. } | KernelError::NoHook(_)) => {
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

/// Narrows this thread as the daemon does, with a kernel side that was attached before.
fn narrow_for(starts_programs: bool) -> Kernel {
    let kernel = Kernel::load(&Options { prober: 0, ..Options::default() }).unwrap();
    let service = if starts_programs { "exec = [\"/bin/true\"]" } else { "match = { port = 1 }" };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, format!("[[service]]\nname = \"a\"\n{service}\n")).unwrap();
    let plan = Plan::of(&Config::load(file.path()).unwrap());
    assert_eq!(plan.starts_programs, starts_programs);
    narrow(plan.and_maps_of(&kernel).unwrap()).unwrap();
    kernel
}

/// What was possible before, and is not after; a machine that withholds a right from root has no say in it.
fn assert_given_up(before: &[(&str, CapabilitySet, bool)], stranger: &Stranger, but: CapabilitySet) {
    let had = capabilities_before();
    for ((name, capability, could), (_, _, can)) in before.iter().zip(deeds(stranger)) {
        assert_eq!(*could, had.contains(*capability), "before: {name}");
        assert_eq!(can, *could && but.contains(*capability), "after: {name}");
    }
}

/// Those of the main thread, which none of these tests narrows.
fn capabilities_before() -> CapabilitySet {
    capabilities(Pid::from_raw(std::process::id().cast_signed())).unwrap().effective
}

#[test]
fn what_is_given_up_cannot_be_done_any_more_and_cannot_be_had_back() {
    if !is_root() {
        return;
    }
    apart(|| {
        let stranger = Stranger::new();
        let before = deeds(&stranger);
        let _kernel = narrow_for(false);
        assert_given_up(&before, &stranger, CapabilitySet::empty());
        let back = CapabilitySets {
            effective: CapabilitySet::SYS_ADMIN,
            permitted: CapabilitySet::SYS_ADMIN,
            inheritable: CapabilitySet::empty(),
        };
        assert!(set_capabilities(None, back).is_err());
        // Nor does root get anything by executing a program, which is how root has rights at all.
        let status = status_of_a_program();
        assert_eq!(of(&status, "CapBnd:"), "0000000000000000");
        assert_eq!(of(&status, "CapEff:"), "0000000000000000");
        assert_eq!(of(&status, "NoNewPrivs:"), "1");
    });
}

#[test]
fn programs_that_are_started_have_all_the_rights_of_root() {
    if !is_root() {
        return;
    }
    apart(|| {
        let stranger = Stranger::new();
        let (before, first) = (deeds(&stranger), status_of_a_program());
        let _kernel = narrow_for(true);
        assert_given_up(&before, &stranger, STARTING);
        let status = status_of_a_program();
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:"] {
            assert_eq!(of(&status, set), of(&first, set), "{set}");
        }
    });
}

fn status_of_a_program() -> String {
    let output = Command::new("/bin/cat").arg("/proc/self/status").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn of<'a>(status: &'a str, key: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim()
}

#[test]
fn the_kernel_is_heard_and_told_after_the_rights_are_given_up() {
    if !is_root() {
        return;
    }
    apart(|| {
        let mut kernel = narrow_for(false);
        let mut stranger = Stranger::of(None);
        let pid = stranger.process.id();
        kernel.watch_process(pid).unwrap();
        kernel.unwatch_process(pid).unwrap();
        stranger.end();
        let heard = async {
            let mut records = Vec::new();
            loop {
                kernel.readable().await.unwrap();
                kernel.drain(&mut records);
                for record in records.drain(..) {
                    if let Record::Exit(exit) = record
                        && exit.pid == pid
                    {
                        return exit.status.signal();
                    }
                }
            }
        };
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(async { timeout(PATIENCE, heard).await }).unwrap(), Some(11));
    });
}

#[test]
fn each_right_that_is_kept_is_needed() {
    if !is_root() {
        return;
    }
    let looks = |keep: CapabilitySet| {
        apart(move || {
            let stranger = Stranger::new();
            narrow(Plan { keep, starts_programs: false }).unwrap();
            let (exe, fds) = (fs::read_link(stranger.proc("exe")), fs::read_dir(stranger.proc("fd")));
            (permitted(exe.map(drop)), permitted(fds.map(drop)))
        })
    };
    assert_eq!(looks(LOOKING), (true, true));
    assert_eq!(looks(LOOKING - CapabilitySet::SYS_PTRACE), (false, true));
    assert_eq!(looks(LOOKING - CapabilitySet::DAC_READ_SEARCH), (true, false));
}

#[test]
fn of_the_ambient_set_programs_have_what_is_not_the_daemon_s() {
    if !is_root() {
        return;
    }
    let program_of = |starts_programs: bool| {
        apart(move || {
            let given = CapabilitySet::NET_BIND_SERVICE | CapabilitySet::BPF | CapabilitySet::SYS_PTRACE;
            become_a_stranger_with(given);
            let kept = narrow(Plan { keep: LOOKING, starts_programs }).unwrap();
            assert_eq!(kept, CapabilitySet::SYS_PTRACE);
            status_of_a_program()
        })
    };
    let served = program_of(true);
    let bind = format!("{:016x}", CapabilitySet::NET_BIND_SERVICE.bits());
    assert_eq!(of(&served, "CapEff:"), bind);
    assert_eq!(of(&served, "NoNewPrivs:"), "0");
    let none = program_of(false);
    assert_eq!(of(&none, "CapPrm:"), "0000000000000000");
    assert_eq!(of(&none, "NoNewPrivs:"), "1");
}

/// Makes this thread another user's that has just these rights, and passes them on.
fn become_a_stranger_with(given: CapabilitySet) {
    rustix::thread::set_keep_capabilities(true).unwrap();
    // SAFETY: plain numbers. The bare calls change this thread alone.
    called(unsafe { libc::syscall(libc::SYS_setresgid, STRANGER, STRANGER, STRANGER) }).unwrap();
    // SAFETY: as above.
    called(unsafe { libc::syscall(libc::SYS_setresuid, STRANGER, STRANGER, STRANGER) }).unwrap();
    set(CapabilitySets { effective: given, permitted: given, inheritable: given }).unwrap();
    for capability in given.iter() {
        configure_capability_in_ambient_set(capability, true).unwrap();
    }
}

#[test]
fn a_thread_that_keeps_its_rights_is_named() {
    if !is_root() {
        return;
    }
    let others = apart(|| {
        assert_eq!(others_with_more(Path::new("/proc/self/task")).unwrap(), [""; 0]);
        narrow(Plan { keep: LOOKING, starts_programs: false }).unwrap();
        others_with_more(Path::new("/proc/self/task")).unwrap()
    });
    let main = format!("({})", std::process::id());
    assert!(others.iter().any(|other| other.ends_with(&main)), "{others:?}");
}
