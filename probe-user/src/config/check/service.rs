//! Services: name, identity, restart policy and limits, and whether these fit together.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    container, dependency, exec, heartbeat,
    outside::Outside,
    probe::probe,
    value::{absolute, command, time, whole},
};
use crate::{
    config::{
        error::Findings,
        file,
        service::{Identity, Matcher, Service},
        spanned::Spanned,
        values::{At, Table, Text, quote},
    },
    fact::{Limits, Policy, Response, RestartPolicy, ServiceId},
};

/// A shorter `growth` is measured too coarsely, and a longer one tells of the far future.
const GROWTH: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(7 * 86_400);

/// The services as far as they are valid, in the order of the file.
pub(super) fn services(
    written: &[Spanned<Table<file::Service>>],
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for (id, entry) in (0..).map(ServiceId).zip(written) {
        let mut service = Service { id, ..service(entry, outside, found) };
        let addresses = service.local_addresses();
        if let Identity::Match(matcher) = &mut service.identity {
            matcher.address = matcher.port.and_then(|port| addresses.get(&port).copied().flatten());
        }
        unlike_the_others(&service, &services, written, entry, found);
        services.push(service);
    }
    heartbeat::names_differ(written, found);
    dependency::resolve(written, &mut services, found);
    services
}

fn service(entry: &Spanned<Table<file::Service>>, outside: &Outside<'_>, found: &mut Findings) -> Service {
    let place = entry.span();
    let written = &entry.get_ref().0;
    let name = name(written, place.clone(), found);
    let identity = identity(written, &name, outside, found);
    let probes: Vec<_> = written.probe.iter().filter_map(|entry| probe(entry, outside, found)).collect();
    if identity == Some(Identity::Remote) {
        if written.probe.is_empty() {
            let message = format!(
                "service `{name}` gives nothing to watch; expected `unit`, `exec`, `container`, `match` or a [[service.probe]]"
            );
            found.error(place, message);
        }
        if let Some(limits) = &written.limits {
            let message = format!("limits on the remote service `{name}`; expected them on a local one only");
            found.error(limits.span(), message);
        }
    }
    Service {
        // The caller numbers the services.
        id: ServiceId(0),
        restart: restart(written, identity.as_ref(), found),
        limits: limits(&written.limits, found),
        policy: policy(written, found),
        identity: identity.unwrap_or(Identity::Remote),
        depends_on: Vec::new(),
        start_after: Vec::new(),
        critical: written.critical.unwrap_or(true),
        maintenance: written.maintenance.iter().map(|window| window.get_ref().0.clone()).collect(),
        probes,
        name,
    }
}

/// The incidents of the host itself are under this name.
const RESERVED: &str = "host";

fn name(written: &file::Service, place: std::ops::Range<usize>, found: &mut Findings) -> String {
    let Some(name) = &written.name else {
        found.error(place, "a service without a name; expected `name = \"…\"`");
        return String::new();
    };
    let text = name.get_ref();
    let right = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !right {
        let message = format!(
            "found {}; expected a name of 1 to 64 letters (A-Z, a-z), digits, dots, hyphens and underscores",
            quote(text)
        );
        found.error(name.span(), message);
    }
    if text == RESERVED {
        let message =
            format!("found {}; expected another name, because that is the host itself", quote(text));
        found.error(name.span(), message);
    }
    text.clone()
}

