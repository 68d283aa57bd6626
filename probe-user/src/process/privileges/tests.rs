//! Rights are tried, not read: what may be done is done, on a thread that has narrowed its rights as the daemon does.

mod deeds;

use std::{fs, process::Command, thread, time::Duration};

use deeds::{OtherUser, called, deeds, permitted};
use rustix::process::{Pid, geteuid};
use tokio::{runtime::Builder, time::timeout};

use super::*;
use crate::sensor::{ebpf::Options, record::Record};

/// Longest wait for a record, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A user that owns nothing on this host: the numbers need no name.
const OTHER_ID: u32 = 54_321;

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

/// Narrows this thread as the daemon does, with the eBPF programs attached before.
fn narrow_for(starts_programs: bool) -> EbpfSensor {
    let sensor = EbpfSensor::load(&Options { prober: 0, ..Options::default() }).unwrap();
    let service = if starts_programs { "exec = [\"/bin/true\"]" } else { "match = { port = 1 }" };
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, format!("[[service]]\nname = \"a\"\n{service}\n")).unwrap();
    let plan = Plan::of(&Config::load(file.path()).unwrap());
    assert_eq!(plan.starts_programs, starts_programs);
    narrow(plan.and_maps_of(&sensor).unwrap()).unwrap();
    sensor
}

/// What was possible before, and is not after; a machine that withholds a right from root has no say in it.
fn assert_given_up(before: &[(&str, CapabilitySet, bool)], other: &OtherUser, but: CapabilitySet) {
    let had = capabilities_before();
    for ((name, capability, could), (_, _, can)) in before.iter().zip(deeds(other)) {
        assert_eq!(*could, had.contains(*capability), "before: {name}");
        assert_eq!(can, *could && but.contains(*capability), "after: {name}");
    }
}

/// Those of the main thread, which none of these tests narrows.
fn capabilities_before() -> CapabilitySet {
    capabilities(Pid::from_raw(std::process::id().cast_signed())).unwrap().effective
}

#[test]
fn dropped_rights_are_gone_and_cannot_be_regained() {
    if !is_root() {
        return;
    }
    apart(|| {
        let other = OtherUser::new();
        let before = deeds(&other);
        let _sensor = narrow_for(false);
        assert_given_up(&before, &other, CapabilitySet::empty());
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
        let other = OtherUser::new();
        let (before, first) = (deeds(&other), status_of_a_program());
        let _sensor = narrow_for(true);
        assert_given_up(&before, &other, STARTING);
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
fn the_sensor_works_after_the_rights_are_dropped() {
    if !is_root() {
        return;
    }
    apart(|| {
        let mut sensor = narrow_for(false);
        let mut other = OtherUser::of(None);
        let pid = other.process.id();
        sensor.watch_process(pid, 1).unwrap();
        sensor.unwatch_process(pid).unwrap();
        other.end();
        let heard = async {
            let mut records = Vec::new();
            loop {
                sensor.readable().await.unwrap();
                sensor.drain(&mut records);
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
fn a_sensor_that_cannot_use_its_maps_without_a_right_keeps_it() {
    if !is_root() {
        return;
    }
    apart(|| {
        let sensor = EbpfSensor::load(&Options { prober: 0, ..Options::default() }).unwrap();
        let before = capabilities(None).unwrap();
        refuse_bpf();
        let plan = Plan { keep: LOOKING, starts_programs: false, pings: false }.and_maps_of(&sensor).unwrap();
        assert_eq!(plan.keep, LOOKING | CapabilitySet::BPF);
        assert_eq!(capabilities(None).unwrap(), before, "what was tried is taken back");
        assert_eq!(narrow(plan).unwrap(), LOOKING | CapabilitySet::BPF);
    });
}

/// Has the kernel answer this thread's bpf(2) as Linux before 5.19 answers one without `CAP_BPF`.
fn refuse_bpf() {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let (equal, answer) = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET | libc::BPF_K);
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    // SAFETY: these only put a filter's words together; it looks at the number of the call, its first field.
    let mut filter = unsafe {
        [
            libc::BPF_STMT(load as u16, 0),
            libc::BPF_JUMP(equal as u16, libc::SYS_bpf as u32, 0, 1),
            libc::BPF_STMT(answer as u16, refused),
            libc::BPF_STMT(answer as u16, libc::SECCOMP_RET_ALLOW),
        ]
    };
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter is as long as is said, and is copied by the call. It is for this thread alone.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    called(set.into()).unwrap();
}

#[test]
fn each_right_that_is_kept_is_needed() {
    if !is_root() {
        return;
    }
    let looks = |keep: CapabilitySet| {
        apart(move || {
            let other = OtherUser::new();
            narrow(Plan { keep, starts_programs: false, pings: false }).unwrap();
            let (exe, fds) = (fs::read_link(other.proc("exe")), fs::read_dir(other.proc("fd")));
            (permitted(exe.map(drop)), permitted(fds.map(drop)))
        })
    };
    assert_eq!(looks(LOOKING), (true, true));
    assert_eq!(looks(LOOKING - CapabilitySet::SYS_PTRACE), (false, true));
    assert_eq!(looks(LOOKING - CapabilitySet::DAC_READ_SEARCH), (true, false));
}

#[test]
fn programs_keep_ambient_rights_beyond_the_daemon_s_own() {
    if !is_root() {
        return;
    }
    let program_of = |starts_programs: bool| {
        apart(move || {
            let given = CapabilitySet::NET_BIND_SERVICE | CapabilitySet::BPF | CapabilitySet::SYS_PTRACE;
            become_a_stranger_with(given);
            let kept = narrow(Plan { keep: LOOKING, starts_programs, pings: false }).unwrap();
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
    called(unsafe { libc::syscall(libc::SYS_setresgid, OTHER_ID, OTHER_ID, OTHER_ID) }).unwrap();
    // SAFETY: as above.
    called(unsafe { libc::syscall(libc::SYS_setresuid, OTHER_ID, OTHER_ID, OTHER_ID) }).unwrap();
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
        narrow(Plan { keep: LOOKING, starts_programs: false, pings: false }).unwrap();
        others_with_more(Path::new("/proc/self/task")).unwrap()
    });
    let main = format!("({})", std::process::id());
    assert!(others.iter().any(|other| other.ends_with(&main)), "{others:?}");
}
