//! From a hang to "healthy again": the process lives, and no event says that it hangs.

use std::{collections::BTreeMap, rc::Rc, thread, time::Duration};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{
    outage::{Blow, PATIENCE, cold_start, nanoseconds, outage, phase},
    peers::monit,
    section::{Effort, Row, Section, Unit},
};
use crate::{
    daemon::Daemon,
    http::{self, free_port},
    incident_events::{IncidentEvents, wait_until_healthy},
    process::until,
    victim::Victim,
};

/// After a restart failures of a probe do not count for this long, in hostprobe's configuration.
const GRACE: Duration = Duration::from_secs(1);

/// The probes of hostprobe's two services.
const TIMES: [Times; 2] = [
    Times { subject: "hostprobe, probe every 1 s, timeout 1 s", service: "second", each: SECOND, mark: "1s" },
    Times { subject: "hostprobe, both 200 ms", service: "quick", each: FIFTH, mark: "200ms" },
];
const SECOND: Duration = Duration::from_secs(1);
const FIFTH: Duration = Duration::from_millis(200);

const MONIT: &str = "Monit, every 1 s, timeout 1 s";
const KUBELET: &str = "kubelet (by its defaults)";

/// A probe's interval, which is its timeout as well.
struct Times {
    subject: &'static str,
    service: &'static str,
    each: Duration,
    /// The same as in a configuration.
    mark: &'static str,
}

/// A service that one of the supervisors probes and restarts.
struct SupervisedService {
    supervisor: &'static str,
    port: u16,
    /// How often it is probed.
    every: Duration,
    /// Waits until its supervisor has noticed the recovery.
    settle: Box<dyn FnMut() -> Result<()>>,
}

impl SupervisedService {
    /// One fault; how long it was away, in nanoseconds.
    fn suffer(&mut self, blow: Blow, round: usize) -> Result<f64> {
        thread::sleep(GRACE + phase(round, self.every));
        let away = outage(self.port, blow).with_context(|| format!("{blow:?} under {}", self.supervisor))?;
        (self.settle)()?;
        Ok(nanoseconds(away))
    }
}

/// Samples by their subject, one a round.
type Samples = BTreeMap<&'static str, Vec<f64>>;

pub fn measure(effort: Effort) -> Result<Section> {
    let rounds = effort.pick(9, 1);
    let mut services = by_hostprobe()?;
    let port = free_port();
    let peer = Rc::new(monit::SupervisedVictim::start(port, true)?);
    services.push(by_monit(port, &peer));
    let mut unmeasured = vec!["A kubelet: its figures are calculated.".to_owned()];
    let (mut hung, mut stopped, mut cold) = (Samples::new(), Samples::new(), Vec::new());
    for round in 0..=rounds {
        let started = nanoseconds(cold_start()?);
        let mut sample = Vec::new();
        let mut failed = None;
        for (at, service) in services.iter_mut().enumerate() {
            for blow in [Blow::Hang, Blow::Stop] {
                match service.suffer(blow, round) {
                    Ok(away) => sample.push((blow, service.supervisor, away)),
                    Err(error) if service.supervisor == MONIT => failed = Some((at, error)),
                    Err(error) => return Err(error),
                }
            }
        }
        // What a peer does not mend is no reason to say nothing of the others.
        if let Some((at, error)) = failed {
            let log = peer.monit.log();
            let last = log[log.len().saturating_sub(8)..].join("; ");
            unmeasured.push(format!("{MONIT}, from round {round} on: {error:#}. Its log ends: {last}"));
            services.remove(at);
        }
        // The first round does not count.
        if round > 0 {
            cold.push(started);
            for (blow, subject, away) in sample {
                let samples = if blow == Blow::Hang { &mut hung } else { &mut stopped };
                samples.entry(subject).or_default().push(away);
            }
        }
    }
    Ok(Section {
        name: "hang".to_owned(),
        title: "From a hang to healthy again".to_owned(),
        method: "The same HTTP service stops answering while its process lives: it accepts connections and is silent, \
                 or gets SIGSTOP. Taken is the time until another process of it answers /health with 200, asked for \
                 without pause. Each round meets each supervisor's service with both, at another point of its probes' \
                 interval every time. One daemon keeps two services in its own supervisor, probed every second with \
                 a timeout of one second, and with 200 ms for both; all else as by default but grace = \"1s\", so \
                 that rounds can follow one another. It writes a snapshot of the process before it restarts it. Monit \
                 looks every second and restarts at the first answer that takes more than a second; its stop \
                 command is SIGKILL, its grace after a start 2 s. kubelet's figures are arithmetic from its defaults, the best case, the middle \
                 and the worst: periodSeconds 10, so the first failing probe begins 0, 5 or 10 s after the hang; \
                 failureThreshold 3 has the third begin 20 s later, timeoutSeconds 1 ends it. \
                 A process that ends at SIGTERM is then gone at once; a stopped one hears nothing before \
                 terminationGracePeriodSeconds, 30 s, are over. The cold start is added. systemd and supervisord see \
                 no hangs."
            .to_owned(),
        rows: rows(&hung, &stopped, &cold),
        further: String::new(),
        unmeasured,
    })
}

