//! The dashboard in a real browser.

use std::{
    fmt::Write as _,
    fs::Permissions,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant, SystemTime},
};

use hostprobe_tests::{
    browser::{Browser, PATIENCE, axe},
    daemon::{Daemon, field},
    http::free_port,
    incident_events::{is, text},
    operator::Home,
    parts::require_root,
    process::{cpu_time, kill},
    supervised::Supervised,
};
use serde_json::{Value, json};

/// A daemon with a dashboard: a service that stays down once it has died, and one that needs it.
struct Watched {
    _home: Home,
    service: Supervised,
    port: u16,
    config: String,
}

impl Watched {
    fn new() -> Self {
        let (home, service, port) = (Home::new(), Supervised::new(), free_port());
        let mut config =
            home.supervising(&service).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""));
        write!(
            config,
            "interval = \"300ms\"\n[service.restart]\nenabled = false\n[[service]]\nname = \"front\"\n\
             depends_on = [{:?}]\n[[service.probe]]\nhttp = \"http://127.0.0.1:{}/health\"\ninterval = \"300ms\"\n",
            service.name, service.port
        )
        .expect("a text");
        Self { _home: home, service, port, config }
    }

    fn daemon(&self) -> Daemon {
        let daemon = Daemon::start(&self.config, &[]);
        self.service.until_healthy(&daemon);
        daemon.wait_for(
            |event| is(event, "service.state", "front") && text(event, "service.state") == "healthy",
            PATIENCE,
        );
        daemon
    }

    /// Ends the service. Returns its incident.
    fn fail(&self, daemon: &Daemon) -> String {
        let mark = daemon.mark();
        kill(self.service.pid(daemon));
        let opened = |event: &Value| is(event, "incident.open", &self.service.name);
        text(&daemon.wait_for_after(mark, opened, PATIENCE), "incident.id").to_owned()
    }
}

/// Notes in `window.seen` when a card first has a state, by the clock of the host.
fn watch_for(service: &str, state: &str) -> String {
    format!(
        "window.seen = null; new MutationObserver(() => {{
            const card = [...document.querySelectorAll('.card')].find((it) => it.dataset.name === {service:?});
            if (card?.classList.contains({state:?})) window.seen ??= Date.now();
        }}).observe(document.querySelector('.cards'), {{ subtree: true, childList: true, attributes: true }})"
    )
}

fn now_ms() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs_f64() * 1000.0
}

