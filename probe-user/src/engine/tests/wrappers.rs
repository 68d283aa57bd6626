//! Main processes that end because another process did: wrappers, and processes that repeat the end of their child.

use super::*;
use crate::{config::OnCleanExit, fact::NamespaceEnd};

const OK: ExitStatus = ExitStatus::Code(0);
const TERM: ExitStatus = ExitStatus::Signal { number: 15, core_dumped: false };

fn grown_up() -> Lab {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    lab
}

fn never() -> Lab {
    let restart = RestartPolicy { on_clean_exit: OnCleanExit::Never, ..policy() };
    Lab::new(exec_identity(), vec![http_probe()], restart)
}

fn summary(lab: &Lab) -> String {
    lab.engine.view().next().unwrap().incident.unwrap().summary
}

fn child_dies(lab: &mut Lab, status: ExitStatus, sender: Option<Sender>) {
    lab.now = lab.now.plus(Duration::from_millis(1));
    let exit = exit(150, lab.now, status, sender);
    lab.see(Observation::Exit(exit, Membership { service: API, main: false }, EventId(910)));
}

#[test]
fn a_wrapper_that_exits_after_its_child_gives_the_childs_end_as_the_reason() {
    let ends = [
        (KILL, Some(bash()), "killed by SIGKILL from bash (pid 4000"),
        (SEGV, Some(Sender::Kernel), "crashed with SIGSEGV"),
        (ExitStatus::Code(3), None, "exited with code 3"),
        (KILL, None, "its sender is not known"),
    ];
    for (status, sender, words) in ends {
        for (code, later) in [(0, 1), (137, 40), (1, 500)] {
            let mut lab = grown_up();
            child_dies(&mut lab, status, sender.clone());
            lab.wait(Duration::from_millis(later));
            lab.die(100, ExitStatus::Code(code), None);
            let found = summary(&lab);
            assert_eq!(lab.incidents().last().unwrap().1, Verdict::Exited);
            assert!(found.contains(&format!("exited with code {code}; its process api")), "{found}");
            assert!(found.contains(words), "{found}");
            let incident = lab.engine.view().next().unwrap().incident.unwrap();
            assert_eq!(incident.evidence.iter().filter(|event| **event == EventId(910)).count(), 1);
        }
    }
}

#[test]
fn a_child_that_died_long_before_is_no_reason() {
    let mut lab = grown_up();
    child_dies(&mut lab, KILL, Some(bash()));
    lab.wait(LATER);
    lab.answer(ProbeOutcome::Ok);
    lab.die(100, OK, None);
    assert_eq!(summary(&lab), "main process 100 exited with code 0");
    let mut lab = grown_up();
    child_dies(&mut lab, KILL, Some(bash()));
    lab.killed(100);
    assert!(!summary(&lab).contains("its process"), "{}", summary(&lab));
}

#[test]
fn a_process_that_ends_itself_as_its_child_ended_was_ended_by_the_same_sender() {
    for (status, verdict) in [(KILL, Verdict::Killed), (TERM, Verdict::Killed), (SEGV, Verdict::Killed)] {
        let mut lab = grown_up();
        child_dies(&mut lab, status, Some(bash()));
        lab.wait(Duration::from_millis(20));
        lab.die(100, status, Some(Sender::Itself));
        let words = summary(&lab);
        assert_eq!(lab.incidents().last().unwrap().1, verdict, "{words}");
        assert!(words.contains("; its process api (pid 150) was killed by SIG"), "{words}");
        assert!(words.contains("from bash (pid 4000"), "{words}");
        assert_eq!(lab.restarts_asked(), 1);
    }
    let alone = |number, later| {
        let mut lab = grown_up();
        child_dies(&mut lab, KILL, Some(bash()));
        lab.wait(later);
        lab.answer(ProbeOutcome::Ok);
        lab.die(100, ExitStatus::Signal { number, core_dumped: false }, Some(Sender::Itself));
        (lab.incidents().last().unwrap().1, summary(&lab))
    };
    let (verdict, words) = alone(15, Duration::from_millis(20));
    assert!(!words.contains("api"), "{words}");
    assert_ne!(verdict, Verdict::Crashed);
    assert_eq!(alone(9, LATER), (Verdict::Exited, "main process 100 ended itself by SIGKILL".to_owned()));
}

#[test]
fn a_wrapper_that_repeats_the_polite_end_of_its_child_was_stopped() {
    let mut lab = never();
    child_dies(&mut lab, TERM, Some(bash()));
    lab.die(100, TERM, Some(Sender::Itself));
    lab.wait(LATER);
    assert_eq!((lab.restarts_asked(), lab.state()), (0, ServiceState::Stopped));
    let mut lab = never();
    child_dies(&mut lab, KILL, Some(bash()));
    lab.die(100, KILL, Some(Sender::Itself));
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_process_that_ends_with_its_pid_namespace_was_killed_by_what_ended_the_init() {
    let end = |status, sender| {
        let mut lab = grown_up();
        let (init_pid, init_name) = (90, "tini".into());
        let namespace_end = Some(NamespaceEnd { init_pid, init_name, status, sender });
        let exit = ProcessExit { namespace_end, ..exit(100, lab.now, KILL, Some(Sender::Kernel)) };
        lab.see(Observation::Exit(exit, Membership { service: API, main: true }, EventId(900)));
        assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::Killed, 1));
        summary(&lab)
    };
    let init = "main process 100 was killed with its pid namespace, whose init tini (pid 90)";
    assert_eq!(end(KILL, Some(bash())), format!("{init} was killed by SIGKILL from bash (pid 4000, uid 0)"));
    assert_eq!(end(OK, None), format!("{init} exited with code 0"));
    assert_eq!(end(SEGV, Some(Sender::Kernel)), format!("{init} was ended by SIGSEGV (core dumped)"));
}

#[test]
fn a_sigkill_from_the_kernel_is_no_crash() {
    let mut lab = grown_up();
    lab.die(100, KILL, Some(Sender::Kernel));
    assert_eq!(lab.incidents()[0].1, Verdict::Killed);
}
