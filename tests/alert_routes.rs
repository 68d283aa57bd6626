//! Which receiver gets what, as receivers on the network get it: by service and severity, one message for one cause, and in
//! order through a receiver that asks for time.

use std::{net::TcpListener, path::Path, process::Command, time::Duration};

use hostprobe_tests::{
    fake_service::FakeService,
    http::free_port,
    incident_events::{is, number, text, wait_until_healthy},
    lab::probed::{QUICK, service, start, words},
    matrix::receiver::Receiver,
    parts::{Redis, built, require, require_root},
    process::{Running, until},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// A listener, and a service of which only its port is probed.
fn port_service(name: &str, keys: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let service = format!(
        "[[service]]\nname = \"{name}\"\n{keys}[[service.probe]]\ntcp = \"127.0.0.1:{port}\"\ninterval = \"200ms\"\n\
         timeout = \"2s\"\nfailures = 2\n"
    );
    (listener, service)
}

/// What a receiver got: service and status.
fn told(receiver: &Receiver) -> Vec<(String, String)> {
    let field = |alert: &Value, name| text(alert, name).to_owned();
    receiver.posted().iter().map(|it| (field(it, "service.name"), field(it, "status"))).collect()
}

#[track_caller]
fn wait_for(receiver: &Receiver, service: &str, status: &str) {
    let wanted = (service.to_owned(), status.to_owned());
    until(&format!("{service} is {status}"), LONG, || told(receiver).contains(&wanted).then_some(()));
}

#[test]
fn each_receiver_gets_the_services_and_severities_that_it_is_for() {
    if !require_root() {
        return;
    }
    let [all, databases, loud, web] = [0; 4].map(|_| Receiver::start());
    let (database, first) = port_service("db-1", "");
    let (page, second) = port_service("web", "critical = false\n");
    let receivers = [
        all.config(),
        databases.config() + "services = [\"db-*\"]\n",
        loud.config() + "min_severity = \"critical\"\n",
        web.config() + "services = [\"web\", \"host\"]\nmin_severity = \"info\"\n",
    ];
    let mut daemon = start(&(receivers.concat() + &first + &second));
    let ports = [&database, &page].map(|listener| listener.local_addr().expect("an address"));
    for name in ["db-1", "web"] {
        wait_until_healthy(&daemon, name);
    }
    drop((database, page));
    for name in ["db-1", "web"] {
        wait_for(&all, name, "firing");
    }
    let _listeners = ports.map(|port| TcpListener::bind(port).expect("its port is free"));
    for name in ["db-1", "web"] {
        wait_for(&all, name, "resolved");
    }
    // It hands over what is left.
    daemon.stop();
    let both = |name: &str| ["firing", "resolved"].map(|status| (name.to_owned(), status.to_owned()));
    assert_eq!(told(&all).len(), 4, "{:?}", told(&all));
    assert_eq!(told(&databases), both("db-1"));
    assert_eq!(told(&loud), both("db-1"), "web is only a warning");
    assert_eq!(told(&web), both("web"));
    let severities = all.posted();
    let severity = |name: &str| {
        let alert = severities.iter().find(|alert| text(alert, "service.name") == name);
        alert.map(|alert| text(alert, "incident.severity")).unwrap_or_default()
    };
    assert_eq!((severity("db-1"), severity("web")), ("critical", "warning"));
}

fn redis(port: u16, folder: &Path) -> Running {
    let command = Redis::command(port, folder);
    let mut process = Command::new(&command[0]);
    let process = Running::start(process.args(&command[1..]), Signal::KILL);
    process.wait_until_it_says("Ready to accept connections", &process.stdout, LONG);
    process
}

const APPS: [&str; 3] = ["app-1", "app-2", "app-3"];

#[test]
fn a_cause_with_three_dependents_is_one_message_which_names_them() {
    if !require_root() || !require("redis-server", Redis::PROGRAM) {
        return;
    }
    let (receiver, folder, port) = (Receiver::start(), TempDir::new().expect("a folder"), free_port());
    let chat = FakeService::start(&json!({"ok": true, "channel": "C024BE91L", "ts": "1503435956.000247"}));
    let mut cache = redis(port, folder.path());
    let mut config = receiver.config();
    config += &format!(
        "[[alert]]\nname = \"chat\"\nslack = \"http://127.0.0.1:{}/api\"\ntoken = \"xoxb-1\"\nchannel = \"#ops\"\n\
         [[service]]\nname = \"cache\"\n[[service.probe]]\nredis = \"redis://127.0.0.1:{port}\"\n{QUICK}\n",
        chat.port
    );
    for name in APPS {
        let own = free_port();
        let command = [built("app").display().to_string(), "--port".to_owned(), own.to_string()];
        let command = [&command[..], &words(&["--redis", &port.to_string()])[..]].concat();
        let probe = format!("http = \"http://127.0.0.1:{own}/health\"");
        config += &service(name, &command, &probe, QUICK, folder.path())
            .replace("[[service.probe]]", "depends_on = [\"cache\"]\n[[service.probe]]");
    }
    let mut daemon = start(&config);
    for name in ["cache"].iter().chain(&APPS) {
        wait_until_healthy(&daemon, name);
    }
    cache.stop();
    let posted = chat.wait_for(0, LONG);
    assert_eq!(posted.what, "POST /api/chat.postMessage");
    // The message is updated as the dependents are found to be held.
    let names_all = |body: &Value| {
        let text = body.to_string();
        text.contains("Held because of it") && APPS.iter().all(|name| text.contains(name))
    };
    until("the message names what is held", LONG, || {
        chat.asked().iter().any(|asked| names_all(&asked.body)).then_some(())
    });
    let _cache = redis(port, folder.path());
    wait_for(&receiver, "cache", "resolved");
    for name in APPS {
        daemon.wait_for(|event| is(event, "incident.resolve", name), LONG);
    }
    daemon.stop();

    let both = ["firing", "resolved"].map(|status| ("cache".to_owned(), status.to_owned()));
    assert_eq!(told(&receiver), both, "one message, and its end");
    let mut held: Vec<String> =
        serde_json::from_value(receiver.posted()[1]["incident"]["held"].clone()).expect("a list");
    held.sort();
    assert_eq!(held, APPS);
    let (new, updates): (Vec<_>, Vec<_>) =
        chat.asked().into_iter().partition(|asked| asked.what == "POST /api/chat.postMessage");
    assert_eq!(new.len(), 1, "{new:?}");
    assert!(updates.iter().all(|asked| asked.what == "POST /api/chat.update"), "{updates:?}");
    assert!((2..=APPS.len() + 1).contains(&updates.len()), "{updates:?}");
}

#[test]
fn a_receiver_that_asks_for_time_gets_it_and_all_alerts_in_order() {
    if !require_root() {
        return;
    }
    const PAUSE: Duration = Duration::from_secs(4);
    let fake = FakeService::start(&json!({}));
    fake.refuse_next(&format!("429 Too Many Requests\r\nRetry-After: {}", PAUSE.as_secs()));
    let (first, one) = port_service("one", "");
    let (second, two) = port_service("two", "");
    let mut daemon = start(&format!(
        "[[alert]]\nname = \"hook\"\nwebhook = \"http://127.0.0.1:{}/\"\n{one}{two}",
        fake.port
    ));
    for name in ["one", "two"] {
        wait_until_healthy(&daemon, name);
    }
    let port = first.local_addr().expect("an address");
    drop(first);
    let refused = fake.wait_for(0, LONG);
    // They happen while the receiver wants no message.
    drop(second);
    daemon.wait_for(|event| is(event, "incident.open", "two"), LONG);
    let _first = TcpListener::bind(port).expect("its port is free");
    daemon.wait_for(|event| is(event, "incident.resolve", "one"), LONG);

    let asked = [1, 2, 3].map(|number| fake.wait_for(number, LONG));
    let waited = asked[0].at.duration_since(refused.at);
    assert!((PAUSE..LONG).contains(&waited), "{waited:?}");
    let what = |body: &Value| (text(body, "service.name").to_owned(), text(body, "status").to_owned());
    let of = |service: &str, status: &str| (service.to_owned(), status.to_owned());
    assert_eq!(what(&refused.body), of("one", "firing"));
    let told = asked.map(|asked| what(&asked.body));
    let of_one: Vec<_> = told.iter().filter(|(service, _)| service == "one").collect();
    assert_eq!(of_one, [&of("one", "firing"), &of("one", "resolved")], "{told:?}");
    assert!(told.contains(&of("two", "firing")), "{told:?}");
    let sent = daemon.wait_for(|event| is(event, "alert.send", "one"), LONG);
    assert_eq!(number(&sent, "alert.attempts"), Some(2), "{sent}");
    daemon.stop();
    let fails: Vec<Value> =
        daemon.events().into_iter().filter(|event| text(event, "event.action") == "alert.fail").collect();
    assert_eq!(fails.len(), 1, "one outage, one complaint: {fails:#?}");
    assert!(fails[0].to_string().contains("429"), "{}", fails[0]);
    assert_eq!(fake.asked().len(), 4, "{:?}", fake.asked());
}
