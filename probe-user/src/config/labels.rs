//! Services from the labels of containers.
//!
//! A label is foreign text: everyone who may start a container writes it. So labels name a port, a path and times, and nothing
//! else: no command, no address, no header, no secret. They turn on restarts only where the configuration lets them.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    time::Duration,
};

use super::{
    container::Container,
    daemon::Config,
    probe::Probe,
    secret::Secret,
    service::{Identity, Service},
    values::{duration, quote},
};
use crate::fact::{LabelledContainer, Limits, Policy, ProbeKind, RestartPolicy, ServiceId};

/// The most services from labels. Further containers are left out.
const SERVICES_MAX: usize = 64;

/// How often a label may have a probe run.
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const FAILURES: RangeInclusive<u32> = 1..=1000;

/// The characters of a path that a label may have: those of a URL's path and query.
const PATH: &[u8] = b"/-._~%!$&'()*+,;=:@?";

impl Config {
    /// Adds the services that containers ask for by their labels. A name or a container that the file has is the file's.
    /// `running` is the configuration that this one takes the place of: a container that is down has no address, and its
    /// service is probed as before. Returns what is wrong with labels, a sentence each.
    pub fn add_labelled(&mut self, found: &[LabelledContainer], running: Option<&Self>) -> Vec<String> {
        let mut wrong = Vec::new();
        if !self.containers.discover {
            return wrong;
        }
        let mut added = 0;
        for container in found {
            let name = container.labels.get("name").unwrap_or(&container.name);
            let is_known = self.services.iter().any(|service| {
                service.name == *name || service.container().is_some_and(|known| known.name == container.name)
            });
            if is_known {
                continue;
            }
            if added == SERVICES_MAX {
                wrong.push(format!(
                    "more than {SERVICES_MAX} containers have labels; the others are left out"
                ));
                break;
            }
            match service(container, name, self.containers.discover_restarts) {
                Ok(mut service) => {
                    let id = ServiceId(self.next_id());
                    let mut before = running.into_iter().flat_map(|running| &running.services);
                    let is_it = |before: &&Service| !container.runs && before.identity == service.identity;
                    if let Some(before) = before.find(is_it) {
                        service.probes.clone_from(&before.probes);
                    }
                    self.services.push(Service { id, ..service });
                    added += 1;
                }
                Err(why) => wrong.push(format!("container {}: {why}", quote(&container.name))),
            }
        }
        wrong
    }
}

