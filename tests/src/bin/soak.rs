//! Runs a daemon under processes that come and go, and says whether its memory stays what it was.
//!
//! `soak [--minutes N]`, 15 unless said otherwise. Exit status: 0 if memory, descriptors and threads stayed flat and no
//! table outgrew its bound, 1 if not, 3 if a part is missing.

use std::{
    process::ExitCode,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::Daemon,
    http::free_port,
    lineage::Lineage,
    parts::require_root,
    soak::{INTERVAL, Mib, churn::Churn, judge, maps, sample::Sample},
    supervised::Supervised,
    victim::Victim,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let minutes = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Some(15),
        ["--minutes", minutes] => minutes.parse::<u64>().ok().filter(|minutes| *minutes > 0),
        _ => None,
    };
    let Some(minutes) = minutes else {
        eprintln!("usage: soak [--minutes N]");
        return ExitCode::from(2);
    };
    if !require_root() {
        return ExitCode::from(3);
    }
    soak(Duration::from_secs(minutes * 60))
}

fn soak(length: Duration) -> ExitCode {
    let (lineage, page) = (Arc::new(Lineage::new()), free_port());
    let (service, quiet) = (Supervised::new(), Supervised::new());
    let _pool = lineage.start(&[]);
    let victim = Victim::program().display().to_string();
    let port = |service: &Supervised| service.port.to_string();
    let probe = |service: &Supervised| {
        format!("[[service.probe]]\nhttp = \"http://127.0.0.1:{}/health\"\ninterval = \"1s\"\n", service.port)
    };
    let config = format!(
        "[events]\noutput = {events:?}\n[http]\nlisten = \"127.0.0.1:{page}\"\n{killed}{killed_probe}\
         [service.restart]\nbudget = \"100000 per 1h\"\nbackoff = \"1ms..2ms\"\n{quiet_service}{quiet_probe}{pool}\
         [restart]\nbudget = \"100000 per 1h\"\n",
        events = service.folder().join("events.ndjson").display().to_string(),
        killed = service.service(&[&victim, "--port", &port(&service)]),
        killed_probe = probe(&service),
        quiet_service = quiet.service(&[&victim, "--port", &port(&quiet)]),
        quiet_probe = probe(&quiet),
        pool = lineage.service("pool", &format!("match = {{ port = {} }}", lineage.port)),
    );
    let mut daemon = Daemon::start_to_file(&config, &["--log", "error"]);
    let until = Instant::now() + Duration::from_secs(30);
    let first = loop {
        match Sample::take(daemon.pid(), page) {
            Some(sample) if !sample.tables.is_empty() => break sample,
            _ if Instant::now() > until => {
                eprintln!("the daemon does not answer: {}", daemon.log());
                return ExitCode::from(3);
            }
            _ => thread::park_timeout(Duration::from_millis(50)),
        }
    };
    println!("{} minutes; pid {}; {} before the churn", length.as_secs() / 60, daemon.pid(), Mib(first.rss));
    println!("{:>6} {:>10} {:>5} {:>8}  tables", "s", "RSS", "fds", "threads");

    let churn = Churn::start(&lineage, service.port);
    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        thread::park_timeout(INTERVAL);
        let Some(sample) = Sample::take(daemon.pid(), page) else {
            eprintln!("the daemon is gone: {}", daemon.log());
            return ExitCode::FAILURE;
        };
        let tables: Vec<String> =
            sample.tables.iter().map(|table| format!("{} {}", table.name, table.entries)).collect();
        let Sample { rss, fds, threads, .. } = &sample;
        println!(
            "{:>6} {:>10} {fds:>5} {threads:>8}  {}",
            began.elapsed().as_secs(),
            Mib(*rss).to_string(),
            tables.join(", ")
        );
        samples.push(sample);
    }
    let bpf = maps::of(daemon.pid());
    let counts = Arc::clone(&churn.counts);
    churn.stop();
    println!("\nwhat went on");
    for (what, count) in [
        ("programs executed", &counts.execs),
        ("of them killed", &counts.deaths),
        ("children of a service", &counts.children),
        ("cgroups made and removed", &counts.cgroups),
        ("connections refused, listeners gone", &counts.sockets),
        ("main processes killed", &counts.kills),
    ] {
        println!("  {:<36} {:>9}", what, count.load(Ordering::Relaxed));
    }
    println!("\n{:<18} {:>9} {:>9} {:>9}", "table", "last", "most", "bound");
    for table in &samples[samples.len() - 1].tables {
        let same = samples.iter().flat_map(|sample| &sample.tables).filter(|other| other.name == table.name);
        let most = same.map(|table| table.entries).max().unwrap_or_default();
        println!("{:<18} {:>9} {most:>9} {:>9}", table.name, table.entries, table.limit);
    }
    println!("\n{:<18} {:>9} {:>9} {:>10}", "eBPF map", "entries", "bound", "memory");
    match bpf {
        Ok(maps) => {
            for map in maps {
                let entries = map.entries.map_or("all".to_owned(), |entries| entries.to_string());
                let memory = Mib(map.memory).to_string();
                println!("{:<18} {entries:>9} {:>9} {memory:>10}", map.name, map.limit);
            }
        }
        Err(error) => eprintln!("the eBPF maps cannot be read: {error}"),
    }
    let findings = judge(&samples);
    let [start, middle, last, most] = findings.rss;
    println!(
        "\nRSS: {} before the churn, {} at the first look; medians: {} in the middle third, {} in the last; at most {}",
        Mib(first.rss),
        Mib(start),
        Mib(middle),
        Mib(last),
        Mib(most)
    );
    daemon.stop();
    if findings.wrong.is_empty() {
        println!("memory is flat");
        return ExitCode::SUCCESS;
    }
    for wrong in findings.wrong {
        println!("NOT FLAT: {wrong}");
    }
    ExitCode::FAILURE
}
