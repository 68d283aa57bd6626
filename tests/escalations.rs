//! Who gets an alert when: escalations (`after`) and reminders (`remind`), with a real daemon and real webhooks, also over
//! restarts of the daemon.

use std::{net::TcpListener, thread, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::free_port,
    incident_events::{is, text, wait_until_healthy},
    matrix::receiver::Receiver,
    operator::{End, Home, crash, end},
    parts::require_root,
    process::until,
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(90);

/// What an escalation waits for. A service is well again within a second of its port.
const AFTER: Duration = Duration::from_secs(15);

/// The shortest time between reminders that there is.
const REMIND: &str = "remind = \"10s\"\n";

/// A port of this host that is served, or not.
struct Port {
    number: u16,
    listener: Option<TcpListener>,
}

impl Port {
    fn open() -> Self {
        // Not one that the end of a client could take while it is closed.
        let number = free_port();
        Self { number, listener: Some(listening(number)) }
    }

    fn close(&mut self) {
        self.listener = None;
    }

    fn reopen(&mut self) {
        self.listener = Some(listening(self.number));
    }

    /// A service of which only the port is probed.
    fn service(&self, name: &str) -> String {
        format!(
            "[[service]]\nname = \"{name}\"\n[[service.probe]]\ntcp = \"127.0.0.1:{}\"\ninterval = \"200ms\"\n\
             timeout = \"2s\"\nfailures = 2\n",
            self.number
        )
    }
}

/// No process accepts its connections, of which each probe leaves one: more than 128 have to fit.
fn listening(port: u16) -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("its port is free");
    rustix::net::listen(&listener, 4096).expect("it listens");
    listener
}

/// What a receiver got: service, `firing` or `resolved`, and whether it is a reminder.
fn told(receiver: &Receiver) -> Vec<(String, String, bool)> {
    let field = |alert: &Value, name| text(alert, name).to_owned();
    let posted = receiver.posted();
    let each =
        posted.iter().map(|it| (field(it, "service.name"), field(it, "status"), it["reminder"] == true));
    each.collect()
}

/// How often a receiver got such a message about a service.
fn count(receiver: &Receiver, service: &str, status: &str, is_reminder: bool) -> usize {
    let wanted = (service.to_owned(), status.to_owned(), is_reminder);
    told(receiver).into_iter().filter(|it| *it == wanted).count()
}

#[track_caller]
fn wait_for(receiver: &Receiver, service: &str, status: &str) {
    let what = format!("{service} is {status}");
    until(&what, LONG, || (count(receiver, service, status, false) > 0).then_some(()));
}

fn messages(list: &[(&str, &str)]) -> Vec<(String, String, bool)> {
    list.iter().map(|&(service, status)| (service.to_owned(), status.to_owned(), false)).collect()
}

fn after(time: Duration) -> String {
    format!("after = \"{}s\"\n", time.as_secs())
}

/// The first receiver, the escalation, and two services.
fn config(home: &Home, first: &Receiver, second: &str, services: &[(&str, &Port)]) -> String {
    let services: String = services.iter().map(|(name, port)| port.service(name)).collect();
    home.config(&format!("{}{second}{services}", first.config()))
}

#[test]
fn what_lasts_is_escalated_once_and_only_those_who_were_told_of_it_get_its_end() {
    if !require_root() {
        return;
    }
    let (first, second, home) = (Receiver::start(), Receiver::start(), Home::new());
    let (mut short, mut lasting) = (Port::open(), Port::open());
    let escalation = second.config() + &after(AFTER);
    let config = config(&home, &first, &escalation, &[("short", &short), ("lasting", &lasting)]);
    let mut daemon = Daemon::start(&config, &[]);
    for name in ["short", "lasting"] {
        wait_until_healthy(&daemon, name);
    }
    // The escalation of the one that ends would be due before the other's.
    short.close();
    wait_for(&first, "short", "firing");
    lasting.close();
    wait_for(&first, "lasting", "firing");
    short.reopen();
    wait_for(&first, "short", "resolved");
    assert!(told(&second).is_empty(), "it is too soon");
    wait_for(&second, "lasting", "firing");
    lasting.reopen();
    wait_for(&second, "lasting", "resolved");
    wait_for(&first, "lasting", "resolved");
    daemon.stop();
    assert_eq!(told(&second), messages(&[("lasting", "firing"), ("lasting", "resolved")]));
    let all = [("short", "firing"), ("lasting", "firing"), ("short", "resolved"), ("lasting", "resolved")];
    assert_eq!(told(&first), messages(&all));
}