fn service(container: &LabelledContainer, name: &str, may_restart: bool) -> Result<Service, String> {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_name = |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(named) && text != "host";
    if !is_name(name) || !container.name.bytes().all(named) {
        return Err(format!("{} is no name of a service", quote(name)));
    }
    let Keys { http, tcp, interval, timeout, failures, restart } = keys(container)?;
    let address = match container.address {
        // An address elsewhere would have hostprobe ask other hosts on behalf of a label.
        Some(IpAddr::V4(address)) if address.is_private() => IpAddr::V4(address),
        Some(_) | None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let http = http.map(|(port, path)| (ProbeKind::Http, format!("http://{address}:{port}{path}")));
    let tcp = tcp.map(|port| (ProbeKind::Tcp, format!("{address}:{port}")));
    let probes = http.into_iter().chain(tcp).map(|(kind, target)| {
        let default = Probe::new(kind, Secret::new(target));
        Probe {
            interval: interval.unwrap_or(default.interval),
            timeout: timeout.unwrap_or(default.timeout),
            failures: failures.unwrap_or(default.failures),
            ..default
        }
    });
    Ok(Service {
        id: ServiceId(0),
        name: name.to_owned(),
        identity: Identity::Container(Container {
            name: container.name.clone(),
            engine: Some(container.engine),
        }),
        depends_on: Vec::new(),
        start_after: Vec::new(),
        // A label does not decide on the health of the whole host.
        critical: false,
        maintenance: Vec::new(),
        probes: probes.collect(),
        restart: RestartPolicy { enabled: restart && may_restart, ..RestartPolicy::default() },
        limits: Limits::default(),
        policy: Policy::default(),
    })
}

#[derive(Debug, Default)]
struct Keys {
    http: Option<(u16, String)>,
    tcp: Option<u16>,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    failures: Option<u32>,
    restart: bool,
}

fn keys(container: &LabelledContainer) -> Result<Keys, String> {
    let mut keys = Keys::default();
    let (mut port, mut path) = (None, None);
    for (key, value) in &container.labels {
        let wrong =
            |expected: &str| format!("label hostprobe.{key} is {}; expected {expected}", quote(value));
        let number = || value.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(|| wrong("a port"));
        let time = |range: RangeInclusive<Duration>| {
            let read = duration(value).ok().filter(|time| range.contains(time));
            read.ok_or_else(|| wrong("a duration in its range, such as \"10s\""))
        };
        match key.as_str() {
            "enable" | "name" => {}
            "http.port" => port = Some(number()?),
            "http.path" => {
                let fits = value.starts_with('/') && value.len() <= 256;
                let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || PATH.contains(&byte));
                path = Some(value.clone()).filter(|_| fits && plain);
                if path.is_none() {
                    return Err(wrong("a path such as \"/health\""));
                }
            }
            "tcp.port" => keys.tcp = Some(number()?),
            "interval" => keys.interval = Some(time(INTERVAL)?),
            "timeout" => keys.timeout = Some(time(TIMEOUT)?),
            "failures" => {
                let read = value.parse().ok().filter(|failures| FAILURES.contains(failures));
                keys.failures = Some(read.ok_or_else(|| wrong("a number from 1 to 1000"))?);
            }
            "restart" => keys.restart = value == "true",
            _ => return Err(format!("label hostprobe.{} is unknown", quote(key))),
        }
    }
    if path.is_some() && port.is_none() {
        return Err("label hostprobe.http.path needs hostprobe.http.port".to_owned());
    }
    keys.http = port.map(|port| (port, path.unwrap_or_else(|| "/".to_owned())));
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::ContainerEngine;

    fn labelled(labels: &[(&str, &str)]) -> LabelledContainer {
        LabelledContainer {
            engine: ContainerEngine::Docker,
            name: "shop-web-1".to_owned(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            runs: true,
            address: "10.1.2.3".parse().ok(),
        }
    }

    fn discovering(restarts: bool) -> Config {
        let mut config = Config::default();
        (config.containers.discover, config.containers.discover_restarts) = (true, restarts);
        config
    }

    #[test]
    fn labels_name_ports_paths_and_times() {
        let mut config = discovering(true);
        let labels = [
            ("enable", "true"),
            ("http.port", "8080"),
            ("http.path", "/health?full=1"),
            ("tcp.port", "9000"),
            ("interval", "2s"),
            ("failures", "5"),
            ("restart", "true"),
        ];
        assert_eq!(config.add_labelled(&[labelled(&labels)], None), [""; 0]);
        let service = &config.services[0];
        assert_eq!((service.name.as_str(), service.critical), ("shop-web-1", false));
        assert!(service.restart.enabled && service.container().is_some());
        let targets: Vec<&str> = service.probes.iter().map(|probe| probe.target.expose()).collect();
        assert_eq!(targets, ["http://10.1.2.3:8080/health?full=1", "10.1.2.3:9000"]);
        assert_eq!((service.probes[0].interval, service.probes[0].failures), (Duration::from_secs(2), 5));
    }

    #[test]
    fn a_label_gives_no_right_that_the_configuration_does_not_give() {
        let restart = labelled(&[("restart", "true"), ("tcp.port", "1")]);
        let mut config = discovering(false);
        config.add_labelled(std::slice::from_ref(&restart), None);
        assert!(!config.services[0].restart.enabled);
        let mut off = Config::default();
        off.add_labelled(&[restart], None);
        assert!(off.services.is_empty(), "discovery is off unless it is asked for");
        for (key, value) in [
            ("exec", "/bin/sh"),
            ("http.path", "//evil.example/"),
            ("http.path", "/a b"),
            ("http.path", "x@evil.example"),
            ("http.port", "0"),
            ("http.port", "80@evil.example"),
            ("interval", "1ms"),
            ("failures", "0"),
            ("name", "host"),
            ("name", "a b"),
            ("restart.command", "/bin/sh"),
        ] {
            let mut config = discovering(true);
            let wrong = config.add_labelled(&[labelled(&[(key, value)])], None);
            assert_eq!((wrong.len(), config.services.len()), (1, 0), "{key} = {value}: {wrong:?}");
        }
    }

    #[test]
    fn an_address_elsewhere_is_not_asked() {
        for address in ["169.254.169.254", "8.8.8.8", "::1"] {
            let elsewhere =
                LabelledContainer { address: address.parse().ok(), ..labelled(&[("http.port", "80")]) };
            let mut config = discovering(false);
            config.add_labelled(&[elsewhere], None);
            assert_eq!(config.services[0].probes[0].target.expose(), "http://127.0.0.1:80/", "{address}");
        }
    }

    #[test]
    fn a_container_that_is_down_is_probed_where_it_was() {
        let up = labelled(&[("http.port", "80")]);
        let mut running = discovering(false);
        running.add_labelled(std::slice::from_ref(&up), None);
        let down = LabelledContainer { runs: false, address: None, ..up };
        let mut config = discovering(false);
        config.add_labelled(&[down], Some(&running));
        assert_eq!(config.services[0].probes, running.services[0].probes);
    }

    #[test]
    fn the_files_services_come_first_and_labels_are_bounded() {
        let mut config = discovering(false);
        let many: Vec<LabelledContainer> = (0..200)
            .map(|number| LabelledContainer { name: format!("c{number}"), ..labelled(&[("tcp.port", "1")]) })
            .collect();
        let wrong = config.add_labelled(&many, None);
        assert_eq!((config.services.len(), wrong.len()), (SERVICES_MAX, 1));
        config.add_labelled(&many[..1], None);
        assert_eq!(config.services.len(), SERVICES_MAX, "it is there already");
        let ids: Vec<u32> = config.services.iter().map(|service| service.id.0).collect();
        assert!(ids.is_sorted() && ids.first() == Some(&0));
    }
}
