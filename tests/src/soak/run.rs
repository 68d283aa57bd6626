//! A daemon with all its features, under processes, cgroups and sockets that come and go.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{
    INTERVAL, Mib,
    churn::Churn,
    maps::{self, BpfMap},
    sample::Sample,
};
use crate::{
    daemon::Daemon, features, lineage::Lineage, process::until, supervised::Supervised, victim::Victim,
};

/// Longest wait for the daemon to answer.
const READY: Duration = Duration::from_secs(30);

/// What went on, and what the daemon took meanwhile.
#[derive(Debug)]
pub struct Run {
    pub length: Duration,
    /// Before the churn began.
    pub first: Sample,
    /// Every ten seconds since.
    pub samples: Vec<Sample>,
    /// What has happened, and how often.
    pub counts: Vec<(&'static str, u64)>,
    pub maps: Vec<BpfMap>,
}

/// Runs for so long, and prints each look at the daemon. None if a part is not installed.
///
/// # Errors
/// If the daemon ends or its maps cannot be read.
pub fn run(length: Duration) -> Result<Option<Run>> {
    let folder = TempDir::new().context("no temporary folder can be made")?;
    let Some(set) = features::with(|_| true, folder.path()) else { return Ok(None) };
    let page = set.page().context("the configuration has a page")?;
    let lineage = Arc::new(Lineage::new());
    let (killed, quiet) = (Supervised::new(), Supervised::new());
    let _pool = lineage.start(&[]);
    let victim = Victim::program().display().to_string();
    let service = |service: &Supervised| {
        let port = service.port.to_string();
        format!(
            "{}[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\ninterval = \"1s\"\n",
            service.service(&[&victim, "--port", &port])
        )
    };
    let config = format!(
        "{features}[events]\noutput = {events:?}\noutput_max = \"1MiB\"\noutput_compress = true\n\
         [restart]\nbudget = \"100000 per 1h\"\n\
         [[hook]]\non = [\"incident.open\", \"restart.after\"]\ncommand = [\"/bin/true\"]\n\
         {killed_service}[service.restart]\nbudget = \"100000 per 1h\"\nbackoff = \"1ms..2ms\"\n{quiet_service}{pool}",
        features = set.config,
        events = folder.path().join("events.ndjson").display().to_string(),
        killed_service = service(&killed),
        quiet_service = service(&quiet),
        pool = lineage.service("pool", &format!("match = {{ port = {} }}", lineage.port)),
    );
    let mut daemon = Daemon::start_to_file(&config, &["--log", "error"]);
    let look = || Sample::take(daemon.pid(), page);
    let first = until("the daemon answers", READY, || look().filter(|it| !it.tables.is_empty()));
    println!("{:>6} {:>10} {:>5} {:>8}  tables", "s", "RSS", "fds", "threads");
    let churn = Churn::start(&lineage, killed.port);
    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        thread::park_timeout(INTERVAL);
        let sample = look().with_context(|| format!("the daemon is gone: {}", daemon.log()))?;
        let tables: Vec<String> =
            sample.tables.iter().map(|it| format!("{} {}", it.name, it.entries)).collect();
        let Sample { rss, fds, threads, .. } = &sample;
        let (at, rss) = (began.elapsed().as_secs(), Mib(*rss).to_string());
        println!("{at:>6} {rss:>10} {fds:>5} {threads:>8}  {}", tables.join(", "));
        samples.push(sample);
    }
    let maps = maps::of(daemon.pid()).context("the eBPF maps cannot be read")?;
    let counts = Arc::clone(&churn.counts);
    churn.stop();
    daemon.stop();
    let counts = [
        ("programs executed", &counts.execs),
        ("of them killed", &counts.deaths),
        ("children of a service", &counts.children),
        ("cgroups made and removed", &counts.cgroups),
        ("connections refused, listeners gone", &counts.sockets),
        ("main processes of a service killed", &counts.kills),
    ];
    let counts = counts.map(|(what, count)| (what, count.load(Ordering::Relaxed))).to_vec();
    Ok(Some(Run { length, first, samples, counts, maps }))
}
