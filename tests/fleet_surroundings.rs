//! What changes around hosts of a fleet: an address that moves to another host, and a host that floods the others.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::Client;
use hostprobe_tests::{
    fleet::{
        Host, Nats, client,
        lab::{LONG, Lab, in_a_lab, one_cause},
    },
    network::ip,
    process::{peak_resident, until},
};

/// The hosts that claim an address in the bucket, which forgets a claim after 15 s.
fn claimants(address: &str) -> Vec<String> {
    client::run(async {
        let Ok(bucket) = client::jetstream().await.get_key_value("hostprobe").await else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for host in ["a", "b"] {
            let claim = bucket.entry(format!("address.{address}.{host}")).await.expect("it is read");
            found.extend(claim.map(|_| host.to_owned()));
        }
        found
    })
}

#[test]
fn an_address_that_moves_to_another_host_is_claimed_there_alone() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let hosts = [Host::connect("a", 1), Host::connect("b", 2)];
        let daemons = hosts.each_ref().map(|host| host.daemon("", ""));
        for (daemon, _) in &daemons {
            daemon.ready();
        }
        let shared = ["address", "add", "10.9.0.100/24", "dev", "eth0"];
        hosts[0].run(|| ip(&shared));
        until("the host claims its new address", LONG, || (claimants("10-9-0-100") == ["a"]).then_some(()));
        // As a failover does it.
        hosts[0].run(|| ip(&["address", "delete", "10.9.0.100/24", "dev", "eth0"]));
        hosts[1].run(|| ip(&shared));
        until("the other host alone claims it", LONG, || (claimants("10-9-0-100") == ["b"]).then_some(()));
        assert_eq!(claimants("10-9-0-1"), ["a"]);
    });
}

/// Publishes messages of a megabyte as another host, as fast as the server takes them, while `work` runs. It gets their
/// number.
fn while_flooding(subjects: &[&'static str], work: impl FnOnce(&AtomicUsize)) {
    let (message, sent) = (bytes(1_000_000), AtomicUsize::new(0));
    let (message, count) = (&message, &sent);
    let flood = move |client: Client| async move {
        for subject in subjects {
            client.publish(*subject, message.clone().into()).await.expect("it is handed over");
            client.flush().await.expect("it is sent");
            count.fetch_add(1, Ordering::AcqRel);
        }
    };
    client::while_publishing(flood, || work(&sent));
}

/// A message of the form that a host publishes, with so many bytes.
fn bytes(count: usize) -> Vec<u8> {
    let mut message = b"- 9\n{\"services\":[],\"run\":\"".to_vec();
    message.resize(count, b'x');
    message.extend(b"\"}");
    message
}

#[test]
fn a_host_that_floods_the_others_takes_neither_their_memory_nor_their_knowledge_of_causes() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let lab = Lab::start(|_| String::new());
        lab.know_each_other();
        let daemons = lab.services().map(|(daemon, _)| daemon);
        let before = daemons.map(|daemon| peak_resident(daemon.pid()));
        let subjects = ["$KV.hostprobe.alive.a", "$KV.hostprobe.state.a", "$KV.hostprobe.held.a.b"];
        while_flooding(&subjects, |sent| {
            daemons[1].wait_for_log("messages of other hosts were refused or lost");
            until("much is sent", LONG, || (sent.load(Ordering::Acquire) > 500).then_some(()));
        });
        for (daemon, before) in daemons.iter().zip(before) {
            let grown = peak_resident(daemon.pid()).saturating_sub(before) >> 20;
            assert!(grown < 64, "500 messages of a megabyte have cost {grown} MiB");
        }
        one_cause(&lab);
    });
}
