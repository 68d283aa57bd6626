//! Probes of real servers in good, bad and slow states: a table of cases, run by one daemon, and its page in the docs.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemon::Daemon,
    incident_events::{is, text},
};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// The page with the table of each protocol.
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/probes.md");

/// One probe of a server in some state, and what is to be reported.
#[derive(Debug)]
pub struct Case {
    /// For a person: the state of the server, and what the probe has of its own.
    pub state: &'static str,
    /// The probe's keys.
    pub probe: String,
    pub reported: Reported,
}

/// What is reported of a service.
#[derive(Clone, Copy, Debug)]
pub enum Reported {
    Healthy,
    /// It is degraded with this verdict, and these words are in the reason.
    Degraded(&'static str, &'static str),
    /// An answer is right and later than `slow` allows. What follows depends on the load of the host.
    Slow,
    /// It is unhealthy, and held. The probe fails with this error, and these words are in its detail.
    Held(&'static str, &'static str),
}

impl Reported {
    fn words(self) -> String {
        match self {
            Self::Healthy => "healthy".to_owned(),
            Self::Degraded(verdict, words) => format!("degraded, `{verdict}`: “{words}”"),
            Self::Slow => "degraded, `slow`, or `overloaded` if the host is".to_owned(),
            Self::Held(error, words) => format!("unhealthy, held, `{error}`: “{words}”"),
        }
    }
}

/// A server, under the daemon's eyes as a process that something else started.
#[derive(Clone, Copy, Debug)]
pub struct Server<'s> {
    /// The heading of its table.
    pub title: &'s str,
    pub pid: u32,
}

/// Runs the cases of a server under one daemon, each as a service of its own that could be restarted. The page has to have
/// them all.
///
/// # Panics
/// If something else is reported, or a service is restarted.
pub fn run(server: Server<'_>, cases: &[Case], environment: &[(&str, &Path)]) {
    let folder = TempDir::new().expect("a folder");
    let mut config = "[http]\nlisten = \"\"\n".to_owned();
    for (nth, case) in cases.iter().enumerate() {
        // Two services may not watch the same, so that each has a pidfile of its own.
        let pidfile = folder.path().join(format!("{nth}.pid"));
        fs::write(&pidfile, server.pid.to_string()).expect("the folder can be written");
        config += &format!(
            "[[service]]\nname = \"case-{nth}\"\nmatch = {{ pidfile = {pidfile:?} }}\n\
             [service.restart]\nenabled = true\ncommand = [\"/bin/true\"]\ngrace = \"0s\"\n\
             [[service.probe]]\ninterval = \"300ms\"\ntimeout = \"5s\"\nfailures = 2\n{}\n",
            case.probe
        );
    }
    let mut daemon = Daemon::start_with(&config, &[], |command| {
        command.envs(environment.iter().map(|(name, value)| (*name, value.as_os_str())))
    });
    daemon.ready();
    for (nth, case) in cases.iter().enumerate() {
        wait_for(&daemon, &format!("case-{nth}"), case);
    }
    let restarted = |event: &Value| text(event, "event.action") == "restart.request";
    assert_eq!(daemon.count(restarted), 0, "{}", server.title);
    daemon.stop();
    on_page(server.title, cases);
}

fn wait_for(daemon: &Daemon, name: &str, case: &Case) {
    println!("{}: {case:?}", case.state);
    match case.reported {
        Reported::Healthy => {
            daemon.wait_for(
                |event| is(event, "service.state", name) && text(event, "service.state") == "healthy",
                LONG,
            );
            let opened = daemon.events().into_iter().find(|event| is(event, "incident.open", name));
            assert_eq!(opened, None, "{}", case.state);
        }
        Reported::Degraded(verdict, words) => {
            let open = daemon.wait_for(|event| is(event, "incident.open", name), LONG);
            assert_eq!(text(&open, "incident.verdict"), verdict, "{}: {open:#}", case.state);
            assert!(text(&open, "incident.summary").contains(words), "{}: {open:#}", case.state);
            daemon.wait_for(
                |event| is(event, "service.state", name) && text(event, "service.state") == "degraded",
                LONG,
            );
        }
        Reported::Slow => {
            let slow = daemon.wait_for(|event| is(event, "probe.slow", name), LONG);
            assert!(text(&slow, "message").contains("which is above its limit"), "{}: {slow:#}", case.state);
            daemon.wait_for(
                |event| is(event, "service.state", name) && text(event, "service.state") == "degraded",
                LONG,
            );
        }
        Reported::Held(error, words) => {
            let fail = daemon.wait_for(|event| is(event, "probe.fail", name), LONG);
            assert_eq!(text(&fail, "probe.error"), error, "{}: {fail:#}", case.state);
            assert!(text(&fail, "probe.detail").contains(words), "{}: {fail:#}", case.state);
            daemon.wait_for(|event| is(event, "restart.hold", name), LONG);
        }
    }
}

/// Asserts that the table below a heading has exactly these cases. With `UPDATE_DOCS`, writes it instead.
fn on_page(title: &str, cases: &[Case]) {
    let mut table = "| state | reported |\n|---|---|\n".to_owned();
    for case in cases {
        table += &format!("| {} | {} |\n", case.state, case.reported.words());
    }
    let page = fs::read_to_string(PAGE).expect("the page is there");
    let heading = format!("\n### {title}\n\n");
    let (before, rest) = page.split_once(&heading).unwrap_or_else(|| panic!("docs/probes.md lacks {title}"));
    let end = rest.find("\n\n").map_or(rest.len(), |end| end + 1);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, format!("{before}{heading}{table}{}", &rest[end..])).expect("the page is written");
        return;
    }
    assert_eq!(&rest[..end], table, "docs/probes.md; write it with UPDATE_DOCS=1");
}
