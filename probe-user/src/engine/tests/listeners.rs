//! Listeners that close, and those that only seem to.

use std::net::IpAddr;

use super::*;

fn listener(lab: &mut Lab, up: bool, address: &str, port: u16) {
    lab.now = lab.now.plus(Duration::from_millis(1));
    let address: IpAddr = address.parse().unwrap();
    let listener = Listener { at: lab.now, up, address, port, source: Source::Ebpf, process: process(100) };
    lab.see(Observation::Listener(listener, API, EventId(920)));
}

fn with_listeners(addresses: &[&str]) -> Lab {
    let mut lab = Lab::exec();
    for address in addresses {
        listener(&mut lab, true, address, 8080);
    }
    lab.answer(ProbeOutcome::Ok);
    lab.wait(LATER);
    lab.requested.clear();
    lab
}

fn asks(lab: &Lab) -> usize {
    lab.requested.iter().filter(|it| **it == Effect::FindListener { service: API, port: 8080 }).count()
}

#[test]
fn a_closed_listener_is_checked_before_it_counts() {
    let mut lab = with_listeners(&["127.0.0.1"]);
    listener(&mut lab, false, "127.0.0.1", 8080);
    lab.wait(Duration::from_millis(250));
    assert_eq!((asks(&lab), lab.incidents()), (1, vec![]));
    lab.see(Observation::ListenerChecked(API, 8080, false));
    assert_eq!(lab.incidents()[0].1, Verdict::NotListening);
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_listener_that_another_process_of_the_service_holds_is_not_lost() {
    let mut lab = with_listeners(&["127.0.0.1"]);
    listener(&mut lab, false, "127.0.0.1", 8080);
    lab.wait(Duration::from_millis(250));
    lab.see(Observation::ListenerChecked(API, 8080, true));
    lab.wait(LATER);
    assert_eq!((lab.incidents(), asks(&lab)), (vec![], 1));
    // It counts again from here.
    listener(&mut lab, false, "127.0.0.1", 8080);
    lab.wait(Duration::from_millis(250));
    assert_eq!(asks(&lab), 2);
}

#[test]
fn a_check_that_does_not_answer_does_not_hide_a_lost_listener() {
    let mut lab = with_listeners(&["127.0.0.1"]);
    listener(&mut lab, false, "127.0.0.1", 8080);
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.incidents()[0].1, Verdict::NotListening);
}

#[test]
fn a_late_answer_says_nothing_about_a_listener_that_is_back() {
    let mut lab = with_listeners(&["127.0.0.1"]);
    listener(&mut lab, false, "127.0.0.1", 8080);
    lab.wait(Duration::from_millis(250));
    listener(&mut lab, true, "127.0.0.1", 8080);
    lab.see(Observation::ListenerChecked(API, 8080, false));
    lab.wait(LATER);
    assert_eq!(lab.incidents(), []);
}

#[test]
fn one_of_several_sockets_on_a_port_may_close() {
    let mut lab = with_listeners(&["127.0.0.1", "127.0.0.1", "127.0.0.1"]);
    for _ in 0..2 {
        listener(&mut lab, false, "127.0.0.1", 8080);
        lab.wait(LATER);
    }
    assert_eq!((lab.incidents(), asks(&lab)), (vec![], 0));
}

#[test]
fn a_socket_on_another_address_neither_replaces_the_listener_nor_is_missed() {
    let mut lab = with_listeners(&["127.0.0.1", "::1", "192.0.2.1"]);
    listener(&mut lab, false, "::1", 8080);
    listener(&mut lab, false, "192.0.2.1", 8080);
    lab.wait(LATER);
    assert_eq!(asks(&lab), 0);
    for other in ["127.0.0.2", "::1", "0.0.0.0"] {
        let mut lab = with_listeners(&["127.0.0.1", other]);
        listener(&mut lab, false, "127.0.0.1", 8080);
        lab.wait(LATER);
        assert_eq!(asks(&lab), u32::from(other != "0.0.0.0") as usize, "{other}");
    }
}

#[test]
fn a_process_that_was_asked_to_end_may_close_its_listener_first() {
    let mut lab = with_listeners(&["127.0.0.1"]);
    lab.see(Observation::AskedToEnd(API, lab.now));
    listener(&mut lab, false, "127.0.0.1", 8080);
    for _ in 0..20 {
        lab.wait(Duration::from_secs(4));
        lab.answer(ProbeOutcome::Failed(ProbeFailure::Refused, "refused".into()));
    }
    assert_eq!((asks(&lab), lab.incidents(), lab.restarts_asked()), (0, vec![], 0));
    assert!(matches!(&lab.restarts()[0].action, Action::Hold(why) if why.contains("asked it to end")));
    lab.wait(Duration::from_secs(11));
    lab.see(Observation::ListenerChecked(API, 8080, false));
    assert_eq!((lab.incidents()[0].1, lab.restarts_asked()), (Verdict::NotListening, 1), "it does not end");

    let mut lab = with_listeners(&["127.0.0.1"]);
    lab.see(Observation::AskedToEnd(API, lab.now));
    listener(&mut lab, false, "127.0.0.1", 8080);
    lab.wait(Duration::from_secs(20));
    lab.die(100, ExitStatus::Code(1), None);
    assert_eq!(
        (lab.incidents()[0].1, lab.restarts_asked()),
        (Verdict::Exited, 1),
        "its exit says what comes next"
    );
}
