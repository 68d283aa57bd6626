//! Files of the right shape that mean nothing good, or something worth a warning.

use super::*;

/// A service with a probe that works, and these lines more in the service.
fn service(lines: &str) -> String {
    format!("[[service]]\nname = \"a\"\nunit = \"a.service\"\n{lines}")
}

/// A remote service with one probe of these lines, which begin on line 4.
fn probe(lines: &str) -> String {
    format!("[[service]]\nname = \"a\"\n[[service.probe]]\n{lines}")
}

#[test]
fn a_service_is_one_thing() {
    refused(
        "[[service]]\nname = \"a\"\nexec = [\"/a\"]\nunit = \"a.service\"",
        &[
            "4:8: service `a` has both `exec` and `unit`; expected at most one of `unit`, `exec`, `container` and `match`",
        ],
    );
    refused(
        "[[service]]\nname = \"a\"",
        &[
            "1:1: service `a` gives nothing to watch; expected `unit`, `exec`, `container`, `match` or a [[service.probe]]",
        ],
    );
    refused(
        &service("output = \"/x\""),
        &["4:10: `output` in a service without `exec`; expected it beside `exec` only"],
    );
    refused("[[service]]\nunit = \"a.service\"", &["1:1: a service without a name; expected `name = \"…\"`"]);
    refused(
        "[[service]]\nname = \"a b\"\nunit = \"ab\"",
        &[
            "2:8: found \"a b\"; expected a name of 1 to 64 letters (A-Z, a-z), digits, dots, hyphens and underscores",
            "3:8: found \"ab\"; expected the full name of a unit such as \"nginx.service\"",
        ],
    );
    refused(
        "[[service]]\nname = \"a\"\nexec = [\"python3\"]\noutput = \"x.log\"\n[[service]]\nname = \"b\"\nexec = []",
        &[
            "3:9: found \"python3\"; expected the absolute path of a program, which is not looked up in PATH",
            "4:10: found \"x.log\"; expected an absolute path",
            "7:8: `exec` is empty; expected a program and its arguments",
        ],
    );
}

#[test]
fn an_empty_match_is_an_error() {
    let matched = |lines: &str| format!("[[service]]\nname = \"a\"\nmatch = {lines}");
    refused(
        &matched("{}"),
        &[
            "3:9: `match` is empty; expected at least one of `exe`, `pidfile`, `port`, `cgroup` and `container`",
        ],
    );
    refused(
        &matched("{ exe = \"nginx\", port = 0, container = \"we/b\" }"),
        &[
            "3:17: found \"nginx\"; expected an absolute path",
            "3:33: `port` is 0; expected a whole number from 1 to 65535",
            "3:48: found \"we/b\"; expected 12 to 64 hexadecimal digits of a container's id, or the name of an LXC container",
        ],
    );
}

#[test]
fn a_hook_has_events_verdicts_and_a_program_that_exist() {
    refused(
        "[[hook]]\non = [\"incident.opn\"]\ncommand = [\"/a\"]",
        &[
            "2:7: found \"incident.opn\"; expected \"incident.open\", \"incident.resolve\", \"restart.before\" or \
             \"restart.after\"",
        ],
    );
    refused(
        "[[hook]]\non = []\nverdicts = [\"crash_lop\", \"nothing\"]\ncommand = [\"failover\"]",
        &[
            "2:6: a hook without an event; expected `on = [\"incident.open\"]` or the like",
            "3:13: found \"crash_lop\"; expected \"crash_loop\"",
            "3:26: found \"nothing\"; expected a verdict such as \"crashed\"",
            "4:12: found \"failover\"; expected the absolute path of a program, which is not looked up in PATH",
        ],
    );
    refused(
        "[[hook]]\non = [\"restart.after\"]",
        &["1:1: a hook without a program; expected `command = [\"/…\"]`"],
    );
    let hook = |timeout: &str| {
        format!("[[hook]]\non = [\"restart.before\"]\ncommand = [\"/a\"]\ntimeout = \"{timeout}\"")
    };
    refused(&hook("2m"), &["4:11: `timeout` is 2m; expected from 100ms to 1m"]);
    assert_eq!(parse(&hook("1m")).unwrap().hooks[0].timeout.as_secs(), 60);
}

