//! The verdict on failed probes of a service that has not died.

use std::time::Duration;

use super::{
    Finding, Remedy,
    standstill::{is_kept, of_standstill},
};
use crate::{
    clock::Timestamp,
    engine::{
        EarlySample,
        rules::{self, Mend, Obstacle, Origin},
    },
    fact::{DNS_PORT, Examination, ProbeFailure, Verdict},
};

/// The evidence when a row of failures counts.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// Why the latest probe failed.
    pub failure: ProbeFailure,
    /// The failure for people.
    pub detail: &'a str,
    /// The number of failures in a row.
    pub failures: u32,
    /// Its main process is known to live.
    pub alive: bool,
    /// The service is on another host.
    pub remote: bool,
    /// The TCP port that the probe connects to.
    pub port: Option<u16>,
    /// The server has one event loop, which carries out each command to its end.
    pub has_one_loop: bool,
    /// The port refuses the probe although the service listens on it.
    pub listens: bool,
    /// The probe has been answered, or the port been open, since the configuration was loaded.
    pub proved: bool,
    pub examination: Option<&'a Examination>,
    /// Failures of its connections to other hosts, for people.
    pub network: Option<&'a str>,
    /// Failures of its connections to what hostprobe does not watch on this host, for people.
    pub backend: Option<&'a str>,
    /// What the host is short of, for people.
    pub pressed: Option<&'a str>,
    /// How late hostprobe itself is, for people: it may take an answer in time for a timeout.
    pub late: Option<&'a str>,
    /// The number of services that time out together, for people.
    pub together: Option<&'a str>,
}

/// The verdict on a row of failures, and its remedy.
pub fn of_failures(circumstances: &Circumstances<'_>) -> (Finding, Remedy) {
    let Circumstances { failure, detail, failures, alive, remote, .. } = *circumstances;
    let times = if failures == 1 { "once".to_owned() } else { format!("{failures} times in a row") };
    let failed = format!("its probe failed {times}: {detail}");
    if let Some((obstacle, evidence)) = obstacle(circumstances) {
        let rule = rules::of_obstacle(obstacle);
        let finding = Finding::new(rule.verdict, rule.confidence, format!("{evidence}; {failed}"));
        let reason = rule.reason.to_owned();
        let ends_by_itself = obstacle == Obstacle::CoreDump;
        return (finding, if ends_by_itself { Remedy::Await(reason) } else { Remedy::Hold(reason) });
    }
    let rule = rules::of_failure(failure);
    if rule.mend == Mend::Restart && !is_proved(circumstances) {
        let port = circumstances.port.filter(|_| failure == ProbeFailure::Refused);
        let (why, reason) = if failure == ProbeFailure::PluginCritical {
            ("this check has never succeeded, so see whether its command is right", rules::NEVER_WELL)
        } else if matches!(failure, ProbeFailure::Status | ProbeFailure::Body) {
            (
                "no answer to this probe was ever right, so check what it asks for and expects",
                rules::NEVER_RIGHT,
            )
        } else {
            ("it has never answered this probe, so check its address and its protocol", rules::UNANSWERED)
        };
        let why = port.map_or_else(
            || why.to_owned(),
            |port| format!("nothing of this service ever listened on port {port}, so check the address"),
        );
        let finding = Finding::new(Verdict::Unhealthy, 0.6, format!("{why}; {failed}"));
        return (finding, Remedy::Hold(reason.to_owned()));
    }
    let verdict = match (remote, alive) {
        (true, _) => rule.remote,
        (false, true) => rule.alive,
        (false, false) => rule.unknown,
    };
    let (confidence, summary) = if verdict == Verdict::Hung {
        let (confidence, evidence) = circumstances.examination.map_or((0.6, String::new()), hang);
        (confidence, format!("its process lives and does not answer{evidence}; {failed}"))
    } else if verdict == Verdict::NotListening {
        (0.8, format!("its process lives, but its probe was refused {times}: {detail}"))
    } else if verdict == Verdict::Unhealthy {
        (0.6, failed)
    } else if verdict == Verdict::Network {
        (0.8, failed)
    } else {
        (0.9, failed)
    };
    let reason = rule.reason.to_owned();
    let remedy = match rule.mend {
        _ if verdict == Verdict::Network => {
            Remedy::Hold(rules::of_failure(ProbeFailure::Unreachable).reason.to_owned())
        }
        Mend::Restart => Remedy::Restart,
        Mend::Hold => Remedy::Hold(reason),
        Mend::Nothing => Remedy::Nothing,
    };
    (Finding::new(verdict, confidence, summary), remedy)
}