/// What the service is on this host; None if that is wrong.
fn identity(
    written: &file::Service,
    name: &str,
    outside: &Outside<'_>,
    found: &mut Findings,
) -> Option<Identity> {
    let spans = [
        ("unit", written.unit.as_ref().map(Spanned::span)),
        ("exec", written.exec.as_ref().map(Spanned::span)),
        ("match", written.matcher.as_ref().map(Spanned::span)),
        ("container", written.container.as_ref().map(Spanned::span)),
    ];
    let mut given: Vec<_> = spans.into_iter().filter_map(|(key, span)| Some((key, span?))).collect();
    given.sort_by_key(|(_, span)| span.start);
    if let [(first, _), (second, span), ..] = given.as_slice() {
        let message = format!(
            "service `{name}` has both `{first}` and `{second}`; expected at most one of `unit`, `exec`, `container` and `match`"
        );
        found.error(span.clone(), message);
        return None;
    }
    if let Some(engine) = written.engine.as_ref().filter(|_| written.container.is_none()) {
        found.error(engine.span(), "`engine` without a container; expected it beside `container` only");
    }
    if written.exec.is_none() {
        exec::keys_need_a_command(written, found);
    }
    if let Some(unit) = &written.unit {
        let text = unit.get_ref();
        if text.len() <= ".service".len() || !text.ends_with(".service") || text.contains(['/', '\0']) {
            let message =
                format!("found {}; expected the full name of a unit such as \"nginx.service\"", quote(text));
            found.error(unit.span(), message);
        }
        return Some(Identity::Unit(text.clone()));
    }
    if let Some(words) = &written.exec {
        return exec::exec(written, words, name, outside, found).map(Identity::Exec);
    }
    if let Some(name) = &written.container {
        return container::container(name, written.engine.as_ref(), found).map(Identity::Container);
    }
    if let Some(matcher) = &written.matcher {
        return Some(Identity::Match(self::matcher(matcher, found)));
    }
    Some(Identity::Remote)
}

fn matcher(written: &Spanned<Table<file::Matcher>>, found: &mut Findings) -> Matcher {
    let place = written.span();
    let Table(written) = written.get_ref();
    let mut path = |path: &At<String>| absolute(path.as_ref()?, "an absolute path", found);
    let (exe, pidfile) = (path(&written.exe), path(&written.pidfile));
    let cgroup = path(&written.cgroup);
    let port = whole(&written.port, "port", 1..=65535, found);
    if let Some(container) = &written.container {
        let id = container.get_ref();
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if id.is_empty() || id.len() > 64 || !id.bytes().all(named) {
            let message = format!(
                "found {}; expected 12 to 64 hexadecimal digits of a container's id, or the name of an LXC container",
                quote(id)
            );
            found.error(container.span(), message);
        }
    }
    let empty = written.exe.is_none()
        && written.pidfile.is_none()
        && written.port.is_none()
        && written.cgroup.is_none()
        && written.container.is_none();
    if empty {
        let expected = "expected at least one of `exe`, `pidfile`, `port`, `cgroup` and `container`";
        found.error(place, format!("`match` is empty; {expected}"));
    }
    Matcher {
        address: None,
        exe,
        pidfile,
        port,
        cgroup: cgroup.map(|path| path.to_string_lossy().into_owned()),
        container: written.container.as_ref().map(|id| container(id.get_ref())),
    }
}

/// Ids are written in either case; names are as they are.
fn container(id: &str) -> String {
    let is_id = id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { id.to_ascii_lowercase() } else { id.to_owned() }
}

fn restart(written: &file::Service, identity: Option<&Identity>, found: &mut Findings) -> RestartPolicy {
    let mut policy =
        RestartPolicy { enabled: matches!(identity, Some(Identity::Exec(_))), ..RestartPolicy::default() };
    let Some(Table(written)) = &written.restart else { return policy };
    if let Some(budget) = &written.budget {
        (policy.budget, policy.budget_window) = (budget.0.count, budget.0.window);
    }
    if let Some(backoff) = &written.backoff {
        (policy.backoff_first, policy.backoff_max) = (backoff.0.first, backoff.0.max);
    }
    policy.on_clean_exit = written.on_clean_exit.as_ref().map_or(policy.on_clean_exit, |it| it.0);
    policy.grace = written.grace.as_ref().map_or(policy.grace, |grace| grace.0);
    policy.enabled = written.enabled.as_ref().map_or(policy.enabled, |enabled| *enabled.get_ref());
    policy.before = written.before.as_ref().and_then(|words| command(words, "before", found));
    policy.command = written.command.as_ref().and_then(|words| command(words, "command", found));

    let Some(identity) = identity else { return policy };
    if let Some(words) = written.command.as_ref().filter(|_| !matches!(identity, Identity::Match(_))) {
        let message = "a restart command for a service without `match`; expected it for `match` only, because \
                       units, containers and `exec` are restarted without one";
        found.error(words.span(), message);
    }
    let Some(enabled) = written.enabled.as_ref().filter(|enabled| *enabled.get_ref()) else { return policy };
    match identity {
        Identity::Remote => {
            let message = "a remote service cannot be restarted; expected `enabled = false`, or `unit`, \
                           `exec`, `container` or `match` in the service";
            found.error(enabled.span(), message);
        }
        Identity::Match(_) if written.command.is_none() => {
            let message = "nothing says how to restart this service; expected `command = [\"/…\"]` beside it";
            found.error(enabled.span(), message);
        }
        Identity::Match(_) | Identity::Unit(_) | Identity::Exec(_) | Identity::Container(_) => {}
    }
    policy
}