#[test]
fn a_hook_of_services_that_there_are_not_is_remarkable() {
    let hook = |services: &str| {
        format!(
            "[[hook]]\non = [\"incident.open\"]\ncommand = [\"/a\"]\nservices = [{services}]\n{}",
            service("")
        )
    };
    assert_eq!(super::warned(&hook("\"a\", \"*\"")), [""; 0]);
    assert_eq!(
        super::warned(&hook("\"a*\", \"db-*\", \"b\"")),
        ["4:19: \"db-*\": no [[service]] has such a name", "4:27: \"b\": no [[service]] has such a name"]
    );
}

#[test]
fn no_two_services_are_the_same() {
    let text = format!("{}{}", service(""), service(""));
    refused(&text, &["5:8: another service is named \"a\" already; expected a name of its own"]);
    let text = format!("{}[[service]]\nname = \"b\"\nunit = \"a.service\"", service(""));
    refused(&text, &["6:8: service `a` watches the same; expected one service for it"]);
}

#[test]
fn dependencies_exist_and_do_not_turn_in_circles() {
    let services = |of_a: &str, of_b: &str, of_c: &str| {
        let one = |name, on| {
            format!("[[service]]\nname = \"{name}\"\nunit = \"{name}.service\"\ndepends_on = [{on}]\n")
        };
        one("orders-db", of_a) + &one("cache", of_b) + &one("api", of_c)
    };
    refused(
        &services("", "", "\"order-db\", \"cash\", \"mail\""),
        &[
            "12:15: unknown service \"order-db\" (did you mean `orders-db`?); expected the name of a service in this file",
            "12:27: unknown service \"cash\" (did you mean `cache`?); expected the name of a service in this file",
            "12:35: unknown service \"mail\"; expected the name of a service in this file",
        ],
    );
    refused(
        &services("\"api\"", "\"orders-db\"", "\"cache\""),
        &[
            "8:15: a dependency cycle: orders-db → api → cache → orders-db; expected no service to depend on itself, even through others",
        ],
    );
    refused(
        &services("", "", "\"cache\", \"api\""),
        &[
            "12:24: a dependency cycle: api → api; expected no service to depend on itself, even through others",
        ],
    );
    assert_eq!(
        parse(&services("", "\"orders-db\"", "\"cache\", \"cache\", \"orders-db\"")).unwrap().services[2]
            .depends_on,
        [ServiceId(1), ServiceId(0)]
    );
}

#[test]
fn a_probe_speaks_one_protocol_with_its_own_options() {
    const ONE: &str = "expected exactly one of `http`, `tcp`, `unix`, `udp`, `exec`, `heartbeat`, `grpc`, `dns`, `icmp`, `redis`, `postgres` and `mysql`";
    refused(&probe("interval = \"1s\""), &[&format!("3:1: a probe without a protocol; {ONE}")]);
    refused(
        &probe("tcp = \"h:1\"\nhttp = \"http://h\""),
        &[&format!("5:8: a probe has both `tcp` and `http`; {ONE}")],
    );
    refused(
        &probe("udp = \"h:1\"\nexpect = { contains = \"a\", starts_with = \"b\", body_contains = \"c\" }"),
        &[
            "4:7: a udp probe without `send`; expected the bytes of a datagram that the server answers",
            "5:23: both `starts_with` and `contains`; expected one of them",
            "5:63: `body_contains` in what a udp probe expects; expected it in http probes only",
        ],
    );
    refused(
        &probe("unix = \"run/x.sock\"\nsend = '\\q'\nlogin_required = true"),
        &[
            "5:8: found '\\q'; expected a text in which only `r`, `n`, `t`, `0`, `\\` and `xNN` may follow a `\\`, and \
           only ${NAME} a `$` with a brace",
        ],
    );
    refused(
        &probe(
            "tcp = \"h:1\"\nexpect = { status = [200] }\nmemory_percent = 5\nconnections_percent = 5\nrole = \"primary\"\n\
             wait = \"1m\"",
        ),
        &[
            "5:22: `status` in what a tcp probe expects; expected it in http probes only",
            "6:18: `memory_percent` in a tcp probe; expected it in redis probes only",
            "7:23: `connections_percent` in a tcp probe; expected it in postgres and mysql probes only",
            "8:8: `role` in a tcp probe; expected it in redis and postgres and mysql probes only",
            "9:8: `wait` in a tcp probe; expected it in postgres probes only",
        ],
    );
    refused(
        &probe(
            "redis = \"redis://h\"\ninterval = \"1ms\"\ntimeout = \"2h\"\nfailures = 0\nmemory_percent = 101",
        ),
        &[
            "5:12: `interval` is 1ms; expected from 100ms to 24h",
            "6:11: `timeout` is 2h; expected from 1ms to 1h",
            "7:12: `failures` is 0; expected a whole number from 1 to 1000",
            "8:18: `memory_percent` is 101; expected a whole number from 1 to 100",
        ],
    );
    refused(
        &probe("http = \"http://h\"\nexpect = { status = [200, 20] }"),
        &["5:27: `status` is 20; expected a whole number from 100 to 599"],
    );
}