#[test]
fn each_view_is_shown_and_a_death_is_seen_within_a_second() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let Some(browser) = Browser::open(watched.port) else { return };
    let daemon = watched.daemon();
    let name = &watched.service.name;
    browser.dress(900, 620, "light");
    browser.show("");
    browser.until_it_shows(&["2 healthy", name, "front", "kernel hooks are attached", "Live, state of "]);

    browser.run(&watch_for(name, "down"));
    let begun = now_ms();
    let incident = watched.fail(&daemon);
    browser.until("the death", || !browser.run("return window.seen").is_null());
    let took = browser.run("return window.seen").as_f64().expect("a number") - begun;
    println!("SIGKILL → the card says down: {took:.0} ms");
    assert!(took < 1000.0, "{took} ms");
    browser.until_it_shows(&["killed", "incident.open", "1 down"]);
    let first = browser.run("return document.querySelector('.card a').textContent");
    assert_eq!(first, json!(name), "what needs attention comes first");
    browser.until("the states are read aloud", || {
        let said = browser.run("return document.getElementById('announcement').textContent");
        said.as_str().is_some_and(|said| said.contains(" is down"))
    });
    browser.until_it_shows(&["2 open incidents", "1 unhealthy", "Holds back: front"]);
    browser.picture("dashboard-light.png");
    browser.dress(900, 620, "dark");
    browser.picture("dashboard-dark.png");

    // The filter hides all others.
    let shown = "const input = document.getElementById('filter'); input.value = 'front';
        input.dispatchEvent(new Event('input'));
        return [...document.querySelectorAll('.card')].filter((it) => !it.hidden).map((it) => it.dataset.name)";
    assert_eq!(browser.run(shown), json!(["front"]));

    browser.show("incidents");
    browser.until_it_shows(&[&incident, "open", "killed"]);
    let link =
        format!("[...document.querySelectorAll('main a')].find((it) => it.hash === '#/incident/{incident}')");
    browser.run(&format!("{link}.click()"));
    let evidence = "return document.querySelectorAll('.timeline .evidence').length";
    browser.until("the evidence", || browser.run(evidence).as_u64().is_some_and(|count| count > 0));
    browser.until_it_shows(&[
        "Confidence",
        "100 %",
        "process.exit",
        &format!("hostprobe ack {incident}"),
        "Times since the fault",
    ]);
    assert_eq!(browser.run("return location.hash"), json!(format!("#/incident/{incident}")));
    browser.picture("dashboard-incident.png");

    browser.show("map");
    browser
        .until_it_shows(&["needs", &format!("declared; {name} is down, the cause of an incident: killed")]);
    let cause = browser
        .run("return [...document.querySelectorAll('.map .cause')].map((it) => it.getAttribute('href'))");
    assert_eq!(cause, json!([format!("#/service/{name}")]));
    let focus =
        "const node = document.querySelector('.map a'); node.focus(); return document.activeElement === node";
    assert_eq!(browser.run(focus), json!(true), "the map is for keys too");

    browser.show(&format!("service/{name}"));
    browser.until_it_shows(&["Needed by", "of the last 24 hours", "of the last 30 days", &incident]);
    browser.show("uptime");
    browser.until_it_shows(&["The share of the time", "of the last 30 days"]);
    browser.insist_on_a_clean_page();
    browser.show("incident/none");
    browser.until_it_shows(&["there is no incident"]);
}

#[test]
fn the_page_says_that_the_daemon_is_gone_and_goes_on_with_the_next_one() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let Some(browser) = Browser::open(watched.port) else { return };
    let mut daemon = watched.daemon();
    browser.show("");
    browser.until_it_shows(&["2 healthy", "Live, state of "]);
    assert!(daemon.stop().success());
    let shown = browser.until_it_shows(&["Connection lost, last known state of ", "front"]);
    let (_, at) = shown.split_once("last known state of ").expect("a time");
    assert_eq!(at.get(2..3).zip(at.get(5..6)), Some((":", ":")), "{shown}");
    let daemon = watched.daemon();
    browser.until("the next daemon", || browser.text().contains("Live, state of "));
    let incident = watched.fail(&daemon);
    browser.until_it_shows(&["1 down", "incident.open"]);
    browser.show(&format!("incident/{incident}"));
    browser.until_it_shows(&["Timeline", "killed"]);
}

/// A part of a page, the end of a script, and a text that goes from right to left.
const HOSTILE: &str = "<img src=x onerror=\"window.hacked=1;document.title='hacked'\"></script><script>window.hacked=1</script>\u{202e}txet";

/// How the page shows its end.
const SHOWN: &str = "<script>window.hacked=1</script>\\u{202e}txet";

/// A Redis that answers each command with a hostile error.
fn hostile_redis() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            // A client that went away misses it.
            let _ = stream.write_all(format!("-ERR {HOSTILE}\r\n").as_bytes());
        }
    });
    port
}

