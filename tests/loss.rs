//! Nothing is lost silently, and no flood of unwatched exits costs the record of a watched exit.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hostprobe::sensor::loss::LossClass;
use hostprobe_tests::{
    daemon::{Daemon, Mark, event_action},
    deaths::{Account, Deaths, reported_death},
    http,
    incident_events::{IncidentEvents, is, number, text},
    memcg::MemoryCgroup,
    parts::{available, require_root},
    process::stop,
    schema,
    storm::{Manner, Storm},
    supervised::Supervised,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// How long a storm lasts at least: longer than the second that a budget is for.
const STORM: Duration = Duration::from_secs(2);

/// How often the watched service is killed, at least.
const KILLS: usize = 20;

/// How many unwatched processes die while the daemon is stopped.
const UNWATCHED: usize = 2000;

/// A daemon with a service to watch, a storm of unwatched processes, and a count of all deaths.
struct Lab {
    deaths: Deaths,
    daemon: Daemon,
    service: Supervised,
    storm: Storm,
    _cgroup: MemoryCgroup,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// Starts all of it, with the unwatched processes waiting for the start signal; None, and a line with the reason, where that
    /// is impossible.
    fn start(kernel_options: &str, unwatched: impl FnOnce() -> Storm) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        if !require_root() {
            return None;
        }
        let cgroup = match MemoryCgroup::new(512 << 20) {
            Ok(cgroup) => cgroup,
            Err(error) => {
                available(false, &format!("a memory cgroup ({error})"));
                return None;
            }
        };
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (deaths, service) = (Deaths::new(), Supervised::new());
        let restart = "[service.restart]\nbudget = \"1000 per 1h\"\n[restart]\nbudget = \"1000 per 1h\"\n";
        let config = service.config(&format!("{restart}[kernel]\n{kernel_options}"));
        let daemon = Daemon::start(&config, &[]);
        service.until_healthy(&daemon);
        let storm = unwatched();
        cgroup.add(storm.process.pid()).expect("it can be moved");
        Some(Self { deaths, daemon, service, storm, _cgroup: cgroup, _alone: alone })
    }

    /// Starts the storm and kills the service again and again: each time that is seen, explained and
    /// healed. Returns how many children the storm had.
    fn kill_and_heal(&mut self) -> usize {
        self.storm.begin();
        let (began, mut kills) = (Instant::now(), 0);
        while kills < KILLS || began.elapsed() < STORM {
            kills += 1;
            let mark = self.daemon.mark();
            let pid = self.service.pid(&self.daemon);
            self.service.kill(&self.daemon);
            self.healed(mark, pid);
            self.deaths.read();
        }
        self.storm.stop() as usize
    }

    #[track_caller]
    fn healed(&self, mark: Mark, pid: u32) {
        let incident = IncidentEvents::of(&self.daemon, mark, &self.service.name);
        let deaths = incident.all("process.exit");
        let of_main = deaths.iter().filter(|event| number(event, "process.pid") == Some(pid.into()));
        assert_eq!(of_main.count(), 1, "{deaths:?}");
        assert_eq!(incident.verdict(), "killed");
        let summary = text(incident.one("incident.open"), "incident.summary");
        assert!(summary.contains(&format!("(pid {}, uid 0", std::process::id())), "{summary}");
        incident.one("restart.request");
        incident.one("restart.done");
    }

    /// Ends the daemon, after it has reported a last death; checks its stream and accounts for all of it.
    fn account(&mut self) -> (Vec<Value>, Account) {
        let mark = self.daemon.mark();
        let last = self.service.pid(&self.daemon);
        self.service.kill(&self.daemon);
        self.healed(mark, last);
        assert_eq!(self.daemon.stop().code(), Some(0));
        let events = self.daemon.events();
        schema::has_no_gap(&events);
        for loss in events.iter().filter(|event| event_action(event) == "stream.loss") {
            assert_eq!(text(loss, "event.kind"), "pipeline_error");
        }
        let account = self.deaths.account(&events, last);
        assert_eq!(account.lost.get("events"), None, "the stream itself has room for all of it");
        assert_eq!(account.lost.get(LossClass::ExitWatched.as_str()), None);
        account.adds_up();
        (events, account)
    }

    /// How many of the unwatched deaths were reported; the count beside the daemon saw each of them.
    fn reported_deaths(&mut self, events: &[Value], made: usize) -> usize {
        let died = self.deaths.of_children(self.storm.process.pid());
        assert_eq!(died.len(), made);
        events.iter().filter_map(reported_death).filter(|key| died.contains(key)).count()
    }
}