fn by_hostprobe() -> Result<Vec<SupervisedService>> {
    let folder = TempDir::new()?;
    let (program, directory) = (Victim::program(), folder.path().join("snapshots"));
    let (program, directory) = (program.display(), directory.display());
    let ports: Vec<u16> = TIMES.iter().map(|_| free_port()).collect();
    let mut config = format!(
        "[http]\nlisten = \"\"\n[snapshots]\ndirectory = \"{directory}\"\n[restart]\nbudget = \"1000 per 1h\"\n"
    );
    for (Times { service, mark, .. }, port) in TIMES.iter().zip(&ports) {
        config += &format!(
            r#"
            [[service]]
            name = "{service}"
            exec = ["{program}", "--port", "{port}"]
            output = "/dev/null"
            [[service.probe]]
            http = "http://127.0.0.1:{port}/health"
            interval = "{mark}"
            timeout = "{mark}"
            [service.restart]
            budget = "1000 per 1h"
            grace = "{grace}s"
            "#,
            grace = GRACE.as_secs(),
        );
    }
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    TIMES.iter().for_each(|times| wait_until_healthy(&daemon, times.service));
    // Both live as long as the last of the services.
    let shared = Rc::new((daemon, folder));
    let services = TIMES.iter().zip(ports).map(|(times, port)| {
        let (shared, mut mark) = (Rc::clone(&shared), shared.0.mark());
        let settle = move || {
            IncidentEvents::of(&shared.0, mark, times.service);
            mark = shared.0.mark();
            Ok(())
        };
        SupervisedService { supervisor: times.subject, port, every: times.each, settle: Box::new(settle) }
    });
    Ok(services.collect())
}

fn by_monit(port: u16, victim: &Rc<monit::SupervisedVictim>) -> SupervisedService {
    victim.until_noticed(0);
    // It says nothing of answers that are right; the service counts them.
    let settle = move || {
        let answered = || http::get(port, "/count").ok()?.1.parse::<u64>().ok();
        let before = answered().context("the victim counts its answers")?;
        until("Monit probes on", PATIENCE, || answered().filter(|&now| now >= before + 2));
        Ok(())
    };
    SupervisedService { supervisor: MONIT, port, every: SECOND, settle: Box::new(settle) }
}

fn rows(hung: &Samples, stopped: &Samples, cold: &[f64]) -> Vec<Row> {
    let mut sorted = cold.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let start = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let row = |figure: &str, samples: &Samples, kubelet: [f64; 3]| {
        let kubelet = kubelet.map(|seconds| seconds * 1e9 + start);
        let subjects = TIMES.iter().map(|times| times.subject).chain([MONIT]);
        let of = |subject: &str| samples.get(subject).map(Vec::as_slice).unwrap_or_default();
        let row = subjects.fold(Row::new(figure, Unit::Nanoseconds), |row, it| row.of(it, of(it)));
        row.of(KUBELET, &kubelet)
    };
    let mut silent = row("accepts, never answers → healthy again", hung, [21.0, 26.0, 31.0]);
    for times in &TIMES {
        // With the longer one there is time to prove the hang before a timeout.
        let (limit, words) = if times.each == SECOND {
            (1.2e9, "")
        } else {
            (2.0 * nanoseconds(times.each) + start, "2 timeouts + cold start, ")
        };
        if let Some(reached) = silent.summary(times.subject).map(|summary| summary.median) {
            let (wanted, shown) = (Unit::Nanoseconds.show(limit), Unit::Nanoseconds.show(reached));
            let wanted = format!("with {}: median ≤ {words}{wanted}", times.mark);
            silent = silent.target(&wanted, shown, reached <= limit);
        }
    }
    silent = silent.note(
        "A process that is silent is found by its probe alone: the phase of the interval, then what the probe waits, then the \
         snapshot and the start. The victim is proved to be stuck: each thread waits for another one. With a timeout of 1 s that is \
         proved before the timeout. The second attempt begins a quarter of a timeout after the first, and the proof takes 310 ms from \
         then on. With a timeout of 200 ms two timeouts count, of which the second attempt's ends a quarter later; the first sample is \
         taken while the attempts still wait, and the second one 100 ms later. On a pressed host (PSI) attempts side by side \
         count as one, and it takes as long as with one after another. Monit acts on the first.",
    );
    let stopped = row("SIGSTOP → healthy again", stopped, [51.0, 56.0, 61.0])
        .at_most("", nanoseconds(SECOND), |summary| summary.max)
        .note(
            "The kernel reports the stop to hostprobe, which checks for 400 ms whether the process stays stopped, since \
             debuggers and snapshots stop one for less, and waits for no probe.",
        );
    vec![silent, stopped]
}
