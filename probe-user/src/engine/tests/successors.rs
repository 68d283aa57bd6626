//! Main processes that end while the service goes on, and ends that were asked for.

use super::*;
use crate::{config::OnCleanExit, fact::Successor};

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
    Some(Successor {
        process: process(101),
        name: "nginx".into(),
        executed,
        listens,
        listens_elsewhere: false,
        leads: false,
        sole: true,
        programs: vec!["/usr/sbin/nginx".into()],
    })
}

/// A process that started when the service was at work, with the program of the main process.
fn younger(executed: bool, listens: bool) -> Successor {
    let process = ProcessKey { pid: 101, start: at(1050) };
    Successor { process, name: "api".into(), ..heir(executed, listens).unwrap() }
}

/// A second main process, as nginx and gunicorn start it for an upgrade: its workers listen as well.
fn second_main() -> Option<Successor> {
    Some(Successor { leads: true, ..younger(true, true) })
}

/// A worker that executes the program of the main process, beside others.
fn spawned_worker() -> Option<Successor> {
    Some(Successor { process: process(101), sole: false, ..younger(true, true) })
}

fn listens(lab: &mut Lab, pid: u32, port: u16) {
    let (address, process) = ([127, 0, 0, 1].into(), process(pid));
    let listener = Listener { at: lab.now, up: true, address, port, source: Source::Ebpf, process };
    lab.see(Observation::Listener(listener, API, EventId(920)));
    lab.requested.clear();
}

/// A service without probes, at work since a minute.
fn without_probes(on_clean_exit: OnCleanExit) -> Lab {
    let mut lab = Lab::new(exec_identity(), vec![], RestartPolicy { on_clean_exit, ..policy() });
    lab.wait(LATER);
    lab
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
        lab.see(Observation::Successor(API, second_main()));
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

/// The main process ends after a minute and leaves this process behind. The incident's verdict, if there is one, whether
/// the process is kept, and the number of restarts.
fn outcome(
    mut lab: Lab,
    status: ExitStatus,
    sender: Option<Sender>,
    found: Option<Successor>,
) -> (Option<Verdict>, usize, usize) {
    dies_and_leaves(&mut lab, status, sender);
    for _ in 0..25 {
        lab.see(Observation::Successor(API, found.clone()));
        lab.wait(Duration::from_millis(100));
        if adopts(&lab) + lab.restarts_asked() > 0 {
            break;
        }
    }
    (lab.incidents().first().map(|(_, verdict, _)| *verdict), adopts(&lab), lab.restarts_asked())
}

#[test]
fn workers_that_execute_a_program_do_not_replace_a_main_process_that_was_killed() {
    for (status, sender, verdict) in [
        (KILL, Some(bash()), Verdict::Killed),
        (KILL, None, Verdict::Killed),
        (SEGV, Some(Sender::Kernel), Verdict::Crashed),
    ] {
        assert_eq!(outcome(grown_up(), status, sender, spawned_worker()), (Some(verdict), 0, 1));
    }
    // A helper of another program has a listener of the main process, as dovecot's login processes have.
    let login = Successor { name: "imap-login".into(), sole: false, ..younger(true, true) };
    let mut lab = grown_up();
    listens(&mut lab, 100, 8080);
    assert_eq!(outcome(lab, KILL, Some(bash()), Some(login)), (Some(Verdict::Killed), 0, 1));
}

#[test]
fn a_server_that_outlives_its_wrapper_is_kept_and_the_end_of_the_wrapper_is_an_incident() {
    for leads in [false, true] {
        let real = Successor { process: process(101), name: "real".into(), leads, ..younger(true, true) };
        for (status, verdict) in [(KILL, Verdict::Killed), (ExitStatus::Code(2), Verdict::Exited)] {
            let mut lab = grown_up();
            listens(&mut lab, 101, 8080);
            let sender = (status == KILL).then(bash);
            assert_eq!(outcome(lab, status, sender, Some(real.clone())), (Some(verdict), 1, 0));
        }
    }
}

#[test]
fn a_listener_may_pass_to_a_fork_when_the_main_process_was_asked_to_end() {
    for status in [TERM, OK] {
        let fork = Some(younger(false, true));
        assert_eq!(outcome(grown_up(), status, Some(bash()), fork), (None, 1, 0), "{status:?}");
    }
    // One that started with the main process may be its only worker.
    let fork = Successor { process: process(101), ..younger(false, true) };
    assert_eq!(outcome(grown_up(), TERM, Some(bash()), Some(fork)), (Some(Verdict::Killed), 1, 0));
    let workers = Successor { sole: false, ..younger(false, true) };
    assert_eq!(outcome(grown_up(), TERM, Some(bash()), Some(workers)), (Some(Verdict::Killed), 0, 1));
}

#[test]
fn a_service_without_probes_is_upgraded_as_any_other() {
    let always = OnCleanExit::Always;
    let on_unix = Successor { listens: false, listens_elsewhere: true, ..second_main().unwrap() };
    for end in [(OK, None), (TERM, Some(bash())), (KILL, Some(bash()))] {
        let (status, sender) = end.clone();
        assert_eq!(
            outcome(without_probes(always), status, sender, Some(on_unix.clone())),
            (None, 1, 0),
            "{end:?}"
        );
        // The ports that were open are those to listen on.
        let (status, sender) = end.clone();
        let mut lab = without_probes(always);
        listens(&mut lab, 100, 9090);
        dies_and_leaves(&mut lab, status, sender);
        assert!(matches!(&lab.requested[..], [Effect::FindSuccessor { ports, .. }] if *ports == [9090]));
        lab.see(Observation::Successor(API, second_main()));
        assert_eq!((adopts(&lab), lab.incidents()), (1, vec![]), "{end:?}");
    }
    // It has no listener at all.
    assert_eq!(outcome(without_probes(always), OK, None, Some(younger(true, false))), (None, 1, 0));
    let helper = Some(Successor { name: "helper".into(), ..younger(true, false) });
    let mut lab = without_probes(always);
    listens(&mut lab, 100, 9090);
    assert_eq!(outcome(lab, OK, None, helper.clone()), (Some(Verdict::Exited), 0, 1));
    assert_eq!(outcome(without_probes(OnCleanExit::Never), OK, None, helper), (None, 0, 0));
}

#[test]
fn a_long_start_that_ends_well_leaves_its_daemon_in_the_background() {
    for found in [heir(true, false), heir(false, false)] {
        let mut lab = without_probes(OnCleanExit::Always);
        dies_and_leaves(&mut lab, OK, None);
        for _ in 0..25 {
            lab.see(Observation::Successor(API, found.clone()));
            lab.wait(Duration::from_millis(100));
        }
        assert_eq!((adopts(&lab), lab.restarts_asked()), (1, 0));
        assert!(summary(&lab).contains("left nginx (pid 101) in the background"), "{}", summary(&lab));
    }
    // The probe's port is another one, which the start has not opened.
    let mut lab = Lab::of(false, &[service("api", exec_identity(), vec![http_probe()], policy())]);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(100)));
    lab.now = lab.now.plus(Duration::from_secs(15));
    assert_eq!(outcome(lab, OK, None, heir(true, false)), (Some(Verdict::Exited), 1, 0));
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
