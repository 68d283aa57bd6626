mod containers;
mod docs;
mod exec;
mod files;
mod meaning;
mod noise;
mod receivers;
mod requests;
mod schema;
mod several;

use std::{path::PathBuf, time::Duration};

use rustix::process::Signal;

use super::*;
use crate::{
    account::{AccountError, Kind},
    config::{AlertFormat, Container, EventOutput, Identity, OnExit},
    fact::{
        ContainerEngine, DatabaseRole, HookEvent, OnCleanExit, ProbeKind, ServerLimits, ServiceId, Severity,
        Verdict,
    },
};

/// Everything the documented format has, less what this version refuses.
const FULL: &str = include_str!("full.toml");

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    let variable = |name: &str| (name == "PASSWORD").then(|| "s3cret".to_owned());
    let account = |kind: Kind, name: &str| match name {
        "www-data" | "adm" => Ok(()),
        "slow" => Err(AccountError::Lookup {
            kind,
            name: name.to_owned(),
            source: std::io::Error::other("no answer within 5s"),
        }),
        _ => Err(AccountError::Unknown { kind, name: name.to_owned() }),
    };
    let outside = Outside { variable: &variable, account: &account, readable_by_others: true };
    let parsed = from_text(Path::new("h.toml"), text, &outside);
    if parsed.is_ok() {
        assert_eq!(schema::complaints(text), [""; 0], "the schema refuses\n{text}");
    }
    parsed
}

/// Asserts that a text is refused with exactly these lines, less the file's name.
fn refused(text: &str, expected: &[&str]) {
    let errors = parse(text).expect_err(text).to_string();
    let lines: Vec<&str> = errors.lines().map(|line| line.strip_prefix("h.toml:").unwrap()).collect();
    assert_eq!(lines, expected, "\n{text}");
}

fn warned(text: &str) -> Vec<String> {
    let warnings = parse(text).unwrap_or_else(|errors| panic!("{errors}")).warnings;
    warnings.iter().map(|line| line.strip_prefix("h.toml:").unwrap().to_owned()).collect()
}

#[test]
fn an_empty_file_is_valid() {
    let config = parse("").unwrap();
    assert_eq!(config.events, [EventOutput::Stdout]);
    assert_eq!(config.http, Some("127.0.0.1:9464".parse().unwrap()));
    assert!(config.services.is_empty() && config.warnings.is_empty());
    assert_eq!(config.kernel.bulk_ring_bytes, 1 << 20);
    assert_eq!(config.snapshots.directory, PathBuf::from("/var/lib/hostprobe/snapshots"));
    assert!(config.snapshots.keep == 32 && config.snapshots.stacks);
    assert_eq!(config.state, crate::config::StateOptions::default());
    assert_eq!(config.state.recording_bytes, 64 << 20);
    assert_eq!(config.control, Some(PathBuf::from("/run/hostprobe/control.sock")));
    assert_eq!(parse("[control]\nsocket = \"\"").unwrap().control, None);
    refused(
        "[control]\nsocket = \"run.sock\"",
        &["2:10: found \"run.sock\"; expected the absolute path of a socket, or \"\" for none"],
    );
}