/// Whether the failure is the service's: its probe was right once, or its processes are seen not to do their work.
fn is_proved(circumstances: &Circumstances<'_>) -> bool {
    let seen = circumstances.examination.filter(|_| circumstances.failure.is_timeout());
    let is_at_fault = seen.is_some_and(|seen| {
        let waits_for_ever = seen.uninterruptible > 0 && !seen.progressed();
        let does_not_accept = seen.queue.is_some_and(|queue| queue.waiting > 0);
        seen.is_stuck() || waits_for_ever || does_not_accept
    });
    circumstances.proved || circumstances.remote || is_at_fault
}

/// What keeps the service from answering without a fault of its own, and the evidence for people.
fn obstacle(circumstances: &Circumstances<'_>) -> Option<(Obstacle, String)> {
    let Circumstances { failure, alive, remote, port, examination, network, .. } = *circumstances;
    let timed_out = failure.is_timeout();
    if timed_out
        && alive
        && let Some(kept) = examination.and_then(of_standstill)
    {
        return Some(kept);
    }
    // What hostprobe cannot see in time is no one's fault. Threads that wait for each other were seen.
    if timed_out
        && let Some(late) = circumstances.late
        && !examination.is_some_and(Examination::is_stuck)
    {
        return Some((Obstacle::Overload, late.to_owned()));
    }
    // What its connections show explains more than how many services are silent.
    if timed_out
        && !remote
        && let Some(server) = examination.filter(|seen| !seen.is_stuck()).and_then(|seen| seen.awaits)
    {
        let dns = if server.port() == DNS_PORT { "the DNS server " } else { "" };
        return Some((Obstacle::Backend, format!("it waits for {dns}{server}, which does not answer it")));
    }
    if timed_out
        && alive
        && let Some(path) = examination.and_then(|seen| seen.writes.as_ref())
    {
        return Some((Obstacle::Writing, format!("it does not answer while it writes {path}")));
    }
    if timed_out
        && alive
        && let Some(pid) = examination.and_then(|seen| seen.locked_out)
    {
        let words = format!("the login at its process {pid} waits for a lock, which another session holds");
        return Some((Obstacle::LockedOut, words));
    }
    let keeps_back =
        |seen: &Examination| circumstances.has_one_loop && seen.waits_for_events && seen.progressed();
    if failure == ProbeFailure::Timeout && alive && examination.is_some_and(keeps_back) {
        let words = "its event loop runs and has nothing to do, so it keeps its answers back, as `CLIENT PAUSE` has it do";
        return Some((Obstacle::KeptBack, words.to_owned()));
    }
    if timed_out && let Some(why) = overload(circumstances) {
        return Some((Obstacle::Overload, why));
    }
    let elsewhere = rules::of_failure(failure).origin == Origin::OrElsewhere;
    if let Some(why) = network.filter(|_| elsewhere && !remote) {
        return Some((Obstacle::Network, why.to_owned()));
    }
    let is_stuck = examination.is_some_and(Examination::is_stuck);
    // A server that says itself what is behind it says more than its socket does.
    let could_restart = rules::of_failure(failure).mend != Mend::Hold;
    if let Some(why) = circumstances.backend.filter(|_| elsewhere && could_restart && !remote && !is_stuck) {
        return Some((Obstacle::Backend, why.to_owned()));
    }
    if let Some(port) = port.filter(|_| circumstances.listens) {
        let why = format!(
            "port {port} refuses the probe although the service listens on it: a firewall rejects the connections, or \
             the probe's address leads elsewhere"
        );
        return Some((Obstacle::Filter, why));
    }
    let has_room = examination.is_some_and(Examination::has_room);
    if let Some(port) =
        port.filter(|_| failure == ProbeFailure::ConnectTimeout && alive && !remote && has_room)
    {
        let why = format!(
            "packets to port {port} are dropped on the way, as by a firewall: its accept queue has room, so that the \
             kernel would answer"
        );
        return Some((Obstacle::Filter, why));
    }
    None
}

/// Why a timeout is not the service's own fault, if so.
///
/// The waits of the service's own threads count more than the host's load: a busy host does not keep a sleeping
/// service from answering.
fn overload(circumstances: &Circumstances<'_>) -> Option<String> {
    if let Some(together) = circumstances.together {
        return Some(together.to_owned());
    }
    let Some(examination) = circumstances.examination else {
        return circumstances.pressed.map(str::to_owned);
    };
    if let Some(share) = starved(examination) {
        return Some(format!(
            "its threads were ready to run and had no CPU {:.0} % of the time",
            share * 100.0
        ));
    }
    (examination.uninterruptible > 0).then_some(circumstances.pressed?.to_owned())
}

