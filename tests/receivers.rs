//! Receivers of alerts: a real mail server over TLS, and a fake of Slack, whose message is updated also after a restart of
//! the daemon. What the other services get is in `act/alert/format/tests.rs`; they cannot be reached from a test.

use std::{fs, net::TcpListener, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    fake_service::FakeService,
    http::{self, free_port},
    incident_events::{is, text, wait_until_healthy},
    operator::{Home, crash},
    parts::{Authority, LOCALHOST, require_root, smtp_server},
    process::until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A service of which only the port is probed.
fn port_service(port: u16) -> String {
    format!(
        "[[service]]\nname = \"api\"\n[[service.probe]]\ntcp = \"127.0.0.1:{port}\"\ninterval = \"200ms\"\n\
         timeout = \"2s\"\nfailures = 2\n"
    )
}

fn slack(fake: &FakeService) -> String {
    format!(
        "[[alert]]\nname = \"chat\"\nslack = \"http://127.0.0.1:{}/api\"\ntoken = \"xoxb-T0KEN-of-slack\"\nchannel = \"#ops\"\n",
        fake.port
    )
}

/// A fake of Slack's Web API.
fn fake_slack() -> FakeService {
    FakeService::start(&json!({"ok": true, "channel": "C024BE91L", "ts": "1503435956.000247"}))
}

/// Waits until the state directory has that a receiver was told of a silence with this reason. The message's event may
/// come before that.
#[track_caller]
fn until_kept(home: &Home, reason: &str) {
    let is_such = |saved: &Value| {
        saved["kept"]["delivery"] == "Done" && saved["kept"]["silence"].to_string().contains(reason)
    };
    until("the update is kept", LONG, || {
        let has = |file: &str| {
            let bytes = fs::read(home.path("state").join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            text.match_indices("{\"clock\"").any(|(at, _)| {
                let mut saved = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>();
                matches!(saved.next(), Some(Ok(saved)) if is_such(&saved))
            })
        };
        (has("state.db-wal") || has("state.db")).then_some(())
    });
}

#[test]
fn one_message_of_slack_is_updated_until_the_end_also_by_the_next_daemon() {
    if !require_root() {
        return;
    }
    let (fake, home) = (fake_slack(), Home::new());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let config = home.config(&format!("{}{}", slack(&fake), port_service(port)));
    let page = "https://db-1.example/hostprobe/";
    let config = config.replace("listen = \"\"", &format!("listen = \"\"\npublic_url = {page:?}"));
    let daemon = Daemon::start(&config, &[]);
    wait_until_healthy(&daemon, "api");
    drop(listener);
    let opened = fake.wait_for(0, LONG);
    assert_eq!(
        (opened.what.as_str(), &opened.body["channel"]),
        ("POST /api/chat.postMessage", &json!("#ops"))
    );
    let shown = opened.body.to_string();
    assert!(shown.contains(&format!("<{page}|hostprobe's page>")), "it links to the page: {shown}");
    let open = daemon.wait_for(|event| is(event, "incident.open", "api"), LONG);
    daemon.wait_for(|event| is(event, "alert.send", "api"), LONG);

    home.done(&["ack", text(&open, "incident.id"), "--reason", "on it"]);
    let acknowledged = fake.wait_for(1, LONG);
    assert_eq!(acknowledged.what, "POST /api/chat.update");
    assert_eq!(
        (&acknowledged.body["channel"], &acknowledged.body["ts"]),
        (&json!("C024BE91L"), &json!("1503435956.000247"))
    );
    let shown = acknowledged.body.to_string();
    assert!(shown.contains("ACKNOWLEDGED") && shown.contains("on it"), "{shown}");
    until_kept(&home, "on it");

    let log = daemon.log();
    assert!(!log.contains("xoxb-T0KEN"), "{log}");
    crash(daemon);
    let _listener = TcpListener::bind(("127.0.0.1", port)).expect("its port is free");
    let mut next = Daemon::start(&config, &[]);
    let ended = fake.wait_for(2, LONG);
    assert_eq!(
        (ended.what.as_str(), &ended.body["ts"]),
        ("POST /api/chat.update", &json!("1503435956.000247"))
    );
    assert!(ended.body.to_string().contains("RESOLVED"), "{}", ended.body);
    next.stop();
    assert_eq!(fake.asked().len(), 3, "{:?}", fake.asked());
}

#[test]
fn a_mail_server_gets_mails_over_tls_after_a_login_and_its_refusal_is_told() {
    if !require_root() {
        return;
    }
    let folder = TempDir::new().expect("a temporary folder");
    let Some(authority) = Authority::new(folder.path(), "mail-ca") else { return };
    let certificate = authority.issue("mail", LOCALHOST, 30);
    let (first, second) = (free_port(), free_port());
    let Some(starttls) = smtp_server(first, "starttls", &certificate, ("probe", "s3cret pw")) else { return };
    let Some(implicit) = smtp_server(second, "implicit", &certificate, ("probe", "s3cret pw")) else {
        return;
    };
    let receiver = |name: &str, address: &str, further: &str| {
        format!(
            "[[alert]]\nname = \"{name}\"\nemail = \"{address}\"\nfrom = \"hostprobe <hostprobe@example.org>\"\n\
             to = [\"ops@example.org\", \"On call <oncall@example.org>\"]\n{further}\n"
        )
    };
    let trust = format!("tls = {{ ca_file = {:?} }}", authority.pem());
    let login = "probe:s3cret%20pw@localhost";
    let config = [
        receiver("starttls", &format!("smtp://{login}:{first}"), &format!("starttls = true\n{trust}")),
        receiver("implicit", &format!("smtps://{login}:{second}"), &trust),
        receiver("wrong-login", &format!("smtps://probe:wr0ng-pw@localhost:{second}"), &trust),
        receiver("untrusted", &format!("smtps://{login}:{second}"), ""),
    ];
    let home = Home::new();
    let mut daemon = Daemon::start(&home.config(&config.concat()), &[]);
    daemon.ready();

    for (name, server) in [("starttls", &starttls), ("implicit", &implicit)] {
        let printed = home.done(&["alert", "test", name]);
        assert_eq!(printed.trim(), format!("{name}: took the test alert and its end"));
        let mails = until("two mails arrive", LONG, || {
            let mails: Vec<Value> =
                server.stdout.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (mails.len() >= 2).then_some(mails)
        });
        for mail in &mails {
            assert_eq!((&mail["tls"], &mail["login"]), (&json!(true), &json!(true)), "{mail}");
            assert_eq!(mail["to"], json!(["ops@example.org", "oncall@example.org"]));
        }
        let (opening, end) = (mails[0]["mail"].as_str().unwrap(), mails[1]["mail"].as_str().unwrap());
        assert!(opening.contains("Subject: TEST, INFO: ") && opening.contains("text/html"), "{opening}");
        assert!(end.contains("Subject: TEST, RESOLVED: ") && end.contains("In-Reply-To: <"), "{end}");
    }

    let all = home.order(&["alert", "test"]);
    let printed = String::from_utf8_lossy(&all.stdout).into_owned();
    assert_eq!(all.status.code(), Some(1), "{printed}");
    let line =
        |name: &str| printed.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(line("starttls:").ends_with("took the test alert and its end"), "{printed}");
    assert!(
        line("wrong-login:").contains("the mail server refuses the login: ")
            && line("wrong-login:").contains("535"),
        "{printed}"
    );
    assert!(line("untrusted:").to_ascii_lowercase().contains("certificate"), "{printed}");
    assert!(!printed.contains("wr0ng") && !printed.contains("s3cret"), "{printed}");
    let none = home.order(&["alert", "test", "nobody"]);
    assert_eq!(none.status.code(), Some(1));
    daemon.stop();
}

#[test]
fn a_dead_mans_switch_is_asked_while_the_daemon_lives_and_metrics_count_it() {
    if !require_root() {
        return;
    }
    let (switch, chat, port, home) = (FakeService::start(&json!({})), fake_slack(), free_port(), Home::new());
    let config = home.config(&format!(
        "{}[heartbeat]\nurl = \"http://127.0.0.1:{}/ping/0f0f-uu1d\"\ninterval = \"1s\"\n",
        slack(&chat),
        switch.port
    ));
    let config = config.replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""));
    let mut daemon = Daemon::start(&config, &[]);
    daemon.ready();
    assert_eq!(switch.wait_for(1, LONG).what, "GET /ping/0f0f-uu1d");
    let metrics = until("a heartbeat is counted", LONG, || {
        let (_, metrics) = http::get(port, "/metrics").ok()?;
        let counted = metrics.lines().any(|line| {
            line.strip_prefix("hostprobe_heartbeats_elsewhere_total{outcome=\"sent\"} ")
                .is_some_and(|it| it != "0")
        });
        counted.then_some(metrics)
    });
    for line in [
        "hostprobe_heartbeats_elsewhere_total{outcome=\"failed\"} 0",
        "hostprobe_alerts_waiting{receiver=\"chat\"} 0",
        "hostprobe_alerts_total{receiver=\"chat\",outcome=\"sent\"} 0",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line} in {metrics}");
    }
    daemon.stop();
    let asked = switch.asked().len();
    assert!(asked >= 2, "{asked}");
}