fn policy(service: &file::Service, found: &mut Findings) -> Policy {
    let Some(Table(written)) = &service.policy else { return Policy::default() };
    let exhausting = written.exhausting.as_ref();
    let restarts = exhausting.filter(|written| written.get_ref().0 == Response::Restart);
    if let Some(written) = restarts.filter(|_| service.maintenance.is_empty()) {
        let message = "`exhausting = \"restart\"` on a service without `maintenance`; expected a window such as \
                       \"daily 03:00-03:15\", because it is restarted in one only";
        found.error(written.span(), message);
    }
    let response = |written: &Option<Text<Response>>| written.as_ref().map_or(Response::default(), |it| it.0);
    Policy {
        worker_died: response(&written.worker_died),
        memory_full: response(&written.memory_full),
        pool_exhausted: response(&written.pool_exhausted),
        backlog_full: response(&written.backlog_full),
        exhausting: exhausting.map_or(Response::default(), |written| written.get_ref().0),
    }
}

fn limits(written: &At<Table<file::Limits>>, found: &mut Findings) -> Limits {
    let Some(written) = written else { return Limits::default() };
    let Table(written) = written.get_ref();
    let mut percent = |value: &At<f64>, key: &str, most: f64| {
        let value = value.as_ref()?;
        if *value.get_ref() > 0.0 && *value.get_ref() <= most {
            return Some(*value.get_ref());
        }
        let message = format!("`{key}` is {}; expected a number above 0 and up to {most}", value.get_ref());
        found.error(value.span(), message);
        None
    };
    // A service with many threads can use many cores, and 100 percent is one of them.
    let cpu_percent = percent(&written.cpu_percent, "cpu_percent", 1_000_000.0);
    let memory_percent = percent(&written.memory_percent, "memory_percent", 100.0);
    let threads_percent = percent(&written.threads_percent, "threads_percent", 100.0);
    let fds_percent = percent(&written.fds_percent, "fds_percent", 100.0);
    Limits {
        cpu_percent,
        memory_percent,
        threads: whole(&written.threads, "threads", 1..=i64::from(u32::MAX), found),
        fds: whole(&written.fds, "fds", 1..=i64::from(u32::MAX), found),
        threads_percent,
        fds_percent,
        growth: time(&written.growth, "growth", GROWTH, found),
    }
}

/// Complains if another service has this name or watches the same thing.
fn unlike_the_others(
    service: &Service,
    others: &[Service],
    all: &[Spanned<Table<file::Service>>],
    entry: &Spanned<Table<file::Service>>,
    found: &mut Findings,
) {
    let written = &entry.get_ref().0;
    if let Some(name) = &written.name
        && let Some(at) = others.iter().position(|other| other.name == service.name)
    {
        let message =
            format!("another service is named {} already; expected a name of its own", quote(&service.name));
        let other = all.get(at).and_then(|other| other.get_ref().0.name.as_ref()).map(Spanned::span);
        found.error_of_two(name.span(), other.map_or(0, |span| span.start), message);
        return;
    }
    let place = match &service.identity {
        Identity::Unit(_) => written.unit.as_ref().map(Spanned::span),
        Identity::Container(_) => written.container.as_ref().map(Spanned::span),
        Identity::Match(_) => written.matcher.as_ref().map(Spanned::span),
        // Two copies of one command are two services, and a remote one is known by its probes alone.
        Identity::Exec(_) | Identity::Remote => None,
    };
    let twin = others.iter().position(|other| other.identity == service.identity);
    if let (Some(place), Some(at)) = (place, twin) {
        let message = format!("service `{}` watches the same; expected one service for it", others[at].name);
        found.error_of_two(place, all.get(at).map_or(0, |other| other.span().start), message);
    }
}
