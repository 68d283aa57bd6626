//! The daemon's view of a real systemd: states, restarts, and whose turn it is after a death.

use std::time::Duration;

use hostprobe::{
    act::systemd::{JobOutcome, Systemd, SystemdError, UnitChange},
    clock::Timestamp,
    engine::unit::{UnitJudgement, judge},
    fact::{ProcessKey, ServiceId, UnitState},
};
use hostprobe_tests::systemd::SystemdLab;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};
use tokio::{sync::mpsc, time::timeout};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test)
}

fn kill(pid: u32) -> Timestamp {
    let at = Timestamp::now();
    kill_process(Pid::from_raw(pid.cast_signed()).expect("a pid"), Signal::KILL).expect("it lives");
    at
}

fn service(settings: &str) -> String {
    format!("[Service]\nExecStart=/bin/sleep 1000\n{settings}\n")
}

async fn until(changes: &mut mpsc::Receiver<UnitChange>, wanted: impl Fn(&UnitState) -> bool) -> UnitChange {
    let mut seen = Vec::new();
    let found = async {
        loop {
            let change = changes.recv().await.expect("the watch goes on");
            if wanted(&change.state) {
                return change;
            }
            seen.push(change);
        }
    };
    timeout(LONG, found).await.unwrap_or_else(|_| panic!("not among {seen:#?}"))
}

/// Judges a death as the daemon does: reads again while systemd does not know of it.
async fn judged(
    systemd: &Systemd,
    unit: &str,
    died: ProcessKey,
    at: Timestamp,
    before: &str,
) -> UnitJudgement {
    let settled = async {
        loop {
            let state = systemd.unit_state(unit).await.expect("a state");
            let judgement = judge(&state, &died, at, Some(before));
            if judgement != UnitJudgement::Stale {
                return judgement;
            }
        }
    };
    timeout(LONG, settled).await.expect("systemd notices the death")
}

#[test]
fn a_watched_unit_shows_its_kill_restart_and_stop() {
    let Some(lab) = SystemdLab::for_test() else { return };
    run(async {
        let systemd = Systemd::connect_to(&lab.bus_address()).await.unwrap();
        assert_eq!(systemd.manager_pid(), lab.init_pid());
        assert_eq!(systemd.unit_state("api.service").await.unwrap().load, "not-found");
        let error = systemd.restart("api.service").await.unwrap_err();
        assert!(matches!(error, SystemdError::NoSuchUnit { .. }), "{error}");

        lab.write_unit("api.service", &service("")).unwrap();
        lab.systemctl(&["start", "api.service"]).unwrap();
        let first = systemd.unit_state("api.service").await.unwrap();
        let main = first.main.unwrap();
        assert_eq!(main.pid, lab.host_main_pid("api.service").unwrap());
        let command = std::fs::read_to_string(format!("/proc/{}/cmdline", main.pid)).unwrap();
        assert_eq!(command, "/bin/sleep\x001000\0");
        let cgroup = first.cgroup.clone().unwrap();
        let memberships = std::fs::read_to_string(format!("/proc/{}/cgroup", main.pid)).unwrap();
        assert!(memberships.lines().any(|line| line.ends_with(&format!(":{cgroup}"))), "{cgroup}");

        let (sender, mut changes) = mpsc::channel(16);
        let watch = systemd.watch(vec![(ServiceId(3), "api.service".into())], sender);
        let scenario = async {
            until(&mut changes, |state| state.main == Some(main)).await;
            let at = kill(main.pid);
            let failed = until(&mut changes, |state| state.active == "failed").await;
            assert_eq!((failed.service, failed.state.result.as_str()), (ServiceId(3), "signal"));
            let judgement = judge(&failed.state, &main, at, Some(&first.invocation_id));
            assert_eq!(judgement, UnitJudgement::Restart { gave_up: false, waits: None });

            systemd.restart("api.service").await.unwrap();
            let back = until(&mut changes, |state| state.main.is_some()).await.state;
            assert_ne!(back.invocation_id, first.invocation_id);
            let judgement = judge(&back, &main, at, Some(&first.invocation_id));
            assert_eq!(judgement, UnitJudgement::AlreadyRestarted { asked: true }, "{back:?}");

            let (second, at) = (back.main.unwrap(), Timestamp::now());
            lab.systemctl(&["stop", "api.service"]).unwrap();
            let stopped = until(&mut changes, |state| state.active == "inactive").await.state;
            let judgement = judge(&stopped, &second, at, Some(&back.invocation_id));
            assert!(matches!(judgement, UnitJudgement::StopRequested(_)), "{judgement:?} of {stopped:?}");
        };
        tokio::select! {
            () = watch => panic!("the watch ended"),
            () = scenario => {}
        }
    });
}

