//! Hosts that reach NATS over TLS, each with credentials of its own.

use std::{fs, path::Path, time::Duration};

use hostprobe_tests::{
    fleet::{
        HUB, Host, Nats, PORT,
        jwt::Operator,
        lab::{LONG, Lab, in_a_lab, one_cause},
    },
    parts::{Authority, built},
    process::until,
};

/// The `tls` of a server whose certificate this authority has issued for the hub.
fn tls(authority: &Authority) -> String {
    let certificate = authority.issue("hub", &format!("IP:{HUB}"), 100);
    format!("tls {{ cert_file: {:?}, key_file: {:?}, timeout: 5 }}", certificate.pem, certificate.key)
}

/// What a host has in its `[fleet]` to reach that server.
fn keys(credentials: &Path, authority: &Authority) -> String {
    let ca = authority.pem();
    format!("nats = \"tls://{HUB}:{PORT}\"\ncredentials_file = {credentials:?}\nca_file = {ca:?}")
}

#[test]
fn over_tls_and_with_a_jwt_for_each_host_one_cause_is_one_alert() {
    in_a_lab(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Some(authority) = Authority::new(folder.path(), "fleet") else { return };
        let operator = Operator::default();
        let _nats = Nats::start(&format!("{}\n{}", operator.configuration(), tls(&authority)));
        let lab = Lab::start(|host| {
            let credentials = operator.credentials(host.name, &[&host.address], host.name == "a");
            keys(&host.file("fleet.creds", &credentials), &authority)
        });
        lab.know_each_other();
        one_cause(&lab);
    });
}

#[test]
fn a_host_that_calls_itself_another_is_refused_and_both_sides_log_it() {
    in_a_lab(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Some(authority) = Authority::new(folder.path(), "fleet") else { return };
        let operator = Operator::default();
        let nats = Nats::start(&format!("{}\n{}", operator.configuration(), tls(&authority)));
        // The host `a` has the credentials of `b`.
        let host = Host::connect("a", 1);
        let credentials = operator.credentials("b", &["10.9.0.2"], true);
        let file = host.file("fleet.creds", &credentials);
        let (daemon, _alerts) = host.daemon(&keys(&file, &authority), "");
        daemon.ready();
        let refused = daemon.wait_for_log("NATS refuses this host something");
        assert!(refused.contains("Permissions Violation"), "{refused}");
        let logged = daemon.log();
        assert!(
            !logged.contains("event: server error"),
            "the client library logs nothing by itself: {logged}"
        );
        let seed = credentials.lines().find(|line| line.starts_with("SU")).expect("it has a seed");
        assert!(!logged.contains(seed), "no secret is logged");
        until("the server logs it", LONG, || {
            let log = nats.log();
            let is_refused =
                |line: &str| line.contains("Publish Violation") && line.contains("hostprobe.events.a");
            log.lines().any(is_refused).then_some(())
        });
        // The bucket has nothing of `a`: any host can be asked.
        let asks = host.file("asks.creds", &operator.credentials("asks", &[], true));
        let shown = host.run(|| fleet_status(&format!("{}\nname = \"asks\"", keys(&asks, &authority))));
        assert!(!shown.contains("a: "), "{shown}");
    });
}

#[test]
fn a_server_of_another_authority_is_not_trusted_and_the_log_says_why() {
    in_a_lab(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let Some(authority) = Authority::new(folder.path(), "fleet") else { return };
        let other = Authority::new(folder.path(), "other").expect("it is there");
        let _nats = Nats::start(&tls(&authority));
        let host = Host::connect("a", 1);
        let trusts = format!("nats = \"tls://{HUB}:{PORT}\"\nca_file = {:?}", other.pem());
        let (daemon, _alerts) = host.daemon(&trusts, "");
        daemon.ready();
        let line = daemon.wait_for_log("NATS cannot be reached");
        assert!(line.contains("invalid peer certificate"), "{line}");
        let shown = host.run(|| fleet_status(&trusts));
        assert!(shown.contains("invalid peer certificate"), "{shown}");
    });
}

/// What `hostprobe fleet status` says in the calling thread's network namespace.
fn fleet_status(keys: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("hostprobe.toml");
    fs::write(&config, format!("[fleet]\n{keys}\n")).expect("a file");
    let mut command = std::process::Command::new(built("hostprobe"));
    let output = command.args(["fleet", "status", "--config"]).arg(&config).output().expect("hostprobe runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn events_are_signed_and_what_is_not_signed_is_not_shown() {
    in_a_lab(|| {
        let _nats = Nats::start("");
        let host = Host::connect("a", 1);
        let key = nkeys::KeyPair::new_user();
        let seed = host.file("fleet.seed", &key.seed().expect("a new key has a seed"));
        let known = host.file("fleet.keys", &format!("a {}\n", key.public_key()));
        let config = host.file(
            "watch.toml",
            &format!("[fleet]\nnats = \"nats://{HUB}:{PORT}\"\nname = \"shows\"\nkeys_file = {known:?}\n"),
        );
        let mut command = std::process::Command::new(built("hostprobe"));
        command.args(["fleet", "watch", "--config"]).arg(&config);
        let watch = hostprobe_tests::process::Running::start(&mut command, rustix::process::Signal::KILL);
        // It has to subscribe before events come; the lie below is published again and again.
        std::thread::sleep(Duration::from_secs(3));
        let lie = r#"{"event":{"action":"incident.open","id":"x"},"message":"a lie"}"#;
        publish("hostprobe.events.a", lie);
        let fleet = format!("credentials_file = {seed:?}\nsign = true\nkeys_file = {known:?}");
        let services = hostprobe_tests::fleet::redis(&host);
        let (daemon, _alerts) = host.daemon(&fleet, &services);
        daemon.ready();
        let shown = until("a signed event is shown", LONG, || {
            let lines = watch.stdout.all();
            lines.iter().any(|line| line.contains(" a: service.")).then_some(lines)
        });
        publish("hostprobe.events.a", lie);
        assert!(!shown.iter().any(|line| line.contains("a lie")), "{shown:?}");
    });
}

fn publish(subject: &'static str, text: &'static str) {
    let publish = async {
        let client = async_nats::connect(format!("nats://{HUB}:{PORT}")).await.expect("NATS is there");
        client.publish(subject, text.into()).await.expect("it is handed over");
        client.flush().await.expect("it is sent");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(publish);
}
