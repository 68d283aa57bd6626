//! What an open dashboard and an open terminal view cost the daemon, how heavy the page is, and how soon a browser shows it.

use std::{net::TcpListener, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    section::{Effort, Row, Section, Unit},
    usage::window,
};
use crate::{
    browser::Browser,
    daemon::Daemon,
    http::{free_port, get},
    operator::Home,
    parts::require,
    terminal_view::{TMUX, View},
};

/// How many services there are in turn.
const SERVICES: [usize; 3] = [10, 100, 1_000];

/// The page with all its files may be as heavy, bytes.
const WEIGHT_LIMIT: f64 = 150e3;

/// What an open page may cost, percent of one core: it asks at most once a second.
const CPU_LIMIT: f64 = 5.0;

const METHOD: &str = "Services that are one listener and are probed every 60 s, so that the page is most of what the daemon does. \
Chromium, without a screen, shows the list of services; tmux has `hostprobe status --watch`. CPU is that of the daemon, with the \
page open, with the terminal view open, and without either. \
Times are the browser's own, from the request on, with a cache that is empty at first.";

/// The samples with one number of services.
#[derive(Default)]
struct Figures {
    open: Vec<f64>,
    watched: Vec<f64>,
    closed: Vec<f64>,
    paint: Vec<f64>,
    all: Vec<f64>,
}

pub fn measure(effort: Effort) -> Result<Section> {
    let (rounds, length) = effort.pick((3, Duration::from_secs(20)), (1, Duration::from_secs(3)));
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    let at = listener.local_addr()?.port();
    thread::spawn(move || listener.incoming().for_each(drop));
    let (mut rows, mut weight) = (Vec::new(), 0.0);
    for count in SERVICES {
        let mut figures = Figures::default();
        for _ in 0..rounds {
            let (home, port) = (Home::new(), free_port());
            let daemon = Daemon::start(&config(&home, count, at, port), &[]);
            daemon.ready();
            let Some(browser) = Browser::open(port) else { return Ok(unmeasured()) };
            browser.show("");
            browser.until_it_shows(&[&format!("{count} healthy")]);
            // Once more, after the probes of the start.
            browser.show("");
            drawn(&browser, count, &mut figures)?;
            figures.open.push(used(&daemon, length)?);
            weight = weigh(&browser, port)?;
            drop(browser);
            if require("tmux", TMUX) {
                let view = View::open(&home, (120, 40), "LC_ALL=C.UTF-8");
                view.until_it_shows(&[" q quit", "healthy"]);
                figures.watched.push(used(&daemon, length)?);
            }
            figures.closed.push(used(&daemon, length)?);
        }
        rows.extend(rows_of(count, &figures));
    }
    let row = Row::new("weight of the dashboard's page and files", Unit::Bytes).of("hostprobe", &[weight]);
    rows.push(row.at_most("", WEIGHT_LIMIT, |summary| summary.max));
    Ok(Section { rows, ..section() })
}

fn section() -> Section {
    Section {
        name: "dashboard".to_owned(),
        title: "A viewer".to_owned(),
        method: METHOD.to_owned(),
        rows: Vec::new(),
        further: String::new(),
        unmeasured: Vec::new(),
    }
}

fn unmeasured() -> Section {
    Section { unmeasured: vec!["Chromium and its driver are not installed.".to_owned()], ..section() }
}

/// A configuration of so many services, which all are one listener.
fn config(home: &Home, count: usize, listener: u16, port: u16) -> String {
    let services = (0..count).map(|number| {
        format!(
            "[[service]]\nname = \"svc-{number:04}\"\n[[service.probe]]\ntcp = \"127.0.0.1:{listener}\"\ninterval = \"60s\"\n"
        )
    });
    let services: String = services.collect();
    home.config(&services).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""))
}

/// The CPU time of the daemon in percent of one core.
fn used(daemon: &Daemon, length: Duration) -> Result<f64> {
    let used = window(&[vec![daemon.pid()]], length)?;
    Ok(used.first().context("the daemon has ended")?.percent())
}

/// Waits for all cards, and takes the times.
fn drawn(browser: &Browser, count: usize, figures: &mut Figures) -> Result<()> {
    let drawn = browser.wait(&format!(
        "const look = () => document.querySelectorAll('.card').length >= {count}
            ? requestAnimationFrame(() => setTimeout(() => done([performance.now(),
                performance.getEntriesByName('first-contentful-paint')[0]?.startTime]))) : setTimeout(look, 5); look()"
    ));
    let ns = |value: &Value| value.as_f64().map(|ms| ms * 1e6).context("the browser measured nothing");
    figures.all.push(ns(&drawn[0])?);
    figures.paint.push(ns(&drawn[1])?);
    Ok(())
}

/// The bytes of the page and of the files that the browser loaded for it.
fn weigh(browser: &Browser, port: u16) -> Result<f64> {
    let asked = browser.run(
        "return performance.getEntriesByType('resource').map((it) => new URL(it.name).pathname)
            .filter((path) => path.startsWith('/dashboard/'))",
    );
    let page = browser.wait("fetch('/', { headers: { Accept: 'text/html' } }).then((it) => it.text()).then((it) => done(it.length))");
    let mut weight = page.as_f64().context("the page has no length")?;
    let mut files: Vec<&str> = asked.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    files.sort_unstable();
    files.dedup();
    ensure!(files.len() > 5, "the page has the files {files:?} only");
    for file in files {
        weight += get(port, file)?.1.len() as f64;
    }
    Ok(weight)
}

fn rows_of(count: usize, figures: &Figures) -> Vec<Row> {
    let row =
        |what: &str, unit| Row::new(&format!("{what}, {} services", Unit::Count.show(count as f64)), unit);
    vec![
        row("CPU of one core, dashboard open", Unit::Percent)
            .of("hostprobe", &figures.open)
            .of("without a viewer", &figures.closed)
            .at_most("", CPU_LIMIT, |summary| summary.median),
        row("CPU of one core, `status --watch` open", Unit::Percent)
            .of("hostprobe", &figures.watched)
            .of("without a viewer", &figures.closed)
            .at_most("", CPU_LIMIT, |summary| summary.median),
        row("first paint of the dashboard", Unit::Nanoseconds).of("hostprobe", &figures.paint),
        row("all cards of the dashboard", Unit::Nanoseconds).of("hostprobe", &figures.all),
    ]
}