#[test]
fn texts_of_others_are_shown_as_texts() {
    if !require_root() {
        return;
    }
    let (home, service, port) = (Home::new(), Supervised::new(), free_port());
    let script = service.folder().join("script.sh");
    std::fs::write(&script, format!("cat <<'END'\n{HOSTILE}\nEND\nsleep 2\nexit 3\n"))
        .expect("it is written");
    let services = format!(
        "{}[service.restart]\nenabled = false\n[[service]]\nname = \"cache\"\n[[service.probe]]\n\
         redis = \"redis://127.0.0.1:{}\"\ninterval = \"200ms\"\nfailures = 1\n",
        service.service(&["/bin/sh", &script.display().to_string()]),
        hostile_redis()
    );
    let config = home.config(&services).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""));
    let Some(browser) = Browser::open(port) else { return };
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    browser.show("");
    browser.until_it_shows(&["cache", SHOWN]);
    let logged = |event: &Value| {
        is(event, "incident.update", &service.name) && field(event, "incident.logs").is_some()
    };
    let incident = text(&daemon.wait_for(logged, PATIENCE), "incident.id").to_owned();
    browser.show(&format!("incident/{incident}"));
    browser.until_it_shows(&["Last log lines", SHOWN]);
    // A name in the address is another's text too.
    for view in
        ["", "incidents", &format!("service/{HOSTILE}"), &format!("incident/{HOSTILE}"), "service/%ff"]
    {
        browser.show(view);
        browser.until_it_shows(&["hostprobe", "Live, state of "]);
        let harm = browser.run(
            "return [window.hacked ?? null, document.querySelectorAll('main img, main script').length,
                document.title.includes('hostprobe'), /[\\u202e]/.test(document.documentElement.innerHTML)]",
        );
        assert_eq!(harm, json!([null, 0, true, false]), "{view}");
    }
    let refused: Vec<String> =
        browser.log().into_iter().filter(|line| !line.contains("status of 404")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn evidence_that_the_page_does_not_know_is_shown() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let Some(browser) = Browser::open(watched.port) else { return };
    let _daemon = watched.daemon();
    // A fake answer of the daemon, with fields that no version has.
    let fake = json!({
        "service": "front", "open": true, "left_out": 3, "missing": ["a-1"], "timeline": [],
        "incident": { "id": "a-i1", "verdict": "crashed", "weather": { "wind": "north", "gusts": [1, { "at": "noon" }] },
            "omens": ["a crow", "<b>two crows</b>"] },
    });
    let script = format!(
        "const real = window.fetch; window.fetch = (path, options) => path.includes('/incidents/')
            ? Promise.resolve(new Response(JSON.stringify({fake}))) : real(path, options)"
    );
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script }));
    browser.show("incident/a-i1");
    browser.until_it_shows(&[
        "weather",
        "wind",
        "north",
        "gusts",
        "noon",
        "omens",
        "<b>two crows</b>",
        "3 events in the middle",
    ]);
}

#[test]
fn nobody_is_kept_out_by_size_colour_or_lack_of_a_mouse() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let Some(browser) = Browser::open(watched.port) else { return };
    let Some(axe) = axe() else { return };
    let daemon = watched.daemon();
    let incident = watched.fail(&daemon);
    let views = [
        ("", "1 down"),
        ("incidents", "killed"),
        (&*format!("incident/{incident}"), "Timeline"),
        ("map", "As a list"),
        ("uptime", "of the last 30 days"),
        ("service/front", "of the last 30 days"),
    ];
    for (width, scheme) in [(1200, "light"), (1200, "dark"), (360, "light"), (360, "dark")] {
        browser.dress(width, 800, scheme);
        for (view, word) in views {
            browser.show(view);
            browser.until_it_shows(&[word, "Live, state of "]);
            let found = browser.barriers(&axe);
            assert_eq!(found, json!([]), "{view} {width} {scheme}: {found:#}");
            let wide = browser.run("return document.documentElement.scrollWidth - innerWidth");
            assert_eq!(wide.as_f64().map(|it| it <= 0.0), Some(true), "{view} is wider than {width}: {wide}");
        }
    }
}

