//! A service that serves HTTP dies in every way there is; the stream tells the whole story, down to "healthy
//! again".

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::{Daemon, field},
    http::{self, free_port},
    memcg::MemoryCgroup,
    parts::require_root,
    story::{Story, is, median, number, text},
    victim::Victim,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use serde_json::Value;
use tempfile::TempDir;

/// The victim under the built-in supervisor, probed every ten seconds.
struct Lab {
    daemon: Daemon,
    port: u16,
    _folder: TempDir,
}

impl Lab {
    fn start() -> Option<Self> {
        if !require_root() {
            return None;
        }
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A core dump is part of some faults; it goes to the service's folder.
        let unlimited = Rlimit { current: None, maximum: None };
        setrlimit(Resource::Core, unlimited).expect("root may raise its limits");
        let daemon = Daemon::start(
            &format!(
                r#"
                [http]
                listen = ""
                [[service]]
                name = "api"
                exec = ["{program}", "--port", "{port}"]
                directory = "{folder}"
                output = "{folder}/output"
                [[service.probe]]
                http = "http://127.0.0.1:{port}/health"
                [service.restart]
                budget = "1000 per 1h"
                "#,
                program = Victim::program().display(),
                folder = folder.path().display(),
            ),
            &[],
        );
        daemon.ready();
        let lab = Self { daemon, port, _folder: folder };
        lab.daemon.wait_for(
            |event| is(event, "service.state", "api") && text(event, "service.state") == "healthy",
            Duration::from_secs(30),
        );
        Some(lab)
    }

    /// The service's main process, by the latest listener.
    fn main_pid(&self) -> u32 {
        let events = self.daemon.events();
        let latest = events.iter().rev().find(|event| is(event, "listener.up", "api"));
        let pid = latest.and_then(|event| number(event, "process.pid")).expect("it listens");
        u32::try_from(pid).expect("a pid")
    }

    /// Lets the fault happen, and waits until the service is well again.
    #[track_caller]
    fn heal(&self, fault: impl FnOnce()) -> Story {
        let mark = self.daemon.mark();
        fault();
        Story::of(&self.daemon, mark, "api")
    }

    #[track_caller]
    fn hit(&self, path: &str) -> Story {
        self.heal(|| {
            // The fault may cut the answer short.
            let _ = http::get(self.port, path);
        })
    }

    fn kill(&self, signal: Signal) {
        let pid = Pid::from_raw(self.main_pid().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("it lives");
    }
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

fn own_name() -> String {
    std::fs::read_to_string("/proc/self/comm").expect("the test has a name").trim().to_owned()
}

#[test]
fn twenty_kills_are_twenty_stories_and_recovery_costs_little_more_than_a_cold_start() {
    let Some(lab) = Lab::start() else { return };
    let (mut cold, mut recovered) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        cold.push(cold_start());
        let pid = lab.main_pid();
        let story = lab.heal(|| lab.kill(Signal::KILL));
        assert_eq!(story.verdict(), "killed");
        let exit = story.one("process.exit");
        assert_eq!(number(exit, "process.pid"), Some(i64::from(pid)));
        assert_eq!(text(exit, "process.exit_signal.name"), "SIGKILL");
        assert_eq!(number(exit, "process.exit_signal.sender.pid"), Some(i64::from(std::process::id())));
        assert_eq!(text(exit, "process.exit_signal.sender.name"), own_name());
        let summary = text(story.one("incident.open"), "incident.summary");
        assert!(summary.contains(&format!("from {} (pid {}", own_name(), std::process::id())), "{summary}");
        story.one("restart.request");
        story.one("restart.done");
        recovered.push(story.millis("healthy"));
    }
    let (cold, recovered) = (median(cold), median(recovered));
    println!("cold start {cold:.1} ms, recovery after SIGKILL {recovered:.1} ms (medians of 20)");
    assert!(recovered - cold <= 20.0, "recovery {recovered:.1} ms, cold start {cold:.1} ms");
}

#[test]
fn a_fault_of_its_own_is_a_crash_with_its_core_flag() {
    let Some(lab) = Lab::start() else { return };
    for (path, signal) in [("/segv", "SIGSEGV"), ("/abort", "SIGABRT")] {
        let story = lab.hit(path);
        assert_eq!(story.verdict(), "crashed");
        let exit = story.one("process.exit");
        assert_eq!(text(exit, "process.exit_signal.name"), signal);
        let core = field(exit, "process.exit_signal.core_dumped");
        assert_eq!(core.and_then(Value::as_bool), Some(true), "{exit:#}");
    }
}

#[test]
fn a_signal_of_a_fault_from_another_process_is_a_kill() {
    let Some(lab) = Lab::start() else { return };
    let story = lab.heal(|| lab.kill(Signal::ABORT));
    assert_eq!(story.verdict(), "killed");
    assert_eq!(text(story.one("process.exit"), "process.exit_signal.name"), "SIGABRT");
}

#[test]
fn an_exit_is_told_with_its_code_even_zero() {
    let Some(lab) = Lab::start() else { return };
    for code in [3, 0] {
        let story = lab.hit(&format!("/exit?code={code}"));
        assert_eq!(story.verdict(), "exited");
        assert_eq!(number(story.one("process.exit"), "process.exit_code"), Some(code));
    }
}

#[test]
fn the_status_is_the_process_s_whichever_thread_ends_last() {
    let Some(lab) = Lab::start() else { return };
    let story = lab.hit("/leader-exits");
    assert_eq!(story.verdict(), "exited");
    assert_eq!(number(story.one("process.exit"), "process.exit_code"), Some(9));

    // What wait(2) says of this case differs between kernels; the event must say the same.
    let mut alone = Victim::start();
    alone.hit("/sys-exit?code=5");
    let code = alone.wait().code().expect("it exits by itself");
    let story = lab.hit("/sys-exit?code=5");
    assert_eq!(story.verdict(), "exited");
    assert_eq!(number(story.one("process.exit"), "process.exit_code"), Some(i64::from(code)));
}

#[test]
fn an_oom_kill_is_told_with_victim_numbers_and_scope() {
    let Some(lab) = Lab::start() else { return };
    let limit = 30 << 20;
    let cgroup = MemoryCgroup::new(limit).expect("a memory cgroup");
    let pid = lab.main_pid();
    cgroup.add(pid).expect("it is moved");
    let story = lab.hit("/alloc?mb=100");
    assert_eq!(story.verdict(), "oom_killed");
    let kill = story.one("process.oom_kill");
    assert_eq!(number(kill, "process.pid"), Some(i64::from(pid)));
    assert_eq!(text(kill, "oom.scope"), "memcg");
    assert_eq!(number(kill, "oom.limit_bytes"), Some(limit.cast_signed()));
    let anon = number(kill, "oom.anon_bytes").expect("anonymous bytes");
    assert!((limit.cast_signed() / 2..=limit.cast_signed() + (1 << 20)).contains(&anon), "{anon}");
    let exit = story.one("process.exit");
    assert_eq!(field(exit, "process.oom"), Some(&true.into()));
    let evidence = field(story.one("incident.open"), "incident.evidence");
    for event in [kill, exit] {
        let id = field(event, "event.id").expect("an id");
        assert!(evidence.and_then(Value::as_array).is_some_and(|ids| ids.contains(id)), "{evidence:?}");
    }
}

#[test]
fn a_listener_closed_by_a_living_process_is_not_listening() {
    let Some(lab) = Lab::start() else { return };
    let story = lab.hit("/close");
    assert_eq!(story.verdict(), "not_listening");
    story.one("restart.done");
}