#[test]
fn a_storm_of_failing_unwatched_processes_is_not_reported_and_delays_nothing() {
    let Some(mut lab) = Lab::start("", || Storm::endless(Manner::Exit)) else { return };
    let made = lab.kill_and_heal();
    assert!(made > 1000, "{made} children are no storm");
    let (events, _) = lab.account();
    let storm = i64::from(lab.storm.process.pid());
    let reported = events.iter().filter(|event| number(event, "process.parent.pid") == Some(storm)).count();
    assert_eq!(reported, 0, "an unwatched failure concerns its parent only");
    assert_eq!(lab.deaths.of_children(lab.storm.process.pid()).len(), 0);
}

#[test]
fn a_storm_of_killed_unwatched_processes_is_throttled_and_counted_and_delays_nothing() {
    let Some(mut lab) = Lab::start("", || Storm::endless(Manner::Signals)) else { return };
    let made = lab.kill_and_heal();
    assert!(made > 1000, "{made} children are no storm");
    let (events, account) = lab.account();
    let reported = lab.reported_deaths(&events, made);
    let throttled = account.lost_of(LossClass::ExitThrottled);
    println!("{made} unwatched processes died: {reported} reported; lost {:?}", account.lost);
    assert!(reported > 50, "{reported} are not more than one second's budget");
    assert!(
        throttled >= (made - reported) as u64,
        "{made} died, {reported} were reported, {throttled} counted"
    );
}

#[test]
fn while_the_daemon_is_stopped_watched_exits_are_kept_and_the_others_are_counted() {
    let options = "urgent_ring = \"64KiB\"\nunwatched_exits_per_second = 1000000\n";
    let Some(mut lab) = Lab::start(options, || Storm::of(Manner::Signals, UNWATCHED as u64)) else { return };
    let (mark, main) = (lab.daemon.mark(), lab.service.pid(&lab.daemon));
    stop(lab.daemon.pid());
    lab.storm.begin();
    assert_eq!(lab.storm.process.wait(LONG).code(), Some(0));
    assert_eq!(lab.storm.made(), UNWATCHED as u64);
    for _ in 0..KILLS {
        assert_eq!(http::get(lab.service.port, "/fork-child-crash").expect("an answer").0, 200);
    }
    // The crash follows the answer.
    while lab.deaths.of_children(main).len() < KILLS {}
    lab.service.kill(&lab.daemon);
    lab.daemon.signal(Signal::CONT);
    lab.healed(mark, main);

    let (events, account) = lab.account();
    let of_service = |event: &&Value| is(event, "process.exit", &lab.service.name);
    let crashed = |event: &&Value| number(event, "process.parent.pid") == Some(main.into());
    assert_eq!(events.iter().filter(of_service).filter(crashed).count(), KILLS);
    let reported = lab.reported_deaths(&events, UNWATCHED);
    let lost = account.lost_of(LossClass::ExitUnwatched);
    println!("{UNWATCHED} unwatched processes died: {reported} reported; lost {:?}", account.lost);
    assert!(
        reported > 0 && lost >= (UNWATCHED - reported) as u64,
        "{UNWATCHED} died, {reported} were reported, {lost} counted"
    );
}
