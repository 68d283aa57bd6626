//! Main processes that end while the service goes on, and ends that were asked for.

use super::*;
use crate::{
    config::OnCleanExit,
    fact::{NamespaceEnd, Successor},
};

const OK: ExitStatus = ExitStatus::Code(0);
const TERM: ExitStatus = ExitStatus::Signal { number: 15, core_dumped: false };

fn grown_up() -> Lab {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    lab
}

/// The main process ends, and other processes of its service live on.
fn dies_and_leaves(lab: &mut Lab, status: ExitStatus, sender: Option<Sender>) {
    lab.now = lab.now.plus(Duration::from_millis(1));
    let exit = ProcessExit { left_processes: true, ..exit(100, lab.now, status, sender) };
    lab.see(Observation::Exit(exit, Membership { service: API, main: true }, EventId(900)));
}

fn heir(executed: bool, listens: bool) -> Option<Successor> {
    Some(Successor { process: process(101), name: "nginx".into(), executed, listens })
}

fn adopts(lab: &Lab) -> usize {
    lab.requested.iter().filter(|effect| matches!(effect, Effect::Adopt { .. })).count()
}

fn searches(lab: &Lab) -> usize {
    lab.requested.iter().filter(|effect| matches!(effect, Effect::FindSuccessor { .. })).count()
}

fn summary(lab: &Lab) -> String {
    lab.engine.view().next().unwrap().incident.unwrap().summary
}

#[test]
fn a_successor_that_has_the_listener_becomes_the_main_process_without_an_incident() {
    for (status, sender) in [(OK, Some(bash())), (OK, None), (TERM, Some(bash())), (KILL, Some(bash()))] {
        let mut lab = grown_up();
        dies_and_leaves(&mut lab, status, sender);
        assert!(matches!(&lab.requested[..], [Effect::FindSuccessor { ports, .. }] if *ports == [8080]));
        lab.see(Observation::Successor(API, heir(true, true)));
        assert_eq!(adopts(&lab), 1);
        lab.see(Observation::Running(API, process(101)));
        lab.answer(ProbeOutcome::Ok);
        lab.wait(LATER);
        assert_eq!((lab.incidents(), lab.restarts_asked(), lab.state()), (vec![], 0, ServiceState::Healthy));
        // Its own end counts.
        lab.killed(101);
        assert_eq!(lab.restarts_asked(), 1);
    }
}

#[test]
fn workers_do_not_stand_in_for_a_main_process_that_was_killed() {
    let mut lab = grown_up();
    dies_and_leaves(&mut lab, KILL, Some(bash()));
    lab.see(Observation::Successor(API, heir(false, true)));
    assert_eq!((adopts(&lab), lab.restarts_asked()), (0, 1));
    assert_eq!(lab.incidents()[0].1, Verdict::Killed);
}

#[test]
fn without_a_successor_the_end_counts_at_once() {
    for found in [None, heir(true, false), heir(false, false)] {
        let mut lab = grown_up();
        dies_and_leaves(&mut lab, SEGV, Some(Sender::Kernel));
        lab.see(Observation::Successor(API, found));
        assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::Crashed, 1));
    }
    let mut lab = grown_up();
    dies_and_leaves(&mut lab, OK, None);
    lab.wait(Duration::from_secs(3));
    assert_eq!(
        (lab.incidents()[0].1, lab.restarts_asked()),
        (Verdict::Exited, 1),
        "the search does not answer"
    );
}

#[test]
fn a_successor_that_ends_meanwhile_is_none() {
    let mut lab = grown_up();
    dies_and_leaves(&mut lab, OK, None);
    lab.see(Observation::Successor(API, heir(true, true)));
    lab.see(Observation::Successor(API, None));
    assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::Exited, 1));
}

#[test]
fn a_successor_may_take_a_moment_to_listen() {
    let mut lab = grown_up();
    dies_and_leaves(&mut lab, OK, None);
    for round in 1..=5 {
        assert_eq!(searches(&lab), round);
        lab.see(Observation::Successor(API, heir(true, false)));
        lab.wait(Duration::from_millis(100));
    }
    lab.see(Observation::Successor(API, heir(true, true)));
    assert_eq!((adopts(&lab), lab.restarts_asked()), (1, 0));
}