/// The share of the time that threads waited for a CPU, if that was most of the time and longer than they ran.
fn starved(examination: &Examination) -> Option<f64> {
    if examination.starving > 0 {
        return Some(1.0);
    }
    let share = examination.run_delay.as_secs_f64() / examination.over.as_secs_f64().max(0.001);
    let pressed = examination.cgroup_pressure.filter(|&pressure| pressure >= 0.75);
    let delayed = share >= 0.5 && examination.run_delay > examination.cpu;
    if delayed { Some(share.min(1.0)) } else { pressed }
}

/// The confidence in a hang after an examination, and the evidence for people.
fn hang(examination: &Examination) -> (f32, String) {
    let queue = examination.queue.filter(|queue| queue.waiting > 0).map_or_else(String::new, |queue| {
        format!(", {} connections wait to be accepted on port {}", queue.waiting, queue.port)
    });
    let over = examination.over.as_millis();
    if examination.uninterruptible > 0 && !examination.progressed() {
        let channel = examination.wait_channel.as_deref().unwrap_or("the kernel");
        let threads = examination.uninterruptible;
        return (
            0.95,
            format!(": {threads} of its threads wait in {channel} and cannot be interrupted{queue}"),
        );
    }
    if examination.is_stuck() {
        return (0.95, format!(": each of its threads waits for another one{queue}"));
    }
    if !examination.progressed() {
        return (0.85, format!(": none of its threads ran within {over} ms{queue}"));
    }
    (0.7, queue)
}

/// How many failures in a row count after an examination, if it takes so many without one.
///
/// A process that can do nothing more by itself needs fewer, and still fewer if more and more clients wait. One that
/// serves other clients, as a pool whose workers are all busy, gets twice the time: a restart would end what it works on.
pub fn failures_needed(failures: u32, examination: Option<&Examination>) -> u32 {
    match examination {
        Some(seen) if is_kept(seen) => failures,
        Some(seen) if seen.is_stuck() && seen.queue_grows() && !seen.ahead => 1,
        Some(seen) if seen.is_stuck() => failures.min(2),
        Some(seen) if seen.is_busy() => failures.saturating_mul(2),
        Some(_) | None => failures,
    }
}

/// The early sample that may serve as the first of an examination. A probe with this timeout waited from `begun` to
/// `ended`.
///
/// The two samples are half a timeout apart, so that the examination is ready when the next attempt times out. They
/// are at least the quota period of a cgroup apart, so that a cgroup that waits for its quota shows. A much older
/// sample belongs to another probe's timeout, and spans what came after it.
pub fn early_sample(timeout: Duration, begun: Timestamp, ended: Timestamp) -> EarlySample {
    let over = (timeout / 2).clamp(QUOTA_PERIOD, Examination::OVER);
    let oldest = ended.as_nanos().saturating_sub(2 * over.as_nanos() as u64);
    EarlySample { since: begun.max(Timestamp::from_nanos(oldest)), over }
}

