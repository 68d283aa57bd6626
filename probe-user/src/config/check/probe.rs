//! Probes: one protocol each, with the options of that protocol only, and times that make sense.

use std::{ops::Range, time::Duration};

use super::{
    address::address,
    exchange::exchange,
    exec::account,
    heartbeat::heartbeat,
    http::http,
    outside::Outside,
    tls::{tls, tls_fits},
    value::{command, time, whole},
};
use crate::{
    account::Kind,
    config::{
        error::{Finding, Findings, listed},
        exec::Exec,
        probe::Probe,
        protocol::{ExpectKeys, Expectation, ProbeKeys, ProbeOption, protocol},
        secret::Secret,
        spanned::Spanned,
        values::{At, Table, notation},
    },
    fact::{ProbeKind, ServerLimits},
    redact,
};
use reqwest::Url;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The probe, if its address is right.
pub(super) fn probe(
    written: &Spanned<Table<ProbeKeys>>,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Probe> {
    let place = written.span();
    let written = &written.get_ref().0;
    let kind = one_protocol(written, place, found)?;
    options_fit(written, kind, found);
    let target = target(written, kind, outside, found);

    let interval = time(&written.interval, "interval", Duration::from_millis(100)..=24 * HOUR, found);
    let timeout = time(&written.timeout, "timeout", Duration::from_millis(1)..=HOUR, found);
    let slow = time(&written.slow, "slow", Duration::from_millis(1)..=HOUR, found);
    let failures = whole(&written.failures, "failures", 1..=1000, found);
    let memory_percent = whole(&written.memory_percent, "memory_percent", 1..=100, found);
    let connections_percent = whole(&written.connections_percent, "connections_percent", 1..=100, found);
    let server = ServerLimits {
        role: written.role.as_ref().map(|role| role.get_ref().0),
        lag: time(&written.lag, "lag", SECOND..=24 * HOUR, found),
        transaction: time(&written.transaction, "transaction", SECOND..=720 * HOUR, found),
        wait: time(&written.wait, "wait", SECOND..=24 * HOUR, found),
    };
    let (expect_status, expect_body) = expect(&written.expect, found);
    let exchange = exchange(written, outside, found);
    let exec = check(written, outside, found);
    let heartbeat = heartbeat(written, found);

    let http = written.http.as_ref().map(|_| http(written, outside, found)).unwrap_or_default();
    let tls = tls(&written.tls, found);

    let target = target?;
    expectations_fit(kind, &written.expect, found);
    if let (Some(options), Some(written)) = (&tls, &written.tls) {
        tls_fits(kind, &target, options, written.span(), found);
    }
    if kind == ProbeKind::Mysql && Url::parse(target.expose()).is_ok_and(|url| url.username().is_empty()) {
        needs_login(written, found);
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
        exchange,
        exec,
        expect_answers: answers(&written.expect),
        heartbeat,
        memory_percent,
        connections_percent,
        server,
        auth_is_alive: written.login_required.as_ref().is_some_and(|required| !required.get_ref()),
        ..defaults
    };
    remark_on_times(&probe, written, found);
    Some(probe)
}

/// What it asks, for its reports and its connections.
fn target(
    written: &ProbeKeys,
    kind: ProbeKind,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Secret> {
    if let (ProbeKind::Exec | ProbeKind::Heartbeat, Some(file)) = (kind, &written.password_file) {
        let message = format!(
            "`password_file` in a probe by `{}`; expected it beside an address with a user",
            kind.as_str()
        );
        found.error(file.span(), message);
    }
    if kind == ProbeKind::Exec {
        let words: Vec<&str> =
            written.exec.iter().flat_map(Spanned::get_ref).map(|word| word.get_ref().as_str()).collect();
        return Some(Secret::shown_as(words.join(" "), redact::arguments(words), Vec::new()));
    }
    if let (ProbeKind::Heartbeat, Some(name)) = (kind, &written.heartbeat) {
        return Some(Secret::new(name.get_ref().clone()));
    }
    let url = written.address(kind)?;
    let target = address(url, &written.password_file, &protocol(kind).address, outside, found)?;
    remark_on_user(kind, &target, url.span(), found);
    Some(target)
}

/// The program of a check.
fn check(written: &ProbeKeys, outside: &Outside<'_>, found: &mut Findings) -> Option<Exec> {
    let user = account(&written.user, Kind::User, outside, found);
    let command = command(written.exec.as_ref()?, "exec", found)?;
    Some(Exec { command, user, ..Exec::default() })
}

/// The protocol that a probe names.
fn one_protocol(probe: &ProbeKeys, place: Range<usize>, found: &mut Findings) -> Option<ProbeKind> {
    let kinds = ProbeKind::ALL.into_iter().filter_map(|kind| Some((kind, probe.span(kind)?)));
    let mut given: Vec<_> = kinds.collect();
    given.sort_by_key(|(_, span)| span.start);
    let expected =
        || format!("expected exactly one of {}", listed(ProbeKind::ALL.map(ProbeKind::as_str), "and"));
    match given.as_slice() {
        [] => {
            found.error(place, format!("a probe without a protocol; {}", expected()));
            None
        }
        [(kind, _)] => Some(*kind),
        [(first, _), (second, span), ..] => {
            let (first, second) = (first.as_str(), second.as_str());
            found.error(span.clone(), format!("a probe has both `{first}` and `{second}`; {}", expected()));
            None
        }
    }
}

fn written_at<T>(value: &At<T>) -> Option<Range<usize>> {
    value.as_ref().map(Spanned::span)
}

/// The protocols that have something.
fn names_of(has: impl Fn(ProbeKind) -> bool) -> String {
    let names: Vec<&str> =
        ProbeKind::ALL.into_iter().filter(|kind| has(*kind)).map(ProbeKind::as_str).collect();
    names.join(" and ")
}

/// Complains about options that belong to another protocol.
fn options_fit(probe: &ProbeKeys, kind: ProbeKind, found: &mut Findings) {
    let options = [
        (ProbeOption::Expect, "expect", probe.expect.as_ref().map(Spanned::span)),
        (ProbeOption::MemoryPercent, "memory_percent", probe.memory_percent.as_ref().map(Spanned::span)),
        (
            ProbeOption::ConnectionsPercent,
            "connections_percent",
            probe.connections_percent.as_ref().map(Spanned::span),
        ),
        (ProbeOption::User, "user", written_at(&probe.user)),
        (ProbeOption::Every, "every", written_at(&probe.every)),
        (ProbeOption::Every, "grace", written_at(&probe.grace)),
        (ProbeOption::TokenFile, "token_file", written_at(&probe.token_file)),
        (ProbeOption::Send, "send", written_at(&probe.send)),
        (ProbeOption::Tls, "tls", probe.tls.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "method", probe.method.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "headers", probe.headers.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "body", probe.body.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "redirects", probe.redirects.as_ref().map(Spanned::span)),
        (ProbeOption::Request, "http_version", probe.http_version.as_ref().map(Spanned::span)),
        (ProbeOption::LoginRequired, "login_required", probe.login_required.as_ref().map(Spanned::span)),
        (ProbeOption::Role, "role", probe.role.as_ref().map(Spanned::span)),
        (ProbeOption::Lag, "lag", probe.lag.as_ref().map(Spanned::span)),
        (ProbeOption::Transaction, "transaction", probe.transaction.as_ref().map(Spanned::span)),
        (ProbeOption::Wait, "wait", probe.wait.as_ref().map(Spanned::span)),
    ];
    for (option, key, span) in options {
        let Some(span) = span else { continue };
        let has = |kind: ProbeKind| protocol(kind).options.contains(&option);
        if !has(kind) {
            let (named, owners) = (kind.as_str(), names_of(has));
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

/// Complains about options of a mysql probe that only reads the greeting.
fn needs_login(written: &ProbeKeys, found: &mut Findings) {
    let options = [
        ("connections_percent", written.connections_percent.as_ref().map(Spanned::span)),
        ("role", written.role.as_ref().map(Spanned::span)),
        ("lag", written.lag.as_ref().map(Spanned::span)),
    ];
    for (key, span) in options {
        if let Some(span) = span {
            let message = format!(
                "`{key}` needs a login; expected a user in the address, such as \"mysql://probe@127.0.0.1:3306\""
            );
            found.error(span, message);
        }
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
    (status, expect.body_contains.as_ref().map(|text| text.get_ref().clone()))
}

fn answers(expect: &At<Table<ExpectKeys>>) -> Vec<String> {
    let answers = expect.iter().flat_map(|expect| &expect.get_ref().0.answers);
    answers.map(|answer| answer.get_ref().clone()).collect()
}

/// Complains about expectations of another protocol.
fn expectations_fit(kind: ProbeKind, expect: &At<Table<ExpectKeys>>, found: &mut Findings) {
    let Some(expect) = expect else { return };
    let Table(expect) = expect.get_ref();
    let keys = [
        (Expectation::Status, "status", expect.status.first().map(Spanned::span)),
        (Expectation::BodyContains, "body_contains", written_at(&expect.body_contains)),
        (Expectation::Json, "json", written_at(&expect.json)),
        (Expectation::StartsWith, "starts_with", written_at(&expect.starts_with)),
        (Expectation::Contains, "contains", written_at(&expect.contains)),
        (Expectation::Answers, "answers", expect.answers.first().map(Spanned::span)),
    ];
    for (expectation, key, span) in keys {
        let has = |kind: ProbeKind| protocol(kind).expectations.contains(&expectation);
        if let Some(span) = span.filter(|_| !has(kind)) {
            let message = format!(
                "`{key}` in what a {} probe expects; expected it in {} probes only",
                kind.as_str(),
                names_of(has)
            );
            found.error(span, message);
        }
    }
}

/// Warns of times that are valid and yet hardly meant.
fn remark_on_times(probe: &Probe, written: &ProbeKeys, found: &mut Findings) {
    let Probe { interval, timeout, .. } = probe;
    let place = written.timeout.as_ref().or(written.interval.as_ref()).map(Spanned::span);
    if let (true, Some(place)) = (timeout > interval, place) {
        let warning = format!(
            "a probe may take {} but is due every {}: while it hangs, the next ones wait",
            notation(*timeout),
            notation(*interval)
        );
        found.long_timeouts.push(Finding::new(place.start, warning));
    }
    if let Some(slow) = written.slow.as_ref().filter(|slow| slow.get_ref().0 >= *timeout) {
        let warning = format!(
            "an answer counts as slow after {} but as failed after {}, so none is ever slow",
            notation(slow.get_ref().0),
            notation(*timeout)
        );
        found.warn(slow.span(), warning);
    }
}