#[test]
fn an_address_fits_its_protocol_and_is_never_repeated() {
    let http = "expected an address such as \"http://127.0.0.1:8080/health\"";
    let tcp = "expected a host and a port such as \"127.0.0.1:8080\"";
    let redis = "expected an address such as \"redis://127.0.0.1:6379\"";
    let postgres = "expected an address such as \"postgres://user@127.0.0.1/database\"";
    let hint = "(special characters of a password are written as %XX)";
    for (line, expected) in [
        ("http = \"ftp://u:s3cret@h\"", format!("4:8: a wrong address; {http}")),
        ("http = \"http://\"", format!("4:8: a wrong address: empty host {hint}; {http}")),
        (
            "http = \"http://u:s3c/ret@h\"",
            format!("4:8: a wrong address: invalid port number {hint}; {http}"),
        ),
        ("tcp = \"h\"", format!("4:7: a wrong address; {tcp}")),
        ("tcp = \"h:70000\"", format!("4:7: a wrong address; {tcp}")),
        ("tcp = \"::1:80\"", format!("4:7: a wrong address; {tcp}")),
        (
            "redis = \"redis://h/x\"",
            format!("4:9: a wrong Redis address: only a database number may follow the host; {redis}"),
        ),
        ("postgres = \"mysql://h\"", format!("4:12: a wrong address; {postgres}")),
        (
            "postgres = \"postgres://u@h/d?port=x\"",
            format!("4:12: a wrong PostgreSQL address: invalid value for option `port`; {postgres}"),
        ),
        ("postgres = \"postgres:///d\"", format!("4:12: an address without a host; {postgres}")),
        (
            "mysql = \"mysql://\"",
            "4:9: an address without a host; expected an address such as \"mysql://127.0.0.1:3306\""
                .to_owned(),
        ),
        (
            "mysql = \"mysql://u@h/d?color=red\"",
            "4:9: a wrong MySQL address: unknown option `color`; expected an address such as \"mysql://127.0.0.1:3306\""
                .to_owned(),
        ),
        (
            "mysql = \"mysql://h\"\nconnections_percent = 90",
            "5:23: `connections_percent` needs a login; expected a user in the address, such as \"mysql://probe@127.0.0.1:3306\""
                .to_owned(),
        ),
        (
            "http = \"http://h/${NOWHERE}\"",
            "4:8: the environment variable NOWHERE is not set or empty; expected it to be set for the daemon"
                .to_owned(),
        ),
        (
            "tcp = \"h:1\"\npassword_file = \"x\"",
            "5:17: found \"x\"; expected the absolute path of a file that holds the password alone"
                .to_owned(),
        ),
    ] {
        refused(&probe(line), &[&expected]);
    }
    for line in [
        "tcp = \"[::1]:80\"",
        "redis = \"redis://h/1\"",
        "mysql = \"mysql://h\"",
        "mysql = \"mysql://u@h/d\"\nconnections_percent = 90",
        "postgres = \"postgresql://u@%2Frun%2Fpostgresql/d\"",
    ] {
        assert_eq!(warned(&probe(line)), [""; 0], "{line}");
    }
}

#[test]
fn events_go_to_one_output_or_to_several() {
    let outputs = |text: &str| parse(&format!("[events]\noutput = {text}")).unwrap().events;
    let tcp = EventOutput::Tcp { host: "h".to_owned(), port: 1 };
    assert_eq!(outputs("\"tcp:h:1\""), std::slice::from_ref(&tcp));
    assert_eq!(
        outputs("[\"-\", \"journald\", \"unix:/x\", \"tcp:h:1\"]"),
        [EventOutput::Stdout, EventOutput::Journald, EventOutput::Unix("/x".into()), tcp]
    );
    let expected =
        r#"expected "-", the absolute path of a file, "unix:/path", "tcp:host:port" or "journald""#;
    refused("[events]\noutput = \"tcp:h\"", &[&format!("2:10: found \"tcp:h\"; {expected}")]);
    refused("[events]\noutput = [\"-\", \"log\"]", &[&format!("2:16: found \"log\"; {expected}")]);
    refused("[events]\noutput = []", &["2:10: `output` is empty; expected at least one output"]);
    refused(
        "[events]\noutput = [\"/a\", \"-\", \"/a\"]",
        &["2:10: `output` has /a twice; expected each output once"],
    );
}

