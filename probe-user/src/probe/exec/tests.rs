//! Real programs, their exit codes, and what is left of them.

use std::{fs, path::Path, time::Duration};

use super::*;
use crate::{
    config::Exec,
    fact::ProbeKind,
    probe::{Clients, run_once, tests::probe},
};

fn check(script: &str) -> Probe {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Probe { exec: Some(Exec { command, ..Exec::default() }), ..probe(ProbeKind::Exec, script) }
}

async fn asked(script: &str) -> ProbeOutcome {
    run_once(&check(script), &Clients::new().unwrap()).await.1
}

fn failed(outcome: ProbeOutcome) -> (ProbeFailure, String) {
    let ProbeOutcome::Failed(failure, text) = outcome else { panic!("{outcome:?}") };
    (failure, text)
}

/// The pid that a script has written there, once it has.
async fn pid_in(file: &Path) -> u32 {
    loop {
        if let Some(pid) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
            return pid;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a process is gone, or only waits to be reaped.
async fn is_gone(pid: u32) {
    let lives = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
    };
    while lives() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn the_exit_code_decides_and_the_first_line_says_why() {
    assert_eq!(asked("echo 'OK - all well|time=1s'; exit 0").await, ProbeOutcome::Ok);
    let said = |script| async move { failed(asked(script).await) };
    let (failure, text) = said("echo ' DISK WARNING - 12% free | /=88%;80;90'; echo more; exit 1").await;
    assert_eq!(
        (failure, text.as_str()),
        (ProbeFailure::PluginWarning, "/bin/sh reports WARNING: DISK WARNING - 12% free")
    );
    let (failure, text) = said("echo; echo down; exit 2").await;
    assert_eq!((failure, text.as_str()), (ProbeFailure::PluginCritical, "/bin/sh reports CRITICAL: down"));
    assert_eq!(said("exit 3").await.0, ProbeFailure::PluginUnknown);
    let (failure, text) = said("echo x >&2; exit 127").await;
    assert_eq!(failure, ProbeFailure::PluginUnknown);
    assert_eq!(text, "/bin/sh exited with 127, which no plugin does: it wrote nothing");
    let (failure, text) = said("kill -9 $$").await;
    assert!(failure == ProbeFailure::PluginUnknown && text.contains("ended by signal 9"), "{text}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_no_fault_of_the_service() {
    let mut probe = check("");
    for (command, words) in [("/nonexistent", "No such file"), ("/etc/passwd", "Permission denied")] {
        probe.exec = Some(Exec { command: vec![command.to_owned()], ..Exec::default() });
        let (failure, text) = failed(run_once(&probe, &Clients::new().unwrap()).await.1);
        assert_eq!(failure, ProbeFailure::CannotAsk);
        assert!(text.starts_with(command) && text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn it_has_a_clean_environment_and_no_descriptor_of_the_daemons() {
    let folder = tempfile::tempdir().unwrap();
    let _open = fs::File::create(folder.path().join("open")).unwrap();
    let script = r#"
        for fd in /proc/self/fd/*; do case "$(readlink "$fd")" in */open) echo "has $fd"; exit 2;; esac; done
        [ -z "$CARGO_MANIFEST_DIR$CARGO" ] || { echo "has cargo's variables"; exit 2; }
        [ "$PWD" = / ] || { echo "runs in $PWD"; exit 2; }
        if read line; then echo "has input"; exit 2; fi
    "#;
    assert_eq!(asked(script).await, ProbeOutcome::Ok);
}

#[tokio::test]
async fn at_its_time_limit_it_is_killed_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut probe = check(&format!("sleep 1000 & echo $! > {}; echo begun; wait", file.display()));
    probe.timeout = Duration::from_secs(1);
    let begun = std::time::Instant::now();
    let (failure, text) = failed(run_once(&probe, &Clients::new().unwrap()).await.1);
    assert_eq!(failure, ProbeFailure::PluginTimeout);
    assert!(text.contains("did not end within 1s, and was killed"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(30));
    is_gone(pid_in(&file).await).await;
}

#[tokio::test]
async fn what_it_leaves_in_its_group_ends_with_it_and_does_not_hold_up_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; echo fine; exit 0", file.display());
    assert_eq!(asked(&script).await, ProbeOutcome::Ok);
    is_gone(pid_in(&file).await).await;
}

#[tokio::test]
async fn a_run_waits_until_the_one_that_was_given_up_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    // A process that was killed and not reaped can still be signalled.
    let script = format!(
        r#"
        if [ -e {0}/pid ]; then ! kill -0 "$(cat {0}/pid)" 2> /dev/null || exit 2; exit 0; fi
        echo $$ > {0}/new; mv {0}/new {0}/pid; exec sleep 1000
        "#,
        folder.path().display()
    );
    let (probe, clients, mut kept) = (check(&script), Clients::new().unwrap(), Kept::default());
    let waiting = Waiting::default();
    tokio::select! {
        outcome = run(&probe, &clients.programs, &mut kept, &waiting) => panic!("{outcome:?}"),
        _ = pid_in(&file) => {}
    }
    let outcome = run(&probe, &clients.programs, &mut kept, &waiting).await;
    assert_eq!(outcome.unwrap(), ProbeOutcome::Ok);
}

#[tokio::test]
async fn output_without_end_ends_the_run() {
    let (failure, text) = failed(asked("exec cat /dev/zero").await);
    assert_eq!(failure, ProbeFailure::PluginUnknown);
    assert!(text.contains("writes without end"), "{text}");
}

#[test]
fn the_first_line_is_short_and_readable() {
    let line = |text: &[u8]| Output::of(text).first_line();
    assert_eq!(line(b"\n \nOK: \xff 5|a=1\nmore"), "OK: \u{fffd} 5");
    assert_eq!(line(b"|a=1"), "");
    assert!(line(&b"x".repeat(4096)).len() <= 400);
}
