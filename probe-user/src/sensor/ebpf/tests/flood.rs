//! A flood of events of unwatched processes must not displace those of watched ones.

use std::process::Command;

use super::*;
use crate::sensor::loss::LossClass;

#[test]
fn a_flood_of_unwatched_exits_is_throttled_and_counted() {
    let options = Options { unwatched_per_second: 5, ..Options::default() };
    let Some(mut fixture) = fixture_with("a_flood_of_unwatched_exits_is_throttled_and_counted", &options)
    else {
        return;
    };
    let mut records = Vec::new();
    let mut children: Vec<_> = (0..40).map(|_| shell("exit 0")).collect();
    let pids: Vec<_> = children.iter().map(std::process::Child::id).collect();
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    fixture.sensor.drain(&mut records);
    let seen =
        records.iter().filter(|it| matches!(it, Record::Exit(exit) if pids.contains(&exit.pid))).count();
    let lost: u64 = fixture
        .sensor
        .losses()
        .iter()
        .filter(|it| it.class == LossClass::ExitThrottled)
        .map(|it| it.count)
        .sum();
    // Other tests share the cgroup, and a new second may begin meanwhile.
    assert!(seen <= 20 && lost >= 20, "{seen} seen, {lost} lost");
    // A watched process is not throttled.
    let mut child = shell("exit 0");
    fixture.sensor.watch_process(child.id(), 1).unwrap();
    child.kill().unwrap();
    fixture.wait_for("exit of the watched process", exit_of(child.id()));
    child.wait().unwrap();
}

#[test]
fn unwatched_exits_never_fill_the_ring() {
    let options =
        Options { unwatched_per_second: u32::MAX, urgent_ring_bytes: 64 * 1024, ..Options::default() };
    let Some(mut fixture) = fixture_with("unwatched_exits_never_fill_the_ring", &options) else { return };
    for _ in 0..350 {
        let mut child = Command::new("/bin/sh").args(["-c", "kill -9 $$"]).spawn().unwrap();
        child.wait().unwrap();
    }
    let mut child = shell("exit 6");
    fixture.sensor.watch_process(child.id(), 1).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    let losses = fixture.sensor.losses();
    assert!(losses.iter().any(|it| it.class == LossClass::ExitUnwatched && it.count > 0), "{losses:?}");
    assert!(losses.iter().all(|it| it.class != LossClass::ExitWatched), "{losses:?}");
    assert_eq!(fixture.wait_for("exit of the watched process", exit_of(child.id())).status.code(), Some(6));
}