#[test]
fn a_restart_has_a_way_to_be_done() {
    refused(
        &probe("tcp = \"h:1\"\n[service.restart]\nenabled = true"),
        &[
            "6:11: a remote service cannot be restarted; expected `enabled = false`, or `unit`, `exec`, `container` or `match` in the service",
        ],
    );
    refused(
        "[[service]]\nname = \"a\"\nmatch = { port = 1 }\n[service.restart]\nenabled = true",
        &["5:11: nothing says how to restart this service; expected `command = [\"/…\"]` beside it"],
    );
    refused(
        &service("[service.restart]\ncommand = [\"bounce\"]\nbudget = \"5\"\nbackoff = \"5m..1s\""),
        &[
            "6:10: found \"5\"; expected a count and a duration such as \"5 per 10m\"",
            "7:11: found \"5m..1s\"; expected the shortest and the longest wait such as \"1s..5m\"",
        ],
    );
    refused(
        &service("[service.restart]\ncommand = [\"bounce\"]"),
        &[
            "5:11: a restart command for a service without `match`; expected it for `match` only, because units, containers and `exec` are restarted without one",
            "5:12: found \"bounce\"; expected the absolute path of a program, which is not looked up in PATH",
        ],
    );
}

#[test]
fn limits_are_in_range_and_on_local_services() {
    refused(
        &service("limits = { cpu_percent = 0, memory_percent = 101, threads = 0, fds = -1 }"),
        &[
            "4:26: `cpu_percent` is 0; expected a number above 0 and up to 1000000",
            "4:46: `memory_percent` is 101; expected a number above 0 and up to 100",
            "4:61: `threads` is 0; expected a whole number from 1 to 4294967295",
            "4:70: `fds` is -1; expected a whole number from 1 to 4294967295",
        ],
    );
    refused(
        &service("limits = { threads_percent = 0, fds_percent = 100.5, growth = \"59s\" }"),
        &[
            "4:30: `threads_percent` is 0; expected a number above 0 and up to 100",
            "4:47: `fds_percent` is 100.5; expected a number above 0 and up to 100",
            "4:63: `growth` is 59s; expected from 1m to 7d",
        ],
    );
    refused(
        &service("policy = { exhausting = \"restart\" }"),
        &[
            "4:25: `exhausting = \"restart\"` on a service without `maintenance`; expected a window such as \"daily 03:00-03:15\", because it is restarted in one only",
        ],
    );
    refused(
        &probe("tcp = \"h:1\"\n[service.limits]\nfds = 5"),
        &["5:1: limits on the remote service `a`; expected them on a local one only"],
    );
}

#[test]
fn the_daemons_own_parts_are_checked() {
    refused(
        "[http]\nlisten = \"localhost:9464\"",
        &[
            "2:10: found \"localhost:9464\"; expected an IP address and a port such as \"127.0.0.1:9464\", or \"\" to serve nothing",
        ],
    );
    refused(
        "[events]\noutput = \"events.ndjson\"",
        &[
            r#"2:10: found "events.ndjson"; expected "-", the absolute path of a file, "unix:/path", "tcp:host:port" or "journald""#,
        ],
    );
    refused(
        "[[alert]]\nformat = \"json\"",
        &[
            "1:1: an alert receiver without an address; expected `webhook = \"http://…\"`, or `slack`, `pagerduty`, `email`, `ntfy`, `telegram`, `discord` or `teams`",
        ],
    );
    refused(
        "[kernel]\nurgent_ring = \"4KiB\"",
        &["2:15: `urgent_ring` is 4096 bytes; expected a power of two from 64KiB to 256MiB"],
    );
    refused(
        "[kernel]\nbulk_ring = \"3MiB\"\nunwatched_exits_per_second = -1",
        &[
            "2:13: `bulk_ring` is 3145728 bytes; expected a power of two from 64KiB to 256MiB",
            "3:30: `unwatched_exits_per_second` is -1; expected a whole number from 0 to 1000000",
        ],
    );
    assert_eq!(parse("[http]\nlisten = \"\"").unwrap().http, None);
    assert_eq!(parse("[events]\noutput = \"/e\"").unwrap().events, [EventOutput::File("/e".into())]);
}