#[test]
fn each_cause_of_death_gets_its_unit_judgement() {
    let Some(lab) = SystemdLab::for_test() else { return };
    run(async {
        let systemd = Systemd::connect_to(&lab.bus_address()).await.unwrap();
        let ours = |j: &UnitJudgement| matches!(j, UnitJudgement::Restart { waits: None, gave_up: false });
        let waits = |j: &UnitJudgement| matches!(j, UnitJudgement::Restart { waits: Some(_), .. });
        let itself = |j: &UnitJudgement| {
            matches!(j, UnitJudgement::RestartsItself(_) | UnitJudgement::AlreadyRestarted { asked: false })
        };
        let stopped = |j: &UnitJudgement| matches!(j, UnitJudgement::StopRequested(_));
        // A restart by another client may be over before the first query.
        let theirs = |j: &UnitJudgement| {
            matches!(j, UnitJudgement::StopRequested(_) | UnitJudgement::AlreadyRestarted { asked: true })
        };
        // Its process exits with 0 as soon as the test writes to the pipe.
        let exits =
            "ExecStartPre=/usr/bin/mkfifo /run/go\nExecStart=\nExecStart=/bin/sh -c 'read x < /run/go'";
        type Rule<'r> = &'r dyn Fn(&UnitJudgement) -> bool;
        let cases: [(&str, &str, &str, Rule<'_>); 14] = [
            ("no", "", "", &ours),
            ("at-once", "Restart=always\nRestartSec=0", "", &itself),
            ("in-10s", "Restart=always\nRestartSec=10", "", &waits),
            ("stop-post", "ExecStopPost=/bin/sleep 0.2", "", &ours),
            ("exit-0", exits, "go", &ours),
            ("watchdog", "WatchdogSec=1s", "wait", &ours),
            ("stop", "", "stop", &stopped),
            ("stop-always", "Restart=always\nRestartSec=0", "stop", &stopped),
            ("stop-kill", "KillSignal=SIGKILL", "stop", &stopped),
            ("stop-command", "ExecStop=/bin/kill -KILL $MAINPID", "stop", &stopped),
            ("stop-slow", "ExecStopPost=/bin/sleep 0.2", "stop", &stopped),
            ("restart", "", "restart", &theirs),
            ("restart-kill", "KillSignal=SIGKILL", "restart", &theirs),
            ("restart-slow", "ExecStopPost=/bin/sleep 2", "restart", &stopped),
        ];
        for (name, settings, deed, right) in cases {
            let unit = format!("{name}.service");
            lab.write_unit(&unit, &service(settings)).unwrap();
            lab.systemctl(&["start", &unit]).unwrap();
            let before = systemd.unit_state(&unit).await.unwrap();
            let main = before.main.unwrap_or_else(|| panic!("{unit} runs: {before:?}"));
            let process = Pid::from_raw(main.pid.cast_signed()).unwrap();
            let process = pidfd_open(process, PidfdFlags::empty()).unwrap();
            match deed {
                "" => drop(kill(main.pid)),
                "wait" => {}
                "go" => std::fs::write(lab.path("run/go"), "x\n").unwrap(),
                verb => drop(lab.systemctl(&[verb, "--no-block", &unit]).unwrap()),
            }
            // A pidfd becomes readable when its process has died.
            let mut died = [PollFd::new(&process, PollFlags::IN)];
            let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
            assert_eq!(poll(&mut died, Some(&limit)), Ok(1), "{unit} dies");
            let judgement = judged(&systemd, &unit, main, Timestamp::now(), &before.invocation_id).await;
            let state = systemd.unit_state(&unit).await.unwrap();
            assert!(right(&judgement), "{name}: {judgement:?}, now {state:?}");
        }
    });
}

#[test]
fn a_unit_that_systemd_gave_up_on_restarts_after_a_reset() {
    let Some(lab) = SystemdLab::for_test() else { return };
    run(async {
        let systemd = Systemd::connect_to(&lab.bus_address()).await.unwrap();
        let unit = "loop.service";
        let limit = "[Unit]\nStartLimitBurst=2\nStartLimitIntervalSec=1h\n";
        lab.write_unit(unit, &format!("{limit}{}", service("Restart=always\nRestartSec=0"))).unwrap();
        lab.systemctl(&["start", unit]).unwrap();
        let (sender, mut changes) = mpsc::channel(16);
        let watch = systemd.watch(vec![(ServiceId(0), unit.into())], sender);
        let scenario = async {
            let first = until(&mut changes, |state| state.main.is_some()).await.state.main.unwrap();
            kill(first.pid);
            let running = |state: &UnitState| state.main.is_some_and(|main| main != first);
            let second = until(&mut changes, running).await.state.main.unwrap();
            let at = kill(second.pid);
            let failed = until(&mut changes, |state| state.active == "failed").await.state;
            assert_eq!(
                judge(&failed, &second, at, None),
                UnitJudgement::Restart { gave_up: true, waits: None }
            );
            assert_eq!(failed.start_limit, (2, Duration::from_secs(3600)));

            let outcome = systemd.restart_and_wait(unit, LONG).await.unwrap();
            assert_eq!(outcome, JobOutcome::Failed("failed".into()), "the limit holds");
            systemd.reset_failed(unit).await.unwrap();
            assert_eq!(systemd.restart_and_wait(unit, LONG).await.unwrap(), JobOutcome::Done);
        };
        tokio::select! {
            () = watch => panic!("the watch ended"),
            () = scenario => {}
        }
    });
}

#[test]
fn a_restarted_bus_is_found_and_two_labs_do_not_clash() {
    let (Some(lab), Some(other)) = (SystemdLab::for_test(), SystemdLab::for_test()) else { return };
    run(async {
        for lab in [&lab, &other] {
            lab.write_unit("api.service", &service("")).unwrap();
            lab.systemctl(&["start", "api.service"]).unwrap();
        }
        let systemd = Systemd::connect_to(&lab.bus_address()).await.unwrap();
        let elsewhere = Systemd::connect_to(&other.bus_address()).await.unwrap();
        let its = elsewhere.unit_state("api.service").await.unwrap();
        let (sender, mut changes) = mpsc::channel(16);
        let watch = systemd.watch(vec![(ServiceId(0), "api.service".into())], sender);
        let scenario = async {
            let state = until(&mut changes, |state| state.main.is_some()).await.state;
            assert_ne!((state.main, &state.cgroup), (its.main, &its.cgroup));
            kill(lab.host_main_pid("dbus.service").unwrap());
            kill(state.main.unwrap().pid);
            until(&mut changes, |state| state.active == "failed").await;
            assert_eq!(systemd.restart_and_wait("api.service", LONG).await.unwrap(), JobOutcome::Done);
        };
        tokio::select! {
            () = watch => panic!("the watch ended"),
            () = scenario => {}
        }
        assert_eq!(elsewhere.unit_state("api.service").await.unwrap().main, its.main, "undisturbed");
    });
}

#[test]
fn a_hung_systemd_does_not_hang_its_caller() {
    let Some(lab) = SystemdLab::for_test() else { return };
    run(async {
        let systemd = Systemd::connect_to(&lab.bus_address()).await.unwrap();
        let init = Pid::from_raw(lab.init_pid().cast_signed()).unwrap();
        kill_process(init, Signal::STOP).unwrap();
        let (read, restart) = timeout(LONG, async {
            tokio::join!(systemd.unit_state("dbus.service"), systemd.restart("no.service"))
        })
        .await
        .expect("it gives up");
        for error in [read.unwrap_err(), restart.unwrap_err()] {
            assert!(matches!(error, SystemdError::Timeout { .. }) && error.is_lost(), "{error}");
        }
        kill_process(init, Signal::CONT).unwrap();
        assert_eq!(systemd.unit_state("dbus.service").await.unwrap().load, "loaded");
    });
}