#[test]
fn a_helper_that_outlives_its_service_does_not_stand_in_for_it() {
    let mut lab = grown_up();
    dies_and_leaves(&mut lab, OK, None);
    for _ in 0..30 {
        lab.see(Observation::Successor(API, heir(true, false)));
        lab.wait(Duration::from_millis(100));
    }
    assert_eq!((adopts(&lab), lab.restarts_asked()), (0, 1));
    assert!(searches(&lab) <= 22, "{}", searches(&lab));
}

/// A command that has put its daemon into the background, right after its start.
fn goes_into_background(found: Option<Successor>) -> Lab {
    let mut lab = Lab::of(false, &[service("api", exec_identity(), vec![http_probe()], policy())]);
    lab.now = at(1001);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(100)));
    dies_and_leaves(&mut lab, OK, None);
    for _ in 0..22 {
        lab.see(Observation::Successor(API, found.clone()));
        if adopts(&lab) > 0 {
            break;
        }
        lab.wait(Duration::from_millis(100));
    }
    lab
}

#[test]
fn a_command_that_goes_into_the_background_keeps_running_and_says_what_to_write() {
    for found in [heir(false, true), heir(true, true), heir(false, false), heir(true, false)] {
        let mut lab = goes_into_background(found);
        assert_eq!((adopts(&lab), lab.restarts_asked()), (1, 0));
        assert_eq!(lab.incidents()[0].1, Verdict::Exited);
        let words = summary(&lab);
        assert!(words.contains("left nginx (pid 101) in the background"), "{words}");
        assert!(words.contains("daemon off;") && words.contains("pidfile"), "{words}");
        let [Restart { action: Action::Hold(why), .. }] = lab.restarts()[..] else {
            panic!("{:?}", lab.published)
        };
        assert!(why.contains("nginx (pid 101)"), "{why}");
        lab.see(Observation::Running(API, process(101)));
        lab.answer(ProbeOutcome::Ok);
        assert_eq!((lab.state(), lab.incidents().last().unwrap().0), (ServiceState::Healthy, Phase::Resolve));
    }
}

fn never() -> Lab {
    let restart = RestartPolicy { on_clean_exit: OnCleanExit::Never, ..policy() };
    Lab::new(exec_identity(), vec![http_probe()], restart)
}

#[test]
fn a_clean_end_is_a_stop_where_the_configuration_says_so() {
    let polite = |number| ExitStatus::Signal { number, core_dumped: false };
    let ends = [
        (OK, None),
        (OK, Some(bash())),
        (TERM, Some(bash())),
        (polite(2), Some(bash())),
        (polite(1), None),
        (ExitStatus::Signal { number: 3, core_dumped: true }, Some(bash())),
    ];
    for (status, sender) in ends {
        let mut lab = never();
        lab.die(100, status, sender);
        lab.wait(LATER);
        assert_eq!((lab.restarts_asked(), lab.state()), (0, ServiceState::Stopped), "{status:?}");
        lab.see(Observation::Running(API, process(101)));
        lab.answer(ProbeOutcome::Ok);
        assert_eq!(lab.state(), ServiceState::Healthy);
    }
}

#[test]
fn an_unclean_end_is_restarted_also_where_clean_ones_are_stops() {
    let ends = [
        (ExitStatus::Code(1), None),
        (ExitStatus::Code(143), None),
        (KILL, Some(bash())),
        (KILL, None),
        (SEGV, Some(Sender::Kernel)),
        (TERM, Some(Sender::Itself)),
        (ExitStatus::Unknown, None),
    ];
    for (status, sender) in ends {
        let mut lab = never();
        lab.wait(LATER);
        lab.die(100, status, sender);
        lab.wait(Duration::from_secs(1));
        assert_eq!(lab.restarts_asked(), 1, "{status:?}");
    }
}

#[test]
fn a_polite_end_names_its_sender_and_that_it_was_at_a_terminal() {
    let mut lab = grown_up();
    let nginx = Sender::Process { pid: 4000, name: "nginx".into(), user_id: 0, unit: None, terminal: true };
    let exit = ProcessExit { sent_signal: Some(3), ..exit(100, lab.now, OK, Some(nginx)) };
    lab.see(Observation::Exit(exit, Membership { service: API, main: true }, EventId(900)));
    assert_eq!(
        summary(&lab),
        "main process 100 exited with code 0 after SIGQUIT from nginx (pid 4000, uid 0, at a terminal)"
    );
    assert_eq!(lab.restarts_asked(), 1);
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