#[test]
fn a_doubtful_value_gets_a_warning() {
    for (text, expected) in [
        (
            probe("tcp = \"h:1\"\ntimeout = \"11s\""),
            "5:11: a probe may take 11s but is due every 10s: while it hangs, the next ones wait",
        ),
        (
            probe("tcp = \"h:1\"\nslow = \"5s\""),
            "5:8: an answer counts as slow after 5s but as failed after 5s, so none is ever slow",
        ),
        (
            probe("mysql = \"mysql://:${PASSWORD}@h\""),
            "4:9: a mysql probe without a user reads the server's greeting and needs no password",
        ),
        (
            probe("redis = \"redis://:s3cret@h\""),
            "4:9: this file contains a password, and others may read it: take their right away (chmod 600), or use `password_file` or ${NAME}",
        ),
    ] {
        assert_eq!(warned(&text), [expected], "\n{text}");
    }
}

#[test]
fn state_has_a_place_and_the_recording_a_size() {
    refused(
        "[state]\ndirectory = \"state\"\nrecording = \"64KiB\"",
        &[
            "2:13: found \"state\"; expected the absolute path of a folder",
            "3:13: found \"64KiB\"; expected a size from 1MiB on, such as \"64MiB\", or \"\" for no recording",
        ],
    );
    let state = parse("[state]\ndirectory = \"/srv/state\"\nrecording = \"2MiB\"").unwrap().state;
    assert_eq!((state.directory, state.recording_bytes), ("/srv/state".into(), 2 << 20));
    refused(
        "[state]\nkeep = \"59m\"\n[[service]]\nname = \"a\"\nunit = \"a.service\"",
        &["2:8: `keep` is 59m; expected from 1h to 3650d"],
    );
    assert_eq!(parse("[state]\nkeep = \"1d\"").unwrap().state.keep, Duration::from_secs(86_400));
    for none in ["", "0"] {
        assert_eq!(parse(&format!("[state]\nrecording = {none:?}")).unwrap().state.recording_bytes, 0);
    }
}

#[test]
fn snapshots_have_a_place_and_a_number() {
    refused(
        "[snapshots]\ndirectory = \"snapshots\"\nkeep = 0",
        &[
            "2:13: found \"snapshots\"; expected the absolute path of a folder",
            "3:8: `keep` is 0; expected a whole number from 1 to 10000",
        ],
    );
}

#[test]
fn defaults_hold_for_services_that_do_not_say_otherwise() {
    let text = r#"
        [defaults.probe]
        interval = "3s"
        failures = 7
        [defaults.restart]
        enabled = true
        budget = "9 per 1h"
        [defaults.limits]
        threads = 50
        fds = 60
        [[service]]
        name = "unit"
        unit = "a.service"
        limits = { threads = 10 }
        restart = { budget = "1 per 1m" }
        [[service.probe]]
        http = "http://127.0.0.1:80/"
        interval = "1s"
        [[service]]
        name = "remote"
        [[service.probe]]
        tcp = "10.0.0.1:80"
        [[service]]
        name = "matched"
        match = { port = 90 }
    "#;
    let config = parse(text).unwrap_or_else(|errors| panic!("{errors}"));
    let [unit, remote, matched] = config.services.as_slice() else { panic!("three services") };
    let probe = &unit.probes[0];
    assert_eq!((probe.interval, probe.failures), (Duration::from_secs(1), 7));
    assert_eq!(remote.probes[0].interval, Duration::from_secs(3));
    assert_eq!((unit.restart.enabled, unit.restart.budget), (true, 1));
    assert_eq!((unit.limits.threads, unit.limits.fds), (Some(10), Some(60)));
    assert_eq!((remote.limits.threads, remote.restart.enabled), (None, false));
    assert_eq!((matched.restart.enabled, matched.restart.budget, matched.limits.fds), (false, 9, Some(60)));
    // A wrong default is one error, however many services it is for.
    refused(
        &text.replace("failures = 7", "failures = 0"),
        &["4:20: `failures` is 0; expected a whole number from 1 to 1000"],
    );
    refused(
        "[defaults.restart]\ncommand = [\"/bin/true\"]",
        &[
            "2:1: unknown key `command`; expected one of `enabled`, `on_clean_exit`, `budget`, `backoff`, `grace`",
        ],
    );
}