#[test]
fn with_a_token_the_page_lives_once_the_browser_has_it() {
    if !require_root() {
        return;
    }
    let watched = Watched::new();
    let Some(browser) = Browser::open(watched.port) else { return };
    let file = watched.service.folder().join("token");
    std::fs::write(&file, TOKEN).expect("it is written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    let config = watched.config.replacen("[http]\n", &format!("[http]\ntoken_file = {file:?}\n"), 1);
    let daemon = Daemon::start(&config, &[]);
    watched.service.until_healthy(&daemon);
    // As if its user had typed it: the driver has no dialogue for that.
    browser.visit(&format!("http://anyone:{TOKEN}@127.0.0.1:{}/health", watched.port));
    browser.show("");
    browser.until_it_shows(&["front", "Live, state of "]);
    watched.fail(&daemon);
    browser.until_it_shows(&["killed", "incident.open", "1 down"]);
    // For the health, which is no page of its own, the browser asks for an icon.
    let refused: Vec<String> =
        browser.log().into_iter().filter(|line| !line.contains("/favicon.ico")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(!browser.text().contains(TOKEN) && !daemon.log().contains(TOKEN));
}

const TOKEN: &str = "correct-horse-battery-staple";

/// A configuration of so many services, which all are one listener, and are asked seldom.
fn many(home: &Home, count: usize, listener: u16, port: u16) -> String {
    let services = (0..count).map(|number| {
        format!("[[service]]\nname = \"svc-{number:04}\"\n[[service.probe]]\ntcp = \"127.0.0.1:{listener}\"\ninterval = \"60s\"\n")
    });
    let services: String = services.collect();
    home.config(&services).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{port}\""))
}

#[test]
fn a_thousand_services_are_shown_at_once_and_cost_the_daemon_little() {
    if !require_root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let at = listener.local_addr().expect("its address").port();
    thread::spawn(move || listener.incoming().for_each(drop));
    for count in [10, 100, 1000] {
        let (home, port) = (Home::new(), free_port());
        let Some(browser) = Browser::open(port) else { return };
        let daemon = Daemon::start(&many(&home, count, at, port), &[]);
        daemon.ready();
        let sum = format!("{count} healthy");
        browser.show("");
        browser.until_it_shows(&[&sum]);
        // The probes of the start are over.
        let cost = |what: &str| {
            let (begun, cpu) = (Instant::now(), cpu_time(daemon.pid()).expect("it runs"));
            thread::sleep(Duration::from_secs(10));
            let used = cpu_time(daemon.pid()).expect("it runs") - cpu;
            let share = used as f64 / 1e7 / begun.elapsed().as_secs_f64();
            println!("{count} services, {what}: the daemon uses {share:.2} % of a CPU");
            share
        };
        let open = cost("dashboard open");
        if count == 1000 {
            measure_page(&browser, &home, count);
        }
        drop(browser);
        let closed = cost("no dashboard");
        assert!(open - closed < 10.0, "{open} % and {closed} %");
    }
}

/// How soon the page shows many services, and a change of one of them.
fn measure_page(browser: &Browser, home: &Home, count: usize) {
    browser.show("");
    let drawn = browser.wait(
        "const look = () => document.querySelectorAll('.card').length >= 1000
            ? requestAnimationFrame(() => setTimeout(() => done([performance.now(),
                performance.getEntriesByName('first-contentful-paint')[0]?.startTime]))) : setTimeout(look, 5); look()",
    );
    let ms = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    println!(
        "{count} services: first paint after {:.0} ms, all cards after {:.0} ms",
        ms(&drawn[1]),
        ms(&drawn[0])
    );
    assert!(ms(&drawn[0]) < 10_000.0, "{drawn}");
    browser.run(
        "window.longest = 0; new PerformanceObserver((list) => list.getEntries().forEach((entry) =>
            { window.longest = Math.max(window.longest, entry.duration); })).observe({ type: 'longtask' })",
    );
    let begun = now_ms();
    home.done(&["pause", "svc-0500", "--for", "1h", "--reason", "measured"]);
    let seen = browser.wait(
        "const look = () => document.querySelector('[data-name=svc-0500]').textContent.includes('measured')
            ? done(Date.now()) : setTimeout(look, 5); look()",
    );
    let longest = browser.run("return window.longest");
    println!(
        "{count} services: command → shown {:.0} ms, longest task of the page {:.0} ms",
        ms(&seen) - begun,
        ms(&longest)
    );
    assert!(ms(&seen) - begun < 5000.0, "{seen}");
}