/// The kernel's default: `cpu.max` in Documentation/admin-guide/cgroup-v2.rst.
const QUOTA_PERIOD: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{
        AcceptQueue,
        ProbeFailure::{Auth, Body, ConnectTimeout, Protocol, Refused, Reset, Status, Timeout, Upstream},
        Source,
    };

    fn alive(failure: ProbeFailure) -> Circumstances<'static> {
        Circumstances {
            failure,
            detail: "no answer",
            failures: 3,
            alive: true,
            remote: false,
            port: Some(8080),
            has_one_loop: false,
            listens: false,
            proved: true,
            examination: None,
            network: None,
            backend: None,
            pressed: None,
            late: None,
            together: None,
        }
    }

    fn verdict(circumstances: &Circumstances<'_>) -> Verdict {
        of_failures(circumstances).0.verdict
    }

    fn examined(cpu: u64, run_delay: u64) -> Examination {
        Examination {
            over: Duration::from_millis(200),
            cpu: Duration::from_millis(cpu),
            run_delay: Duration::from_millis(run_delay),
            switches: 1,
            ..Examination::default()
        }
    }

    #[test]
    fn a_living_process_that_does_not_answer_is_hung() {
        assert_eq!(verdict(&alive(Timeout)), Verdict::Hung);
        assert_eq!(verdict(&alive(ConnectTimeout)), Verdict::Hung);
        assert_eq!(verdict(&alive(Refused)), Verdict::NotListening);
        assert_eq!(verdict(&Circumstances { alive: false, ..alive(Timeout) }), Verdict::Unhealthy);
        assert!(matches!(of_failures(&alive(Auth)).1, Remedy::Hold(_)));
    }

    #[test]
    fn a_server_whose_only_loop_is_idle_keeps_its_answers_back() {
        let idle = Examination { waits_for_events: true, ..examined(1, 0) };
        let paused = Circumstances { has_one_loop: true, examination: Some(&idle), ..alive(Timeout) };
        let (finding, remedy) = of_failures(&paused);
        assert_eq!((finding.verdict, matches!(remedy, Remedy::Hold(_))), (Verdict::Paused, true));
        let stands = Examination { switches: 0, cpu: Duration::ZERO, ..idle.clone() };
        assert_eq!(verdict(&Circumstances { examination: Some(&stands), ..paused }), Verdict::Hung);
        let computes = Examination { waits_for_events: false, ..idle.clone() };
        assert_eq!(verdict(&Circumstances { examination: Some(&computes), ..paused }), Verdict::Hung);
        let other = Circumstances { has_one_loop: false, ..paused };
        assert_eq!(verdict(&other), Verdict::Hung, "its loop may have lost the request");
        let full = Circumstances { failure: ConnectTimeout, ..paused };
        assert_eq!(verdict(&full), Verdict::Hung, "its loop would have accepted the connection");
    }

    #[test]
    fn a_timeout_under_load_counts_by_the_services_own_waits() {
        let pressed = Circumstances { pressed: Some("tasks wait for a CPU"), ..alive(Timeout) };
        assert_eq!(verdict(&pressed), Verdict::Overloaded);
        let (asleep, starved, busy) = (examined(0, 1), examined(20, 170), examined(190, 150));
        let seen = |examination| Circumstances { examination: Some(examination), ..pressed };
        assert_eq!(verdict(&seen(&asleep)), Verdict::Hung, "it was not kept from answering");
        assert_eq!(verdict(&seen(&starved)), Verdict::Overloaded);
        assert_eq!(verdict(&seen(&busy)), Verdict::Hung, "it had what it needs");
        let waits = Examination { starving: 1, switches: 0, ..examined(0, 0) };
        let calm = Circumstances { pressed: None, ..seen(&waits) };
        assert_eq!(verdict(&calm), Verdict::Overloaded, "a wait counts only once it is over");
        let answered = Circumstances { failure: Status, ..pressed };
        assert_eq!(verdict(&answered), Verdict::Unhealthy, "it answered in time");
        let together = Circumstances { together: Some("3 of 4"), ..seen(&asleep) };
        assert_eq!(verdict(&together), Verdict::Overloaded);
    }

    #[test]
    fn a_daemon_that_is_late_itself_blames_no_service_for_a_timeout() {
        let asleep = Examination { waits_for_events: true, ..examined(0, 1) };
        let late = Circumstances { late: Some("3000 ms late"), examination: Some(&asleep), ..alive(Timeout) };
        assert_eq!(verdict(&late), Verdict::Overloaded);
        assert_eq!(verdict(&Circumstances { has_one_loop: true, ..late }), Verdict::Overloaded);
        assert_eq!(verdict(&Circumstances { remote: true, alive: false, ..late }), Verdict::Overloaded);
        let answered = Circumstances { failure: Status, ..late };
        assert_eq!(verdict(&answered), Verdict::Unhealthy, "an answer is an answer, however late it is read");
        let stuck = Examination { locked: true, abandoned: 1, ..Examination::default() };
        let stuck = Circumstances { examination: Some(&stuck), ..late };
        assert_eq!(verdict(&stuck), Verdict::Hung, "that was seen");
    }

    #[test]
    fn samples_are_half_a_timeout_apart_and_at_least_a_quota_period() {
        let (begun, millis) = (Timestamp::from_nanos(1_000_000_000), Duration::from_millis);
        let sample = |timeout| early_sample(millis(timeout), begun, begun.plus(millis(timeout)));
        assert_eq!(
            [50, 200, 300, 400, 5000].map(|timeout| sample(timeout).over.as_millis()),
            [100, 100, 150, 200, 200]
        );
        assert_eq!(sample(200).since, begun);
        assert_eq!(
            sample(5000).since,
            begun.plus(millis(4600)),
            "an older sample belongs to another probe's timeout"
        );
    }

    #[test]
    fn a_network_that_does_not_answer_is_not_mended_by_a_restart() {
        let remote = Circumstances { alive: false, remote: true, ..alive(ConnectTimeout) };
        assert_eq!(verdict(&remote), Verdict::Network);
        let local = Circumstances { network: Some("192.0.2.7:443 does not answer"), ..alive(Status) };
        let (finding, remedy) = of_failures(&local);
        assert_eq!(finding.verdict, Verdict::Network);
        assert!(matches!(remedy, Remedy::Hold(_)));
        assert_eq!(verdict(&Circumstances { failure: Refused, ..local }), Verdict::NotListening);
    }

    #[test]
    fn a_service_is_not_blamed_for_what_it_connects_to() {
        let refused = Some("its connection to 127.0.0.1:5432 failed with ECONNREFUSED");
        for failure in [Status, Reset, Timeout] {
            let (finding, remedy) = of_failures(&Circumstances { backend: refused, ..alive(failure) });
            assert_eq!(finding.verdict, Verdict::Unhealthy);
            assert!(finding.summary.to_string().contains("127.0.0.1:5432"), "{failure:?}");
            assert!(matches!(remedy, Remedy::Hold(_)), "{failure:?}");
        }
        let said = of_failures(&Circumstances { backend: refused, ..alive(Upstream) }).1;
        assert_eq!(said, Remedy::Hold(rules::of_failure(Upstream).reason.into()), "it says so itself");
        let gone = Circumstances { backend: refused, ..alive(Refused) };
        assert_eq!(of_failures(&gone).1, Remedy::Restart, "nothing listens");
        let stuck = Examination { locked: true, abandoned: 1, ..Examination::default() };
        let stuck = Circumstances { backend: refused, examination: Some(&stuck), ..alive(Timeout) };
        assert_eq!(verdict(&stuck), Verdict::Hung);
    }

    #[test]
    fn what_writes_its_data_is_held_and_a_log_is_none() {
        let writes = Examination { writes: Some("/data/temp-7.rdb".to_owned()), ..examined(150, 0) };
        for failure in [Timeout, ConnectTimeout] {
            let seen = Circumstances { examination: Some(&writes), ..alive(failure) };
            let (finding, remedy) = of_failures(&seen);
            assert_eq!(remedy, Remedy::Hold("a restart would cut off what it writes".to_owned()));
            let words = finding.summary.to_string();
            assert!(words.contains("does not answer while it writes /data/temp-7.rdb"), "{words}");
        }
        let refused = Circumstances { examination: Some(&writes), ..alive(Refused) };
        assert_eq!(of_failures(&refused).1, Remedy::Restart);
    }

    #[test]
    fn a_login_that_waits_for_a_lock_is_no_hang() {
        let locked = Examination { locked_out: Some(77), ..examined(0, 0) };
        let (finding, remedy) = of_failures(&Circumstances { examination: Some(&locked), ..alive(Timeout) });
        assert_eq!(finding.verdict, Verdict::Unhealthy);
        assert!(matches!(remedy, Remedy::Hold(_)), "{remedy:?}");
        assert!(finding.summary.to_string().contains("process 77"), "{}", finding.summary);
        let refused = Circumstances { examination: Some(&locked), ..alive(Refused) };
        assert_eq!(of_failures(&refused).1, Remedy::Restart);
    }

    #[test]
    fn a_refusal_while_it_listens_is_a_network_fault() {
        let (finding, remedy) = of_failures(&Circumstances { listens: true, ..alive(Refused) });
        assert_eq!(finding.verdict, Verdict::Network);
        assert!(matches!(remedy, Remedy::Hold(_)));
    }

    #[test]
    fn a_probe_that_was_never_answered_may_be_wrong_itself() {
        let unanswered =
            [Refused, Reset, Protocol, Timeout, ConnectTimeout].map(|it| (it, rules::UNANSWERED));
        let never_right = [Status, Body].map(|it| (it, rules::NEVER_RIGHT));
        for (failure, reason) in unanswered.into_iter().chain(never_right) {
            let new = Circumstances { proved: false, ..alive(failure) };
            let (finding, remedy) = of_failures(&new);
            assert_eq!((finding.verdict, remedy), (Verdict::Unhealthy, Remedy::Hold(reason.into())));
            assert!(matches!(of_failures(&alive(failure)).1, Remedy::Restart), "{failure:?}");
        }
        let new = Circumstances { proved: false, ..alive(Timeout) };
        let queue = AcceptQueue {
            at: Timestamp::default(),
            source: Source::Proc,
            address: [127, 0, 0, 1].into(),
            port: 8080,
            waiting: 1,
            backlog: 128,
        };
        let waits = Examination { queue: Some(queue), ..examined(0, 0) };
        assert_eq!(verdict(&Circumstances { examination: Some(&waits), ..new }), Verdict::Hung);
        let idle = examined(0, 0);
        assert_eq!(verdict(&Circumstances { examination: Some(&idle), ..new }), Verdict::Unhealthy);
    }
}
