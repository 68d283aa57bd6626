//! How long a killed service is away, beside how long it takes to start by itself. Measured alone: this target
//! has no other test.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hostprobe_tests::{
    http::{self, free_port},
    incident_events::{median, number, text},
    lab::ExecLab,
    victim::Victim,
};
use rustix::process::Signal;

fn own_name() -> String {
    std::fs::read_to_string("/proc/self/comm").expect("the test has a name").trim().to_owned()
}

#[test]
fn twenty_kills_are_twenty_incidents_and_recovery_costs_little_more_than_a_cold_start() {
    let Some(lab) = ExecLab::start() else { return };
    let (mut cold, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        cold.push(cold_start());
        let pid = lab.main_pid();
        let incident = lab.heal(|| lab.kill(Signal::KILL));
        assert_eq!(incident.verdict(), "killed");
        let exit = incident.one("process.exit");
        assert_eq!(number(exit, "process.pid"), Some(i64::from(pid)));
        assert_eq!(text(exit, "process.exit_signal.name"), "SIGKILL");
        assert_eq!(number(exit, "process.exit_signal.sender.pid"), Some(i64::from(std::process::id())));
        assert_eq!(text(exit, "process.exit_signal.sender.name"), own_name());
        let summary = text(incident.one("incident.open"), "incident.summary");
        assert!(summary.contains(&format!("from {} (pid {}", own_name(), std::process::id())), "{summary}");
        incident.one("restart.request");
        incident.one("restart.done");
        steps.push(["detected", "acted", "listening", "healthy"].map(|step| incident.millis(step)));
    }
    let step = |at: usize| median(steps.iter().map(|steps| steps[at]).collect());
    let (detected, acted, listening, recovered) = (step(0), step(1), step(2), step(3));
    let cold = median(cold);
    println!(
        "cold start {cold:.1} ms; after SIGKILL: detected {detected:.1} ms, restart issued {acted:.1} ms, listening \
         {listening:.1} ms, healthy {recovered:.1} ms (medians of 20)"
    );
    assert!(recovered - cold <= 20.0, "recovery {recovered:.1} ms, cold start {cold:.1} ms");
}

/// The time from the start of the victim to its first answer, in milliseconds.
fn cold_start() -> f64 {
    let port = free_port();
    let begun = Instant::now();
    let mut victim = Command::new(Victim::program())
        .args(["--port", &port.to_string()])
        .stdout(Stdio::null())
        .spawn()
        .expect("the victim starts");
    while !matches!(http::get(port, "/health"), Ok((200, _))) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the victim does not answer");
        std::thread::yield_now();
    }
    let took = begun.elapsed();
    victim.kill().expect("it lives");
    victim.wait().expect("it is our child");
    took.as_secs_f64() * 1000.0
}
