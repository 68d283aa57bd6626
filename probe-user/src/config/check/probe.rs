//! Probes: one protocol each, with the options of that protocol only, and times that make sense.

use std::{ops::Range, ops::RangeInclusive, time::Duration};

use reqwest::Url;
use toml::Spanned;

use super::{
    Outside,
    address::{Scheme, address},
    whole,
};
use crate::{
    config::{
        Probe,
        error::Findings,
        file::{self, At},
        unsupported::Unsupported,
        values::{Table, Text},
    },
    fact::ProbeKind,
};

const HOUR: Duration = Duration::from_secs(3600);

/// The probe, if its address is right.
pub(super) fn probe(
    written: &Spanned<Table<file::Probe>>,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Probe> {
    let place = written.span();
    let written = &written.get_ref().0;
    let protocol = one_protocol(written, place, found)?;
    options_fit(written, protocol, found);

    let supported = match protocol {
        "http" => written.http.as_ref().map(|url| (ProbeKind::Http, Scheme::Http, url)),
        "tcp" => written.tcp.as_ref().map(|url| (ProbeKind::Tcp, Scheme::Tcp, url)),
        "redis" => written.redis.as_ref().map(|url| (ProbeKind::Redis, Scheme::Redis, url)),
        "postgres" => written.postgres.as_ref().map(|url| (ProbeKind::Postgres, Scheme::Postgres, url)),
        "mysql" => written.mysql.as_ref().map(|url| (ProbeKind::Mysql, Scheme::Mysql, url)),
        _ => None,
    };
    let target = supported.and_then(|(kind, scheme, url)| {
        address(url, &written.password_file, scheme, outside, found).map(|target| (kind, target))
    });

    let interval = time(&written.interval, "interval", Duration::from_millis(100)..=24 * HOUR, found);
    let timeout = time(&written.timeout, "timeout", Duration::from_millis(1)..=HOUR, found);
    let slow = time(&written.slow, "slow", Duration::from_millis(1)..=HOUR, found);
    let failures = whole(&written.failures, "failures", 1..=1000, found);
    let memory_percent = whole(&written.memory_percent, "memory_percent", 1..=100, found);
    let connections_percent = whole(&written.connections_percent, "connections_percent", 1..=100, found);
    let (expect_status, expect_body) = expect(&written.expect, found);

    let (kind, target) = target?;
    if let (ProbeKind::Mysql, Some(percent)) = (kind, &written.connections_percent)
        && Url::parse(target.expose()).is_ok_and(|url| url.username().is_empty())
    {
        let message = "`connections_percent` needs somebody to log in; expected a user in the address, such as \
                       \"mysql://probe@127.0.0.1:3306\"";
        found.error(percent.span(), message.to_owned());
    }
    let defaults = Probe::new(kind, target);
    let probe = Probe {
        interval: interval.unwrap_or(defaults.interval),
        timeout: timeout.unwrap_or(defaults.timeout),
        failures: failures.unwrap_or(defaults.failures),
        slow,
        expect_status,
        expect_body,
        memory_percent,
        connections_percent,
        ..defaults
    };
    remark_on_times(&probe, written, found);
    Some(probe)
}

/// The name of the one protocol of a probe, whether or not this version speaks it.
fn one_protocol(probe: &file::Probe, place: Range<usize>, found: &mut Findings) -> Option<&'static str> {
    const EXPECTED: &str = "expected exactly one of `http`, `tcp`, `redis`, `postgres` and `mysql`";
    let spans = [
        ("http", probe.http.as_ref().map(Spanned::span)),
        ("tcp", probe.tcp.as_ref().map(Spanned::span)),
        ("redis", probe.redis.as_ref().map(Spanned::span)),
        ("postgres", probe.postgres.as_ref().map(Spanned::span)),
        ("mysql", probe.mysql.as_ref().map(Spanned::span)),
        ("grpc", probe.grpc.as_ref().map(Spanned::span)),
        ("exec", probe.exec.as_ref().map(Spanned::span)),
    ];
    let mut given: Vec<_> = spans.into_iter().filter_map(|(name, span)| Some((name, span?))).collect();
    given.sort_by_key(|(_, span)| span.start);
    match given.as_slice() {
        [] => {
            found.error(place, format!("a probe without a protocol; {EXPECTED}"));
            None
        }
        [(name, span)] => {
            match *name {
                "grpc" => found.unsupported(span.clone(), Unsupported::GrpcProbe),
                "exec" => found.unsupported(span.clone(), Unsupported::ExecProbe),
                _ => {}
            }
            Some(*name)
        }
        [(first, _), (second, span), ..] => {
            found.error(span.clone(), format!("a probe has both `{first}` and `{second}`; {EXPECTED}"));
            None
        }
    }
}

/// Complains about options that belong to another protocol.
fn options_fit(probe: &file::Probe, protocol: &str, found: &mut Findings) {
    let options: [(_, &[&str], _); 3] = [
        ("expect", &["http"], probe.expect.as_ref().map(Spanned::span)),
        ("memory_percent", &["redis"], probe.memory_percent.as_ref().map(Spanned::span)),
        (
            "connections_percent",
            &["postgres", "mysql"],
            probe.connections_percent.as_ref().map(Spanned::span),
        ),
    ];
    for (option, owners, span) in options {
        let Some(span) = span else { continue };
        if !owners.contains(&protocol) {
            let owners = owners.join(" and ");
            let message = format!("`{option}` in a {protocol} probe; expected it in {owners} probes only");
            found.error(span, message);
        }
    }
}

fn expect(expect: &At<Table<file::Expect>>, found: &mut Findings) -> (Vec<u16>, Option<String>) {
    let Some(expect) = expect else { return (Vec::new(), None) };
    let Table(expect) = expect.get_ref();
    let status = expect
        .status
        .iter()
        .filter_map(|status| whole(&Some(status.clone()), "status", 100..=599, found))
        .collect();
    (status, expect.body_contains.clone())
}

fn time(
    written: &At<Text<Duration>>,
    key: &str,
    range: RangeInclusive<Duration>,
    found: &mut Findings,
) -> Option<Duration> {
    let written = written.as_ref()?;
    let Text(value) = *written.get_ref();
    if range.contains(&value) {
        return Some(value);
    }
    let (low, high) = range.into_inner();
    found.error(written.span(), format!("`{key}` is {value:?}; expected from {low:?} to {high:?}"));
    None
}

/// Warns of times that are valid and yet hardly meant.
fn remark_on_times(probe: &Probe, written: &file::Probe, found: &mut Findings) {
    let Probe { interval, timeout, .. } = probe;
    let place = written.timeout.as_ref().or(written.interval.as_ref()).map(Spanned::span);
    if let (true, Some(place)) = (timeout > interval, place) {
        let warning = format!(
            "a probe may take {timeout:?} but is due every {interval:?}: while it hangs, the next ones wait"
        );
        found.warn(place, warning);
    }
    if let Some(slow) = written.slow.as_ref().filter(|slow| slow.get_ref().0 >= *timeout) {
        let warning = format!(
            "an answer counts as slow after {:?} but as failed after {timeout:?}, so none is ever slow",
            slow.get_ref().0
        );
        found.warn(slow.span(), warning);
    }
}
