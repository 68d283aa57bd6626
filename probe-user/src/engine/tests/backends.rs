//! Services that fail because a server of this host that hostprobe does not watch refuses their connections.

use super::*;
use crate::fact::{Direction, Peer, Protocol};

fn well() -> Lab {
    let mut lab = Lab::exec();
    lab.wait(LATER);
    lab.answer(ProbeOutcome::Ok);
    lab
}

/// A server on this port refuses a connection of the service.
fn refused_by(lab: &mut Lab, port: u16, peer: Peer) {
    let error = SocketError {
        at: lab.now,
        source: Source::Ebpf,
        errno: libc::ECONNREFUSED as u16,
        transition: None,
        protocol: Protocol::Tcp,
        direction: Direction::Outbound,
        local: ([127, 0, 0, 1], 40000).into(),
        remote: ([127, 0, 0, 1], port).into(),
        peer,
        process: None,
        count: 1,
        age: None,
    };
    lab.see(Observation::SocketError(error, API, EventId(905)));
}

fn fail(lab: &mut Lab, failure: ProbeFailure, times: u32) {
    for _ in 0..times {
        lab.answer(ProbeOutcome::Failed(failure, "as it says".into()));
    }
}

#[test]
fn a_proxy_or_an_application_before_a_dead_server_is_held_until_nothing_is_heard_of_it() {
    for failure in [ProbeFailure::Reset, ProbeFailure::Status, ProbeFailure::Protocol] {
        let mut lab = well();
        fail(&mut lab, failure, 1);
        refused_by(&mut lab, 5432, Peer::Local);
        fail(&mut lab, failure, 2);
        assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Unhealthy, Severity::Critical)]);
        let incident = lab.engine.view().next().unwrap().incident.unwrap();
        assert!(incident.summary.contains("127.0.0.1:5432 failed with ECONNREFUSED"), "{}", incident.summary);
        assert!(incident.evidence.contains(&EventId(905)));
        // A proxy that has given up takes none of its clients there, and checks it every two minutes.
        for _ in 0..10 {
            lab.wait(Duration::from_secs(120));
            refused_by(&mut lab, 5432, Peer::Local);
            fail(&mut lab, failure, 3);
        }
        assert_eq!(lab.restarts_asked(), 0, "{failure:?}");
        lab.wait(Duration::from_secs(301));
        fail(&mut lab, failure, 1);
        assert_eq!(lab.restarts_asked(), 1, "{failure:?}");
    }
}

#[test]
fn a_service_that_an_operator_restarts_meanwhile_is_still_held() {
    let mut lab = well();
    fail(&mut lab, ProbeFailure::Status, 3);
    assert_eq!(lab.restarts_asked(), 1, "nothing else is known");

    let mut lab = well();
    refused_by(&mut lab, 5432, Peer::Local);
    fail(&mut lab, ProbeFailure::Status, 3);
    for pid in [101, 102] {
        lab.wait(Duration::from_secs(200));
        lab.see(Observation::Running(API, process(pid)));
        refused_by(&mut lab, 5432, Peer::Local);
        lab.wait(LATER);
        fail(&mut lab, ProbeFailure::Status, 3);
    }
    assert_eq!(lab.restarts_asked(), 0);
}

#[test]
fn a_server_that_the_service_did_without_excuses_nothing() {
    let mut lab = well();
    for _ in 0..30 {
        refused_by(&mut lab, 8125, Peer::Local);
        lab.wait(Duration::from_secs(10));
        lab.answer(ProbeOutcome::Ok);
    }
    fail(&mut lab, ProbeFailure::Status, 3);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn its_own_listener_and_a_service_that_is_watched_excuse_nothing() {
    let mut lab = well();
    lab.see(Observation::Listening(API, vec![8080, 9000]));
    for (port, peer) in [(9000, Peer::Local), (6379, Peer::Service(ServiceId(7)))] {
        refused_by(&mut lab, port, peer);
    }
    fail(&mut lab, ProbeFailure::Status, 3);
    assert_eq!(lab.restarts_asked(), 1);
}

fn time_out_while(lab: &mut Lab, awaits: Option<&str>) {
    lab.wait(LATER);
    lab.answer(ProbeOutcome::Failed(ProbeFailure::Timeout, "no answer".into()));
    let awaits = awaits.map(|server| server.parse().unwrap());
    let seen = Examination { at: lab.now, switches: 9, awaits, ..Examination::default() };
    lab.see(Observation::Examined(API, Some(seen)));
}

#[test]
fn a_service_that_waits_for_a_server_is_held_until_it_waits_for_itself() {
    let mut lab = well();
    for _ in 0..9 {
        time_out_while(&mut lab, Some("10.0.0.5:5432"));
    }
    assert_eq!(lab.incidents(), [(Phase::Open, Verdict::Unhealthy, Severity::Critical)]);
    let incident = lab.engine.view().next().unwrap().incident.unwrap();
    assert!(incident.summary.contains("waits for 10.0.0.5:5432"), "{}", incident.summary);
    assert_eq!(lab.restarts_asked(), 0);
    for _ in 0..3 {
        time_out_while(&mut lab, None);
    }
    lab.see(snapshot());
    assert_eq!(lab.restarts_asked(), 1);

    let mut lab = well();
    for _ in 0..3 {
        time_out_while(&mut lab, None);
    }
    lab.see(snapshot());
    assert_eq!(lab.restarts_asked(), 1);
}
