//! What may go wrong between hosts: a slow NATS, one that dies midway, and hosts that lie. No wrong restart comes of it.

use std::{thread, time::Duration};

use async_nats::Client;
use hostprobe_tests::{
    daemon::Mark,
    fleet::{
        HUB, Nats,
        client::while_publishing,
        lab::{LONG, Lab, has_verdict, in_a_lab, one_cause},
        slow,
    },
    incident_events::{is, text},
    process::until,
};
use nkeys::KeyPair;
use serde_json::Value;

fn is_opened(event: &Value, service: &str) -> bool {
    is(event, "incident.open", service)
}

/// Kills Redis, and waits until both others name it. Returns where the streams were before.
#[track_caller]
fn is_cause_of_others(lab: &Lab) -> [Mark; 3] {
    let marks = lab.marks();
    lab.kill_redis();
    let [_, (b, _), (c, _)] = lab.services();
    b.wait_for_after(marks[1], has_verdict("api", "dependency_down"), LONG);
    c.wait_for_after(marks[2], has_verdict("web", "dependency_down"), LONG);
    marks
}

#[test]
fn a_slow_nats_delays_nothing_that_the_wait_for_it_does_not_cover() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let port = slow(Duration::from_millis(100));
        let lab = Lab::start(|_| format!("nats = \"nats://{HUB}:{port}\""));
        lab.know_each_other();
        one_cause(&lab);
    });
}

#[test]
fn with_a_nats_that_is_slower_than_the_wait_the_incident_changes_once_the_word_comes() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let port = slow(Duration::from_millis(900));
        let lab = Lab::with_pause(8, |_| format!("nats = \"nats://{HUB}:{port}\""));
        lab.know_each_other();
        let marks = is_cause_of_others(&lab);
        lab.all_resolve(marks);
        assert_eq!(lab.restarts(marks), [1, 0, 0]);
    });
}

#[test]
fn a_nats_that_dies_while_services_are_held_leaves_them_to_their_own_evidence() {
    in_a_lab(|| {
        let mut nats = Nats::start("");
        let lab = Lab::with_pause(12, |_| String::new());
        lab.know_each_other();
        let marks = is_cause_of_others(&lab);
        let [_, (b, _), (c, _)] = lab.services();
        nats.kill();
        for (daemon, service, mark) in [(b, "api", marks[1]), (c, "web", marks[2])] {
            let alone = |event: &Value| {
                has_verdict(service, "network")(event)
                    && text(event, "incident.summary").contains("NATS cannot be reached")
            };
            daemon.wait_for_after(mark, alone, LONG);
        }
        nats.run_again();
        lab.all_resolve(marks);
        assert_eq!(lab.restarts(marks), [1, 0, 0]);
        one_cause(&lab);
    });
}

/// Lies that need no permission where the operator gave none.
const ACCUSATION: [(&str, &str); 3] = [
    ("$KV.hostprobe.alive.liar", "- 9\n{\"run\":\"1\",\"watches\":true}"),
    ("$KV.hostprobe.address.10-9-0-1.liar", "- 9\n{\"run\":\"1\"}"),
    (
        "$KV.hostprobe.state.liar",
        "- 9\n{\"services\":[{\"name\":\"redis\",\"state\":\"down\",\"ports\":[6379],\"blocks\":true,\"incident\":{\"id\":\"1\",\
         \"verdict\":\"oom_killed\",\"confidence\":1.0,\"severity\":\"critical\",\"summary\":\"a lie\"}}]}",
    ),
];

/// What another host says as the host `a`: that all is well there, that it leaves, and that it is held because of others.
const FORGERY: [(&str, &str); 4] = [
    ("$KV.hostprobe.alive.a", "- 99999999999999999\n{\"run\":\"1\",\"leaves\":true}"),
    (
        "$KV.hostprobe.state.a",
        "- 99999999999999999\n{\"services\":[{\"name\":\"redis\",\"state\":\"healthy\",\"ports\":[6379]}]}",
    ),
    ("$KV.hostprobe.address.10-9-0-1.liar", "- 9\n{\"run\":\"1\"}"),
    ("$KV.hostprobe.held.a.liar", "- 9\n{\"services\":[{\"cause\":\"redis\",\"held\":\"a-lie\"}]}"),
];

/// Publishes these while `work` runs, ten times a second.
fn while_lying(lies: &[(&'static str, &'static str)], work: impl FnOnce()) {
    let lie = move |client: Client| async move {
        for (subject, text) in lies {
            client.publish(*subject, (*text).into()).await.expect("it is handed over");
        }
        client.flush().await.expect("it is sent");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    while_publishing(lie, work);
}

#[test]
fn without_permissions_a_false_accusation_takes_knowledge_away_and_restarts_nothing() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let lab = Lab::start(|_| String::new());
        lab.know_each_other();
        while_lying(&ACCUSATION, || {
            let marks = lab.marks();
            // Both claims have come, and the accusation with them.
            thread::sleep(Duration::from_secs(5));
            for ((daemon, service), mark) in lab.services().into_iter().zip(marks) {
                let opened = daemon.since(mark).into_iter().find(|event| is_opened(event, service));
                assert!(opened.is_none(), "a service that is well stays so: {opened:?}");
            }
            lab.kill_redis();
            let [_, (b, _), _] = lab.services();
            let event = b.wait_for_after(marks[1], |event| is_opened(event, "api"), LONG);
            assert_eq!(text(&event, "incident.verdict"), "network", "{event:#}");
            lab.all_resolve(marks);
            assert_eq!(lab.restarts(marks), [1, 0, 0]);
            let accused = |event: &Value| event.to_string().contains("on liar");
            let events: Vec<Value> = b.since(marks[1]).into_iter().filter(accused).collect();
            assert!(events.is_empty(), "{events:#?}");
        });
        // The liar is a silent host then, which is an alert of its own. Its claims are forgotten at the same time.
        let is_told = || lab.alerts().iter().flatten().any(|(_, verdict)| verdict == "host_silent");
        until("the liar is told as silent", LONG, || is_told().then_some(()));
        one_cause(&lab);
    });
}

#[test]
fn what_is_not_signed_by_its_host_counts_for_nothing() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let keys = ["a", "b", "c"].map(|name| (name, KeyPair::new_user()));
        let lab = Lab::signed(&keys);
        lab.know_each_other();
        while_lying(&FORGERY, || {
            thread::sleep(Duration::from_secs(3));
            one_cause(&lab);
            let (a, _) = lab.services()[0];
            assert!(!a.events().iter().any(|event| event.to_string().contains("a-lie")));
            a.wait_for_log("messages of other hosts were refused or lost");
        });
    });
}
