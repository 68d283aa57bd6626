//! hostprobe with services to probe once a second, for the sections that measure what that costs.

use std::{
    collections::HashSet,
    fmt::Write as _,
    time::{Duration, Instant},
};

use crate::{
    daemon::Daemon,
    http::free_port,
    many_processes::{Arrival, Servers},
    process::until,
};

/// Longest wait for the first probe of the last service.
const FIRST: Duration = Duration::from_secs(30);

/// Time between two probes of a service.
pub const INTERVAL_NS: u64 = 1_000_000_000;

/// A configuration with a page, and a service for each of these loopback ports.
pub fn config(ports: &[u16]) -> String {
    format!("[http]\nlisten = \"127.0.0.1:{}\"\n{}", free_port(), services(ports))
}

/// Services of these loopback ports, known by them and probed over HTTP every second.
pub fn services(ports: &[u16]) -> String {
    let mut services = String::new();
    for port in ports {
        // Writing into a string cannot fail.
        let _ = write!(
            services,
            "[[service]]\nname = \"service-{port}\"\nmatch = {{ port = {port} }}\n[[service.probe]]\n\
             http = \"http://127.0.0.1:{port}/\"\ninterval = \"1s\"\ntimeout = \"1s\"\n"
        );
    }
    services
}

/// Starts hostprobe for these servers and waits until it watches; also how long that took, from just before the process was
/// made until it was heard to watch.
pub fn start(servers: &Servers) -> (Daemon, Duration) {
    let mut began = Instant::now();
    let daemon = Daemon::start_with(&config(&servers.ports), &[], |command| {
        began = Instant::now();
        command
    });
    daemon.ready();
    (daemon, began.elapsed())
}

/// Waits until every one of these servers has been asked since a mark, so that all probes are under way.
///
/// # Panics
/// If that takes too long.
pub fn all_asked(servers: &Servers, mark: u64) {
    until("all servers are asked", FIRST, || {
        let arrivals = servers.between(mark, servers.mark().ok()?).ok()?;
        let asked: HashSet<usize> = arrivals.iter().map(|arrival| arrival.server).collect();
        (asked.len() == servers.ports.len()).then_some(())
    });
}

/// How much later than its steady second each probe came, ns; and how many of those that were due did not come, in percent.
///
/// The second of a service is that of the earliest of its probes, as seen from here. A probe that is later than half a second
/// counts as early, which moves all others of its service.
pub fn lateness(arrivals: &[Arrival], services: usize, window_ns: f64) -> (Vec<f64>, f64) {
    let mut of: Vec<Vec<i64>> = vec![Vec::new(); services];
    for Arrival { server, at_ns } in arrivals {
        of[*server].push(at_ns.cast_signed());
    }
    let interval = INTERVAL_NS.cast_signed();
    let mut late = Vec::with_capacity(arrivals.len());
    for times in of {
        let Some(first) = times.first() else { continue };
        let into = |time: &i64| (time - first + interval / 2).rem_euclid(interval) - interval / 2;
        let earliest = times.iter().map(into).min().unwrap_or_default();
        late.extend(times.iter().map(|time| (into(time) - earliest) as f64));
    }
    let due = services as f64 * window_ns / INTERVAL_NS as f64;
    (late, (1.0 - arrivals.len() as f64 / due) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_late_by_what_it_is_behind_the_steady_second() {
        let at = |server, at_ns| Arrival { server, at_ns };
        let arrivals =
            [at(0, 5_000_000_300), at(1, 5_500_000_000), at(0, 6_000_000_000), at(0, 7_040_000_000)];
        let (mut late, missed) = lateness(&arrivals, 2, 3e9);
        late.sort_unstable_by(f64::total_cmp);
        assert_eq!((late, missed.round()), (vec![0.0, 0.0, 300.0, 40_000_000.0], 33.0));
    }
}
