//! Rounds of checks over a host of the test's own.

use super::*;
use crate::host::fake::FakeHost;

/// A clock that is an hour off and kept right, in place of `adjtimex`.
fn fake_adjtimex() -> Option<ClockReading> {
    Some(ClockReading {
        at: Timestamp::now(),
        is_kept: true,
        leaps: false,
        error: Duration::from_secs(3600),
        ahead: 0,
    })
}

/// The checks that one round reports.
fn round(host: &FakeHost, clock: fn() -> Option<ClockReading>) -> Vec<HostReading> {
    let (answers, mut inbox) = Outcomes::channel(8);
    let monitor = HostMonitor { read_clock: clock, ..HostMonitor::new(host.reader()) };
    let round = Round {
        number: 1,
        options: HostOptions::default(),
        looked: Vec::new(),
        reader: monitor.reader.clone(),
        clock: monitor.read_clock,
        shared: Arc::clone(&monitor.shared),
        answers,
    };
    round.run();
    match inbox.try_recv() {
        Ok(Answer::Host(readings)) => readings,
        Ok(_) | Err(_) => Vec::new(),
    }
}

#[test]
fn a_host_without_any_of_the_files_is_healthy() {
    assert_eq!(round(&FakeHost::v2(), || None), []);
}

#[test]
fn this_host_is_measured_without_an_error() {
    let reader = ProcReader::new("/").unwrap();
    let measured = NumbersPast::default().measure(&reader, &HostOptions::default());
    for check in [HostCheck::Memory, HostCheck::Pids, HostCheck::Files, HostCheck::Ports] {
        assert!(measured.iter().any(|it| it.check == check && it.value < 100.0), "{check:?}: {measured:#?}");
    }
}

#[test]
fn what_is_at_its_limit_is_reported_with_its_numbers() {
    let host = FakeHost::v2();
    host.write("proc/meminfo", b"MemTotal: 102400 kB\nMemAvailable: 2048 kB\n");
    host.write("proc/loadavg", b"0.5 0.4 0.3 2/1000 9876\n");
    host.write("proc/sys/kernel/pid_max", b"1000\n");
    host.write("proc/sys/fs/file-nr", b"86\t0\t100\n");
    host.write("proc/sys/net/netfilter/nf_conntrack_count", b"7\n");
    host.write("proc/sys/net/netfilter/nf_conntrack_max", b"8\n");
    host.write("proc/sys/net/ipv4/neigh/default/gc_thresh3", b"16\n");
    host.write("proc/net/stat/arp_cache", b"entries\n00000010 1\n");
    let found: Vec<_> = round(&host, fake_adjtimex)
        .into_iter()
        .map(|it| (it.subject.check, it.subject.target, it.exhausted, it.words))
        .collect();
    let expected = [
        (HostCheck::Memory, "", false, "98 % of the memory is in use: 2 MiB of 100 MiB are available"),
        (HostCheck::Pids, "", true, "1000 of 1000 processes and threads are in use (100 %)"),
        (HostCheck::Files, "", false, "86 of 100 open files are in use (86 %)"),
        (HostCheck::Conntrack, "", false, "7 of 8 tracked connections (nf_conntrack_max) are in use (88 %)"),
        (
            HostCheck::Neighbours,
            "arp_cache",
            true,
            "16 of 16 entries of the neighbour table (gc_thresh3) are in use (100 %)",
        ),
        (HostCheck::ClockOffset, "", false, "the clock is off by 3600000 ms, as its time service estimates"),
    ];
    assert_eq!(
        found,
        expected.map(|(check, target, full, words)| (check, target.to_owned(), full, words.to_owned()))
    );
}

#[test]
fn counters_count_from_the_second_round_on() {
    let (host, mut past) = (FakeHost::v2(), NumbersPast::default());
    let edac = |count: u64, uncorrected: u64| {
        host.write("sys/devices/system/edac/mc/mc0/ce_count", count.to_string().as_bytes());
        host.write("sys/devices/system/edac/mc/mc0/ue_count", uncorrected.to_string().as_bytes());
    };
    let mut measure = || {
        let measured = past.measure(&host.reader(), &HostOptions::default());
        measured.into_iter().filter(|it| it.value >= it.limit).map(|it| it.words).collect::<Vec<_>>()
    };
    edac(5000, 3);
    host.write("proc/stat", b"cpu 100 0 0 100 0 0 0 900\n");
    assert_eq!(measure(), [""; 0], "what was before the daemon is not new");
    edac(5050, 3);
    host.write("proc/stat", b"cpu 150 0 0 150 0 0 0 1000\n");
    assert_eq!(measure(), ["the hypervisor gives 50 % of the CPU time to others"]);
    edac(5101, 3);
    assert!(measure()[0].starts_with("101 memory errors were corrected within a day"));
    edac(5101, 4);
    assert!(measure()[0].starts_with("the memory has an error that could not be corrected"));
    assert_eq!(measure(), [""; 0]);
}
