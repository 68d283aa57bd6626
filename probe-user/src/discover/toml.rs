//! A configuration for the found servers, with comments for the operator who edits it.

use std::fmt::Write as _;

use super::{
    found::{Found, merge},
    name,
};
use crate::{
    config::{Identity, Matcher, Probe, Service},
    escape::escaped_json,
};

/// A configuration file for these services. Those of one unit are one service there: it is started and
/// stopped as a whole.
pub fn to_toml(found: &[Found]) -> String {
    let mut found = merge(found.to_vec(), |one, other| one.unit.is_some() && one.unit == other.unit);
    for found in &mut found {
        if let Some(unit) = &found.unit {
            found.service.name = name::of(Some(unit), "");
        }
    }
    name::make_unique(&mut found);
    let mut text = "\
# What hostprobe found listening on this host. It watches all of this and restarts nothing until
# [service.restart] says so.
"
    .to_owned();
    if found.is_empty() {
        text.push_str("# Nothing listens on a TCP port.\n");
    }
    for found in &found {
        text.push('\n');
        service(&mut text, found);
    }
    text
}

fn service(text: &mut String, found: &Found) {
    let Found { service, unit, ports } = found;
    line(text, "[[service]]");
    line(text, &format!("name = {}", quoted(&service.name)));
    identity(text, service, unit.as_deref());
    if ports.len() > 1 {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        line(text, &format!("# It listens on ports {}.", ports.join(", ")));
    }
    line(text, &format!("critical = {}", service.critical));
    for each in &service.probes {
        text.push('\n');
        probe(text, each);
    }
    if service.probes.is_empty() {
        line(
            text,
            "# No probe: hostprobe sees its process and listener, not whether it answers. For a web server:",
        );
        line(text, "# [[service.probe]]");
        let port = ports.first().copied().unwrap_or(80);
        line(text, &format!("# http = \"http://127.0.0.1:{port}/health\""));
    }
    text.push('\n');
    line(text, "[service.restart]");
    line(text, &format!("enabled = {}", service.restart.enabled));
    if unit.is_none() {
        line(
            text,
            "# command = [\"/path/to/restart-it\"]    # needed once enabled, since no systemd unit runs it",
        );
    }
}

fn identity(text: &mut String, service: &Service, unit: Option<&str>) {
    if let Some(unit) = unit {
        // systemd must know of a restart, and what it stopped has not failed.
        return line(text, &format!("unit = {}", quoted(unit)));
    }
    match &service.identity {
        Identity::Unit(unit) => line(text, &format!("unit = {}", quoted(unit))),
        Identity::Match(Matcher { exe, port, .. }) => {
            let exe = exe.as_ref().map(|exe| format!("exe = {}", quoted(&exe.display().to_string())));
            let port = port.map(|port| format!("port = {port}"));
            let parts: Vec<String> = exe.into_iter().chain(port).collect();
            line(text, &format!("match = {{ {} }}", parts.join(", ")));
        }
        Identity::Container(container) => line(text, &format!("container = {}", quoted(&container.name))),
        Identity::Exec(_) | Identity::Remote => {}
    }
}

fn probe(text: &mut String, probe: &Probe) {
    line(text, "[[service.probe]]");
    line(text, &format!("{} = {}", probe.kind.as_str(), quoted(&probe.target.to_string())));
    line(text, &format!("interval = \"{:?}\"", probe.interval));
    line(text, &format!("timeout = \"{:?}\"", probe.timeout));
    line(text, &format!("failures = {}", probe.failures));
    if probe.auth_is_alive {
        line(
            text,
            "login_required = false    # it counts as healthy where it asks for a password that it was not given",
        );
        line(text, "# password_file = \"/etc/hostprobe/secret\"    # with which login_required = true");
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{line}");
}

/// A basic string of TOML, on one line and without characters that a terminal obeys.
fn quoted(text: &str) -> String {
    // The escapes of JSON are also those of TOML, but for characters of more than 16 bits.
    let plain = text.chars().filter(|char| !matches!(char, '\u{e0000}'..='\u{e007f}'));
    let mut json = serde_json::Value::String(plain.collect()).to_string().into_bytes();
    escaped_json(&mut json);
    String::from_utf8_lossy(&json).into_owned()
}