#[test]
fn the_full_example_is_read_as_it_is_meant() {
    let config = parse(FULL).unwrap();
    let names: Vec<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["api", "worker", "cache", "weather-api", "orders-db", "shop"]);
    let [api, worker, cache, weather, db, shop] = config.services.as_slice() else { panic!("six services") };
    let container = Container { name: "shop-web-1".to_owned(), engine: Some(ContainerEngine::Podman) };
    assert_eq!(shop.identity, Identity::Container(container));
    let podman = PathBuf::from("/run/podman/other.sock");
    assert_eq!((&config.containers.docker_socket, &config.containers.podman_socket), (&None, &Some(podman)));
    assert!(config.containers.discover && config.containers.discover_restarts);

    assert_eq!(api.identity, Identity::Unit("api-server.service".to_owned()));
    assert_eq!(api.depends_on, [ServiceId(2), ServiceId(4)]);
    assert!(api.critical && api.restart.enabled && !weather.critical);
    assert_eq!((api.restart.budget, api.restart.budget_window.as_secs()), (5, 600));
    assert_eq!((api.restart.backoff_first.as_secs(), api.restart.backoff_max.as_secs()), (1, 300));
    assert_eq!(api.limits.cpu_percent, Some(90.0));
    let probe = &api.probes[0];
    assert_eq!((probe.kind, probe.target.expose()), (ProbeKind::Http, "https://127.0.0.1:8443/health"));
    assert_eq!(
        (probe.expect_status.as_slice(), probe.expect_body.as_deref()),
        ([200].as_slice(), Some("ok"))
    );
    assert_eq!(probe.slow.map(|slow| slow.as_secs()), Some(2));

    let Identity::Exec(exec) = &worker.identity else { panic!("worker is an exec service") };
    assert_eq!(exec.output, PathBuf::from("/var/log/hostprobe/worker.log"));
    assert_eq!(exec.directory, PathBuf::from("/"));
    assert!(worker.restart.enabled, "what hostprobe starts itself it also restarts");
    assert_eq!((exec.output_max, exec.output_keep, exec.output_stamp), (Some(10 << 20), 5, true));
    assert_eq!((exec.user.as_deref(), exec.group.as_deref()), (Some("www-data"), Some("adm")));
    assert_eq!((exec.umask, exec.stop_signal, exec.stop_timeout.as_secs()), (0o27, Signal::QUIT, 30));
    assert_eq!(worker.start_after, [ServiceId(2)]);
    let limits: Vec<_> = exec.rlimits.iter().map(|limit| (limit.name(), limit.soft, limit.hard)).collect();
    assert_eq!(limits, [("core", Some(0), None), ("nofile", Some(65_536), Some(65_536))]);

    let Identity::Match(matcher) = &cache.identity else { panic!("cache is matched") };
    assert_eq!(matcher.port, Some(6379));
    assert!(!cache.restart.enabled);
    assert_eq!(cache.probes[0].memory_percent, Some(90));
    assert_eq!(weather.identity, Identity::Remote);
    assert_eq!(weather.probes[0].timeout.as_secs(), 3);
    assert_eq!(weather.probes[0].interval.as_secs(), 10);
    assert_eq!(db.probes[0].connections_percent, Some(90));
    let seconds = Duration::from_secs;
    let expected = ServerLimits {
        role: Some(DatabaseRole::Primary),
        lag: Some(seconds(30)),
        transaction: Some(seconds(3600)),
        wait: Some(seconds(60)),
    };
    assert_eq!(db.probes[0].server, expected);
    assert_eq!(db.probes[0].target.expose(), "postgres://probe:s3cret@127.0.0.1/postgres");

    let probe = &db.probes[0];
    assert_eq!(
        (probe.failures, probe.slow.map(|slow| slow.as_millis()), api.probes[0].failures),
        (4, Some(2500), 3)
    );
    assert!(db.restart.enabled && db.restart.on_clean_exit == OnCleanExit::Never && !weather.restart.enabled);
    assert_eq!((db.restart.budget, db.restart.budget_window.as_secs()), (3, 300));
    assert_eq!((db.restart.backoff_first.as_secs(), db.restart.backoff_max.as_secs()), (2, 60));
    assert_eq!((db.restart.grace.as_secs(), api.restart.grace.as_secs()), (20, 30));
    assert_eq!((db.limits.cpu_percent, db.limits.memory_percent), (Some(300.0), Some(95.0)));
    assert_eq!((db.limits.threads, db.limits.fds, weather.limits.fds), (Some(5000), Some(50_000), None));

    assert_eq!(config.state.directory, PathBuf::from("/srv/hostprobe"));
    assert_eq!(config.state.recording_bytes, 128 << 20);
    assert_eq!(config.state.keep, Duration::from_secs(30 * 86_400));
    assert_eq!(config.on_exit, Some(OnExit::Leave));
    assert_eq!(config.snapshots.directory, PathBuf::from("/srv/snapshots"));
    assert!(config.snapshots.keep == 8 && !config.snapshots.stacks);
    assert_eq!(config.control, Some(PathBuf::from("/run/hostprobe/other.sock")));
    assert_eq!(config.control_group.as_deref(), Some("adm"));
    assert_eq!(config.alerts[0].format, AlertFormat::Alertmanager);
    assert_eq!(config.alerts[0].route.min_severity, Severity::Critical);
    assert_eq!(config.alerts[1].route.min_severity, Severity::Warning);
    assert_eq!((config.restart_budget.restarts, config.restart_budget.window.as_secs()), (15, 300));
    let [hook] = config.hooks.as_slice() else { panic!("one hook") };
    assert_eq!(hook.on, [HookEvent::IncidentOpen, HookEvent::RestartBefore]);
    assert_eq!(hook.verdicts, [Verdict::CrashLoop, Verdict::Unhealthy]);
    assert_eq!(
        (hook.services.as_slice(), hook.timeout.as_secs()),
        (["api".to_owned(), "*-db".to_owned()].as_slice(), 45)
    );
    assert_eq!(hook.command, ["/usr/local/bin/failover", "--now"]);
    assert_eq!(api.restart.before.as_deref().map(<[String]>::len), Some(2));
    let windows: Vec<String> = api.maintenance.iter().map(ToString::to_string).collect();
    assert_eq!(windows, ["Sun 02:00-04:00 Europe/Berlin", "daily 03:00-03:15"]);
    assert_eq!(config.warnings, [""; 0]);
    refused(
        "[[service]]\nname = \"a\"\nunit = \"a.service\"\nmaintenance = [\"Sunday 02:00-04:00\"]",
        &[
            "4:16: found \"Sunday 02:00-04:00\"; expected days, times and a time zone such as \"Sun 02:00-04:00 \
           Europe/Berlin\", \"Mon,Wed 22:00-01:00 UTC\" or \"daily 03:00-03:15\", which is in the zone of this host",
        ],
    );
}