/// An escalation waits on over a restart of the daemon that ends like this, and is not sent again by a later one.
fn survives(how: End) {
    if !require_root() {
        return;
    }
    let (first, second, home) = (Receiver::start(), Receiver::start(), Home::new());
    let (mut short, mut lasting) = (Port::open(), Port::open());
    let escalation = second.config() + &after(AFTER);
    let config = config(&home, &first, &escalation, &[("short", &short), ("lasting", &lasting)]);
    let daemon = Daemon::start(&config, &[]);
    for name in ["short", "lasting"] {
        wait_until_healthy(&daemon, name);
    }
    short.close();
    wait_for(&first, "short", "firing");
    lasting.close();
    wait_for(&first, "lasting", "firing");
    end(daemon, how);
    short.reopen();

    let next = Daemon::start(&config, &[]);
    wait_for(&first, "short", "resolved");
    assert!(told(&second).is_empty(), "it is too soon");
    wait_for(&second, "lasting", "firing");
    next.wait_for(|event| is(event, "alert.send", "lasting"), LONG);
    end(next, how);

    let mut last = Daemon::start(&config, &[]);
    last.ready();
    lasting.reopen();
    wait_for(&second, "lasting", "resolved");
    wait_for(&first, "lasting", "resolved");
    last.stop();
    let all = [("short", "firing"), ("lasting", "firing"), ("short", "resolved"), ("lasting", "resolved")];
    for (receiver, all) in [(&first, &all[..]), (&second, &[all[1], all[3]])] {
        let mut told = told(receiver);
        if matches!(how, End::Crash) {
            // One that is killed before the file has a delivery sends it once more.
            told.dedup();
        }
        assert_eq!(told, messages(all), "{how:?}");
    }
}

#[test]
fn an_escalation_outlives_a_daemon_that_is_killed() {
    survives(End::Crash);
}

#[test]
fn an_escalation_outlives_a_daemon_that_is_restarted() {
    survives(End::Clean);
}

#[test]
fn an_escalation_that_fell_due_while_no_daemon_ran_is_sent_at_once_by_the_next() {
    if !require_root() {
        return;
    }
    let (first, second, home) = (Receiver::start(), Receiver::start(), Home::new());
    let mut port = Port::open();
    let escalation = second.config() + &after(Duration::from_secs(5));
    let config = config(&home, &first, &escalation, &[("api", &port)]);
    let daemon = Daemon::start(&config, &[]);
    wait_until_healthy(&daemon, "api");
    port.close();
    wait_for(&first, "api", "firing");
    crash(daemon);
    let too_soon = told(&second);
    // Longer than what was left of its time.
    thread::sleep(Duration::from_secs(5));
    assert_eq!((too_soon, told(&second)), (vec![], vec![]));
    let mut next = Daemon::start(&config, &[]);
    wait_for(&second, "api", "firing");
    port.reopen();
    wait_for(&second, "api", "resolved");
    wait_for(&first, "api", "resolved");
    next.stop();
    assert_eq!(told(&second), messages(&[("api", "firing"), ("api", "resolved")]));
}

#[test]
fn an_open_incident_is_repeated_unless_it_is_acknowledged_or_paused_until_it_is_over() {
    if !require_root() {
        return;
    }
    let (receiver, home) = (Receiver::start(), Home::new());
    let mut ports = [Port::open(), Port::open(), Port::open()];
    let [acknowledged, paused, open] = ["acknowledged", "paused", "open"];
    let services = [(acknowledged, &ports[0]), (paused, &ports[1]), (open, &ports[2])];
    let services: String = services.iter().map(|(name, port)| port.service(name)).collect();
    let config = home.config(&format!("{}{REMIND}{services}", receiver.config()));
    let daemon = Daemon::start(&config, &[]);
    for name in [acknowledged, paused, open] {
        wait_until_healthy(&daemon, name);
    }
    for (port, name) in ports.iter_mut().zip([acknowledged, paused, open]) {
        port.close();
        wait_for(&receiver, name, "firing");
    }
    let opened = daemon.wait_for(|event| is(event, "incident.open", acknowledged), LONG);
    home.done(&["ack", text(&opened, "incident.id")]);
    home.done(&["pause", paused, "--for", "1h"]);
    let reminders = |name| count(&receiver, name, "firing", true);
    let wait_for_reminders = |name, count| {
        let what = format!("{count} reminders of {name}");
        until(&what, LONG, || (reminders(name) >= count).then_some(()));
    };
    // Those of the others would have come before its second one.
    wait_for_reminders(open, 2);
    assert_eq!([reminders(acknowledged), reminders(paused)], [0, 0], "{:?}", told(&receiver));

    crash(daemon);
    let mut daemon = Daemon::start(&config, &[]);
    daemon.ready();
    wait_for_reminders(open, 4);
    assert_eq!([reminders(acknowledged), reminders(paused)], [0, 0], "{:?}", told(&receiver));

    // It is overdue once its pause is over.
    home.done(&["resume", paused]);
    wait_for_reminders(paused, 1);
    ports[2].reopen();
    wait_for(&receiver, open, "resolved");
    let before = reminders(open);
    wait_for_reminders(paused, 3);
    assert_eq!((reminders(open), reminders(acknowledged)), (before, 0), "{:?}", told(&receiver));
    for (at, name) in [(0, acknowledged), (1, paused)] {
        ports[at].reopen();
        wait_for(&receiver, name, "resolved");
    }
    daemon.stop();
    for name in [acknowledged, paused, open] {
        let each = ["firing", "resolved"].map(|status| count(&receiver, name, status, false));
        assert_eq!(each, [1, 1], "{name}: {:?}", told(&receiver));
    }
}
