//! What a valid configuration names and this host does not have.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use crate::fact::{ProbeKind, RestartPolicy};

use super::{
    daemon::Config,
    nearest::nearest,
    service::{Identity, Service},
    tls::TlsOptions,
};

/// Where systemd looks for units (`systemd.unit(5)`), below the root.
const UNIT_FOLDERS: [&str; 10] = [
    "etc/systemd/system",
    "etc/systemd/system.control",
    "run/systemd/system",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "run/systemd/generator",
    "run/systemd/generator.late",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// This exists where systemd is the host's init (`sd_booted(3)`), below the root.
const SYSTEMD: &str = "run/systemd/system";

impl Config {
    /// What it names and the host with this root folder does not have, a sentence each.
    pub fn absent(&self, root: &Path) -> Vec<String> {
        let mut absent = Vec::new();
        if self.services.is_empty() {
            absent.push(
                "there is no service to watch; add a [[service]], or begin with what `hostprobe discover` prints"
                    .to_owned(),
            );
        }
        for service in &self.services {
            let missing = of_service(service, root);
            absent
                .extend(missing.into_iter().map(|missing| format!("service `{}`: {missing}", service.name)));
        }
        for hook in &self.hooks {
            absent.extend(program(hook.command.first(), root).map(|missing| format!("hook: {missing}")));
        }
        let of_alerts = self.alerts.iter().filter_map(|alert| alert.tls.as_ref()).flat_map(TlsOptions::files);
        absent.extend(of_alerts.filter(|(_, file)| !below(root, file).is_file()).map(|(key, file)| {
            format!("alert: {}: no such file, so the receiver with this `{key}` gets nothing", file.display())
        }));
        absent
    }
}

fn of_service(service: &Service, root: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    match &service.identity {
        Identity::Unit(_) if !root.join(SYSTEMD).is_dir() => {
            missing.push("`unit` needs systemd, which does not run this host".to_owned());
        }
        Identity::Unit(unit) if !has_unit(unit, root) => {
            let known = units(root);
            let near = nearest(unit, known.iter().map(String::as_str));
            let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            missing.push(format!(
                "systemd has no unit {unit}{hint}; `systemctl list-unit-files` lists those it has"
            ));
        }
        // `doctor` tells whether an engine answers.
        Identity::Unit(_) | Identity::Container(_) | Identity::Remote => {}
        Identity::Exec(exec) => {
            missing.extend(program(exec.command.first(), root));
            if !below(root, &exec.directory).is_dir() {
                missing.push(format!("{}: no such directory", exec.directory.display()));
            }
        }
        Identity::Match(matcher) => {
            missing.extend(
                matcher
                    .exe
                    .as_ref()
                    .filter(|exe| !below(root, exe).exists())
                    .map(|exe| format!("{}: no such file, so no process executes it", exe.display())),
            );
        }
    }
    for exec in service.probes.iter().filter_map(|probe| probe.exec.as_ref()) {
        missing.extend(program(exec.command.first(), root));
    }
    if service.probes.iter().any(|probe| probe.kind == ProbeKind::Icmp) {
        missing.extend(ping_right(root));
    }
    let of_tls = service.probes.iter().filter_map(|probe| probe.tls.as_ref()).flat_map(TlsOptions::files);
    missing.extend(of_tls.filter(|(_, file)| !below(root, file).is_file()).map(|(key, file)| {
        format!("{}: no such file, so the probe with this `{key}` fails", file.display())
    }));
    let RestartPolicy { command, before, .. } = &service.restart;
    for command in [command, before].into_iter().flatten() {
        missing.extend(program(command.first(), root));
    }
    missing
}

/// Why echo requests take a right.
fn ping_right(root: &Path) -> Option<String> {
    let range = fs::read_to_string(root.join("proc/sys/net/ipv4/ping_group_range")).ok()?;
    let mut limits = range.split_whitespace().filter_map(|limit| limit.parse::<u32>().ok());
    let (first, last) = (limits.next()?, limits.next()?);
    (first > last).then(|| {
        "`icmp` needs CAP_NET_RAW, because the sysctl net.ipv4.ping_group_range lets no group send echo requests".to_owned()
    })
}

/// Why a command cannot be started.
fn program(program: Option<&String>, root: &Path) -> Option<String> {
    let program = program?;
    match fs::metadata(below(root, Path::new(program))) {
        Err(error) => Some(format!("{program}: cannot be started: {error}")),
        Ok(file) if !file.is_file() => Some(format!("{program}: cannot be started: not a file")),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => {
            Some(format!("{program}: cannot be started: not executable"))
        }
        Ok(_) => None,
    }
}

/// Whether there is a file for a unit, or for the template that it is an instance of.
fn has_unit(unit: &str, root: &Path) -> bool {
    let template = unit.split_once('@').map(|(name, _)| format!("{name}@.service"));
    let exists = |name: &str| {
        // A masked unit is a link to /dev/null, and an alias may dangle below another root.
        UNIT_FOLDERS.iter().any(|folder| root.join(folder).join(name).symlink_metadata().is_ok())
    };
    exists(unit) || template.is_some_and(|template| exists(&template))
}

/// The services that systemd has files for.
fn units(root: &Path) -> Vec<String> {
    let entries = UNIT_FOLDERS.iter().filter_map(|folder| fs::read_dir(root.join(folder)).ok()).flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".service")).collect()
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn programs_units_and_directories_that_the_host_lacks_are_named() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["usr/lib/systemd/system", "run/systemd/system", "srv", "proc/sys/net/ipv4"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for unit in ["nginx.service", "pg@.service"] {
            fs::write(root.path().join("usr/lib/systemd/system").join(unit), "").unwrap();
        }
        fs::write(root.path().join("srv/notes"), "").unwrap();
        fs::write(root.path().join("proc/sys/net/ipv4/ping_group_range"), "1\t0\n").unwrap();
        let file = root.path().join("hostprobe.toml");
        let service = |name: &str, keys: &str| format!("[[service]]\nname = \"{name}\"\n{keys}\n");
        let text = [
            service("web", "unit = \"nginx.service\""),
            service("db", "unit = \"pg@main.service\""),
            service("typo", "unit = \"ngnix.service\""),
            service("worker", "exec = [\"/srv/notes\"]\ndirectory = \"/nowhere\""),
            service("gone", "exec = [\"/srv/gone\"]\ndirectory = \"/srv\""),
            service("router", "[[service.probe]]\nicmp = \"192.0.2.1\""),
            service("mail", "[[service.probe]]\nexec = [\"/srv/check_mail\"]"),
            service("cache", "match = { exe = \"/srv/cache\" }\n[service.restart]\ncommand = [\"/srv\"]"),
        ];
        fs::write(&file, text.concat()).unwrap();
        let absent = Config::load(&file).unwrap().absent(root.path());
        let expected = [
            "service `typo`: systemd has no unit ngnix.service (did you mean `nginx.service`?); `systemctl list-unit-files` \
             lists those it has",
            "service `worker`: /srv/notes: cannot be started: not executable",
            "service `worker`: /nowhere: no such directory",
            "service `gone`: /srv/gone: cannot be started: No such file or directory (os error 2)",
            "service `router`: `icmp` needs CAP_NET_RAW, because the sysctl net.ipv4.ping_group_range lets no group send \
             echo requests",
            "service `mail`: /srv/check_mail: cannot be started: No such file or directory (os error 2)",
            "service `cache`: /srv/cache: no such file, so no process executes it",
            "service `cache`: /srv: cannot be started: not a file",
        ];
        assert_eq!(absent, expected);
    }

    #[test]
    fn a_file_without_services_and_a_host_without_systemd_are_remarked_on() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("hostprobe.toml");
        fs::write(&file, "").unwrap();
        let absent = Config::load(&file).unwrap().absent(root.path());
        assert!(absent[0].starts_with("there is no service to watch"), "{absent:?}");
        fs::write(&file, "[[service]]\nname = \"a\"\nunit = \"a.service\"\n").unwrap();
        let absent = Config::load(&file).unwrap().absent(root.path());
        assert_eq!(absent, ["service `a`: `unit` needs systemd, which does not run this host"]);
    }
}
