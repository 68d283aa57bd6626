//! Probes: one protocol each, with the options of that protocol only, and times that make sense.

use std::{ops::Range, time::Duration};

use super::{
    address::address,
    http::http,
    outside::Outside,
    tls::{tls, tls_fits},
    value::{time, whole},
};
use crate::{
    config::{
        error::{Findings, listed},
        probe::Probe,
        protocol::{ExpectKeys, ProbeKeys, ProbeOption, protocol},
        secret::Secret,
        spanned::Spanned,
        unsupported::Unsupported,
        values::{At, Table},
    },
    fact::ProbeKind,
};
use reqwest::Url;

const HOUR: Duration = Duration::from_secs(3600);

/// The probe, if its address is right.
pub(super) fn probe(
    written: &Spanned<Table<ProbeKeys>>,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Probe> {
    let place = written.span();
    let written = &written.get_ref().0;
    let named = one_protocol(written, place, found)?;
    options_fit(written, named, found);
    let target = match named {
        Named::Kind(kind) => written.address(kind).as_ref().and_then(|url| {
            let form = &protocol(kind).address;
            let target = address(url, &written.password_file, form, outside, found)?;
            remark_on_user(kind, &target, url.span(), found);
            Some((kind, target))
        }),
        Named::Unsupported(_) => None,
    };

    let interval = time(&written.interval, "interval", Duration::from_millis(100)..=24 * HOUR, found);
    let timeout = time(&written.timeout, "timeout", Duration::from_millis(1)..=HOUR, found);
    let slow = time(&written.slow, "slow", Duration::from_millis(1)..=HOUR, found);
    let failures = whole(&written.failures, "failures", 1..=1000, found);
    let memory_percent = whole(&written.memory_percent, "memory_percent", 1..=100, found);
    let connections_percent = whole(&written.connections_percent, "connections_percent", 1..=100, found);
    let (expect_status, expect_body) = expect(&written.expect, found);

    let http = http(written, outside, found);
    let tls = tls(&written.tls, found);

    let (kind, target) = target?;
    if let (Some(options), Some(written)) = (&tls, &written.tls) {
        tls_fits(kind, &target, options, written.span(), found);
    }
    if let (ProbeKind::Mysql, Some(percent)) = (kind, &written.connections_percent)
        && Url::parse(target.expose()).is_ok_and(|url| url.username().is_empty())
    {
        let message = "`connections_percent` needs a login; expected a user in the address, such as \
                       \"mysql://probe@127.0.0.1:3306\"";
        found.error(percent.span(), message.to_owned());
    }
    let defaults = Probe::new(kind, target);
    let probe = Probe {
        interval: interval.unwrap_or(defaults.interval),
        timeout: timeout.unwrap_or(defaults.timeout),
        failures: failures.unwrap_or(defaults.failures),
        slow,
        tls,
        http,
        expect_status,
        expect_body,
        memory_percent,
        connections_percent,
        auth_is_alive: written.login_required.as_ref().is_some_and(|required| !required.get_ref()),
        ..defaults
    };
    remark_on_times(&probe, written, found);
    Some(probe)
}

/// The protocol that a probe names.
#[derive(Clone, Copy)]
enum Named {
    Kind(ProbeKind),
    /// One that this version does not speak.
    Unsupported(&'static str),
}

impl Named {
    const fn key(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.as_str(),
            Self::Unsupported(key) => key,
        }
    }
}

fn one_protocol(probe: &ProbeKeys, place: Range<usize>, found: &mut Findings) -> Option<Named> {
    let kinds =
        ProbeKind::ALL.map(|kind| (Named::Kind(kind), probe.address(kind).as_ref().map(Spanned::span)));
    let unsupported = [("grpc", &probe.grpc), ("exec", &probe.exec)]
        .map(|(key, value)| (Named::Unsupported(key), value.as_ref().map(Spanned::span)));
    let spans = kinds.into_iter().chain(unsupported);
    let mut given: Vec<_> = spans.filter_map(|(named, span)| Some((named, span?))).collect();
    given.sort_by_key(|(_, span)| span.start);
    let expected =
        || format!("expected exactly one of {}", listed(ProbeKind::ALL.map(ProbeKind::as_str), "and"));
    match given.as_slice() {
        [] => {
            found.error(place, format!("a probe without a protocol; {}", expected()));
            None
        }
        [(named, span)] => {
            match named {
                Named::Unsupported("grpc") => found.unsupported(span.clone(), Unsupported::GrpcProbe),
                Named::Unsupported(_) => found.unsupported(span.clone(), Unsupported::ExecProbe),
                Named::Kind(_) => {}
            }
            Some(*named)
        }
        [(first, _), (second, span), ..] => {
            let (first, second) = (first.key(), second.key());
            found.error(span.clone(), format!("a probe has both `{first}` and `{second}`; {}", expected()));
            None
        }
    }
}

/// Complains about options that belong to another protocol.
fn options_fit(probe: &ProbeKeys, named: Named, found: &mut Findings) {
    let options = [
        (ProbeOption::Expect, "expect", probe.expect.as_ref().map(Spanned::span)),
        (ProbeOption::MemoryPercent, "memory_percent", probe.memory_percent.as_ref().map(Spanned::span)),
        (
            ProbeOption::ConnectionsPercent,
            "connections_percent",
            probe.connections_percent.as_ref().map(Spanned::span),
        ),
        (ProbeOption::Tls, "tls", probe.tls.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "method", probe.method.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "headers", probe.headers.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "body", probe.body.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "token_file", probe.token_file.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "redirects", probe.redirects.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "http_version", probe.http_version.as_ref().map(Spanned::span)),
        (ProbeOption::LoginRequired, "login_required", probe.login_required.as_ref().map(Spanned::span)),
    ];
    for (option, key, span) in options {
        let Some(span) = span else { continue };
        let has = |kind: ProbeKind| protocol(kind).options.contains(&option);
        if !matches!(named, Named::Kind(kind) if has(kind)) {
            let owners: Vec<&str> =
                ProbeKind::ALL.into_iter().filter(|kind| has(*kind)).map(ProbeKind::as_str).collect();
            let (named, owners) = (named.key(), owners.join(" and "));
            found.error(span, format!("`{key}` in a {named} probe; expected it in {owners} probes only"));
        }
    }
}

/// Warns of a password that a probe without a user does not send.
fn remark_on_user(kind: ProbeKind, target: &Secret, place: Range<usize>, found: &mut Findings) {
    let password_alone = |url: Url| url.password().is_some() && url.username().is_empty();
    if kind == ProbeKind::Mysql && Url::parse(target.expose()).is_ok_and(password_alone) {
        found.warn(place, "a mysql probe without a user reads the server's greeting and needs no password");
    }
}

fn expect(expect: &At<Table<ExpectKeys>>, found: &mut Findings) -> (Vec<u16>, Option<String>) {
    let Some(expect) = expect else { return (Vec::new(), None) };
    let Table(expect) = expect.get_ref();
    let status = expect
        .status
        .iter()
        .filter_map(|status| whole(&Some(status.clone()), "status", 100..=599, found))
        .collect();
    (status, expect.body_contains.clone())
}

/// Warns of times that are valid and yet hardly meant.
fn remark_on_times(probe: &Probe, written: &ProbeKeys, found: &mut Findings) {
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
