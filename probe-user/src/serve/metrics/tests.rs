mod monitoring;

use std::collections::BTreeMap;

use super::*;
use crate::emit::tests::samples;

/// Each sample by its name and labels; a line that is not of the format fails the test.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn facts_become_samples() {
    let metrics = Metrics::new(samples::names());
    for fact in samples::facts() {
        metrics.observe(&fact);
    }
    let samples = parse(&metrics.encode(Format::OpenMetrics));
    for (name, value) in [
        (r#"probe_success{service="api",probe="http"}"#, 1.0),
        (r#"probe_duration_seconds{service="api",probe="http"}"#, 0.001_234_567),
        (r#"hostprobe_build_info{version="0.1.0"}"#, 1.0),
        (r#"hostprobe_process_exits_total{service="api",manner="oom"}"#, 1.0),
        (r#"hostprobe_process_exits_total{service="",manner="signal"}"#, 1.0),
        (r#"hostprobe_oom_kills_total{service="api"}"#, 1.0),
        (r#"hostprobe_restarts_total{service="api",outcome="hold"}"#, 1.0),
        (r#"hostprobe_restarts_total{service="web",outcome="done"}"#, 0.0),
        (r#"hostprobe_events_lost_total{class="exits"}"#, 12.0),
        (r#"hostprobe_events_lost_total{class="events"}"#, 0.0),
        (r#"hostprobe_incidents_total{service="api",verdict="killed"}"#, 1.0),
        (r#"hostprobe_service_state{service="api",state="down"}"#, 1.0),
        (r#"hostprobe_service_state{service="api",state="healthy"}"#, 0.0),
        (r#"hostprobe_service_state{service="web",state="starting"}"#, 1.0),
        (r#"hostprobe_alerts_total{receiver="http://127.0.0.1:9093",outcome="failed"}"#, 1.0),
        (r#"hostprobe_socket_errors_total{service="api",error="ECONNREFUSED",direction="inbound"}"#, 3.0),
        (r#"hostprobe_hook_attached{hook="mark_victim"}"#, 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name} in {samples:#?}");
    }
}

#[test]
fn a_recovery_is_measured_from_the_fault_to_health() {
    let metrics = Metrics::new(samples::names());
    metrics.observe(&samples::recovered(std::time::Duration::from_millis(200)));
    let samples = parse(&metrics.encode(Format::OpenMetrics));
    assert_eq!(samples[r#"hostprobe_recovery_seconds_sum{service="api"}"#], 0.2);
    assert_eq!(samples[r#"hostprobe_recovery_seconds_bucket{le="0.25",service="api"}"#], 1.0);
    assert_eq!(samples[r#"hostprobe_recovery_seconds_bucket{le="0.1",service="api"}"#], 0.0);
}

#[test]
fn a_new_configuration_forgets_the_old_services() {
    let metrics = Metrics::new(samples::names());
    metrics.stream_lost(3);
    metrics.stream_lost(5);
    metrics.rename(Names::default(), &[]);
    let samples = parse(&metrics.encode(Format::OpenMetrics));
    assert!(!samples.keys().any(|name| name.starts_with("hostprobe_service_state")));
    assert_eq!(samples[r#"hostprobe_events_lost_total{class="events"}"#], 5.0);
}

#[test]
fn a_client_that_asks_for_openmetrics_gets_it_and_any_other_the_plain_text() {
    for (accept, format) in [
        ("", Format::Plain),
        ("*/*", Format::Plain),
        ("text/plain;version=0.0.4", Format::Plain),
        ("application/openmetrics-text; version=1.0.0; q=0", Format::Plain),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", Format::OpenMetrics),
        ("text/plain;q=0.1, application/openmetrics-text;q=0.9", Format::OpenMetrics),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
}

#[test]
fn the_plain_text_names_families_as_their_samples() {
    let metrics = Metrics::new(samples::names());
    samples::facts().iter().for_each(|fact| metrics.observe(fact));
    let text = metrics.encode(Format::Plain);
    for line in [
        "# TYPE hostprobe_build_info gauge",
        "# TYPE hostprobe_restarts_total counter",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    assert!(!text.contains("# EOF") && !text.contains(" info\n"), "{text}");
    let open = metrics.encode(Format::OpenMetrics);
    let samples = |text: &str| {
        let own = |line: &&str| !line.starts_with('#') && !line.starts_with("process_");
        text.lines().filter(own).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(samples(&text), samples(&open));
}
