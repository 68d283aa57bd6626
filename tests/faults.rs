//! A service that serves HTTP dies in every way there is; the stream reports the whole incident, down to "healthy
//! again".

use hostprobe_tests::{
    daemon::field,
    incident_events::{number, text},
    lab::ExecLab,
    memcg::MemoryCgroup,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn a_fault_signal_of_its_own_is_a_crash_with_its_core_flag() {
    let Some(lab) = ExecLab::start() else { return };
    for (path, signal) in [("/segv", "SIGSEGV"), ("/abort", "SIGABRT")] {
        let incident = lab.hit(path);
        assert_eq!(incident.verdict(), "crashed");
        let exit = incident.one("process.exit");
        assert_eq!(text(exit, "process.exit_signal.name"), signal);
        let core = field(exit, "process.exit_signal.core_dumped");
        assert_eq!(core.and_then(Value::as_bool), Some(true), "{exit:#}");
    }
}

#[test]
fn a_signal_of_a_fault_from_another_process_is_a_kill() {
    let Some(lab) = ExecLab::start() else { return };
    let incident = lab.heal(|| lab.kill(Signal::ABORT));
    assert_eq!(incident.verdict(), "killed");
    assert_eq!(text(incident.one("process.exit"), "process.exit_signal.name"), "SIGABRT");
}

#[test]
fn an_exit_is_reported_with_its_code_even_zero() {
    let Some(lab) = ExecLab::start() else { return };
    for code in [3, 0] {
        let incident = lab.hit(&format!("/exit?code={code}"));
        assert_eq!(incident.verdict(), "exited");
        assert_eq!(number(incident.one("process.exit"), "process.exit_code"), Some(code));
    }
}

#[test]
fn the_status_is_that_of_the_process_whichever_thread_ends_last() {
    let Some(lab) = ExecLab::start() else { return };
    let incident = lab.hit("/leader-exits");
    assert_eq!(incident.verdict(), "exited");
    assert_eq!(number(incident.one("process.exit"), "process.exit_code"), Some(9));

    // What wait(2) says of this case differs between kernels; the event must say the same.
    let mut alone = Victim::start();
    alone.hit("/sys-exit?code=5");
    let code = alone.wait().code().expect("it exits by itself");
    let incident = lab.hit("/sys-exit?code=5");
    assert_eq!(incident.verdict(), "exited");
    assert_eq!(number(incident.one("process.exit"), "process.exit_code"), Some(i64::from(code)));
}

#[test]
fn an_oom_kill_is_reported_with_victim_numbers_and_scope() {
    let Some(lab) = ExecLab::start() else { return };
    let limit = 30 << 20;
    let cgroup = MemoryCgroup::new(limit).expect("a memory cgroup");
    let pid = lab.main_pid();
    cgroup.add(pid).expect("it is moved");
    let incident = lab.hit("/alloc?mb=100");
    assert_eq!(incident.verdict(), "oom_killed");
    let kill = incident.one("process.oom_kill");
    assert_eq!(number(kill, "process.pid"), Some(i64::from(pid)));
    assert_eq!(text(kill, "oom.scope"), "memcg");
    assert_eq!(number(kill, "oom.limit_bytes"), Some(limit.cast_signed()));
    let anon = number(kill, "oom.anon_bytes").expect("anonymous bytes");
    assert!((limit.cast_signed() / 2..=limit.cast_signed() + (1 << 20)).contains(&anon), "{anon}");
    let exit = incident.one("process.exit");
    assert_eq!(field(exit, "process.oom"), Some(&true.into()));
    let evidence = field(incident.one("incident.open"), "incident.evidence");
    for event in [kill, exit] {
        let id = field(event, "event.id").expect("an id");
        assert!(evidence.and_then(Value::as_array).is_some_and(|ids| ids.contains(id)), "{evidence:?}");
    }
}

#[test]
fn a_listener_closed_by_a_living_process_is_not_listening() {
    let Some(lab) = ExecLab::start() else { return };
    let incident = lab.hit("/close");
    assert_eq!(incident.verdict(), "not_listening");
    incident.one("restart.done");
}