#[test]
fn every_wrong_key_and_value_is_reported_at_once() {
    let text = "\
[http]
listne = \"x\"
[[service]]
name = 5
critical = \"yes\"
exec = [\"/bin/a\", 1]
[[service.probe]]
interval = \"10 sec\"
failures = 1.5
expect = { status = [\"200\"] }
";
    refused(
        text,
        &[
            "2:1: unknown key `listne` (did you mean `listen`?); expected one of `listen`, `public_url`, `tls`, `token_file`",
            "4:8: found integer `5`; expected a string",
            "5:12: found a string; expected true or false",
            "6:19: found integer `1`; expected a string",
            "8:12: found \"10 sec\"; expected a duration such as \"250ms\", \"10s\", \"5m\" or \"1h\"",
            "9:12: found floating point `1.5`; expected a whole number",
            "10:22: found a string; expected a whole number",
        ],
    );
}

#[test]
fn a_wrong_shape_is_reported_in_toml_words() {
    refused(
        "[service]\nname = \"a\"",
        &["1:1: found a table; expected a table of a list, which is written [[service]]"],
    );
    refused("events = [\"-\"]", &["1:10: found a list; expected a table"]);
    refused("[[service]]\nmatch = \"x\"", &["2:9: found a string; expected a table"]);
    refused(
        "[[alert]]\nwebhook = \"http://h/\"\nformat = \"teams\"\nmin_severity = \"loud\"",
        &[
            "3:10: found \"teams\"; expected \"json\" or \"alertmanager\"",
            "4:16: found \"loud\"; expected \"info\", \"warning\" or \"critical\"",
        ],
    );
    refused(
        "[kernel]\nurgent_ring = \"256KB\"\nbulk_ring = 5",
        &[
            "2:15: found \"256KB\"; expected a size such as \"256KiB\" or \"1MiB\"",
            "3:13: found integer `5`; expected a size such as \"256KiB\" or \"1MiB\"",
        ],
    );
}

#[test]
fn wrong_syntax_has_its_place() {
    refused("[http\nlisten = \"\"", &["1:6: unclosed table; expected `]`"]);
    refused("[http]\nlisten = \"\"\nlisten = \"\"", &["3:1: duplicate key; expected each key once"]);
    refused(
        "a = 1\nä = 2\nb =",
        &[
            "2:1: invalid unquoted key; expected letters, numbers, `-`, `_`",
            "3:4: no value; expected a text in quotes, a number, true or false, or a list",
        ],
    );
}
