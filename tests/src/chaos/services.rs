//! The services: some thirty real ones, of which several need each other.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::fault::Role;
use crate::{
    http::free_port,
    parts::{MariadbFolder, PostgresFolder, Redis, built, nginx},
    victim::Victim,
};

/// A service of every run.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    pub name: &'static str,
    /// Services of one group need each other, and those of different groups do not.
    pub group: &'static str,
    pub role: Role,
    /// The service that it cannot work without, if there is one.
    pub needs: Option<&'static str>,
}

const fn spec(name: &'static str, group: &'static str, role: Role, needs: Option<&'static str>) -> Spec {
    Spec { name, group, role, needs }
}

const fn alone(name: &'static str, role: Role) -> Spec {
    spec(name, name, role, None)
}

pub const SERVICES: &[Spec] = &[
    spec("cache-1", "shop", Role::Redis, None),
    spec("app-1a", "shop", Role::App, Some("cache-1")),
    spec("app-1b", "shop", Role::App, Some("cache-1")),
    spec("front-1", "shop", Role::Nginx, Some("app-1a")),
    spec("cache-2", "blog", Role::Redis, None),
    spec("app-2a", "blog", Role::App, Some("cache-2")),
    spec("app-2b", "blog", Role::App, Some("cache-2")),
    spec("front-2", "blog", Role::Nginx, Some("app-2a")),
    spec("cache-3", "mail", Role::Redis, None),
    spec("app-3", "mail", Role::App, Some("cache-3")),
    spec("front-3", "mail", Role::Nginx, Some("app-3")),
    spec("far-cache", "far", Role::RemoteRedis, None),
    spec("app-far", "far", Role::App, Some("far-cache")),
    alone("postgres", Role::Postgres),
    alone("mariadb", Role::Mariadb),
    alone("memcached", Role::Memcached),
    alone("static", Role::Nginx),
    alone("victim-1", Role::Victim),
    alone("victim-2", Role::Victim),
    alone("victim-3", Role::Victim),
    alone("victim-4", Role::Victim),
    alone("victim-5", Role::Victim),
    alone("victim-6", Role::Victim),
    alone("victim-7", Role::Victim),
    alone("victim-8", Role::Victim),
    alone("victim-9", Role::Victim),
    alone("limited", Role::Limited),
    alone("looping", Role::Looping),
    alone("remote-1", Role::Remote),
    alone("remote-2", Role::Remote),
];

/// The row of a service.
///
/// # Panics
/// If there is none of this name.
pub fn of_name(name: &str) -> &'static Spec {
    SERVICES.iter().find(|spec| spec.name == name).expect("a service of this name")
}

/// Restarts of the service `limited` within [`WINDOW`].
pub const LIMITED_BUDGET: usize = 4;
/// Restarts of the service `looping`, which fails at each start.
pub const LOOPING_BUDGET: usize = 2;
/// Seconds.
pub const WINDOW: u64 = 20;

/// Ports and folders of the services of a run.
pub(super) struct Services {
    folder: TempDir,
    ports: BTreeMap<&'static str, u16>,
    postgres: Option<PostgresFolder>,
    mariadb: Option<MariadbFolder>,
}

impl Services {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            folder: TempDir::new()?,
            ports: SERVICES.iter().map(|spec| (spec.name, free_port())).collect(),
            postgres: PostgresFolder::new(),
            mariadb: MariadbFolder::new(""),
        })
    }

    /// Services whose program this host has.
    pub(super) fn there(&self) -> impl Iterator<Item = &'static Spec> {
        SERVICES.iter().filter(|spec| match spec.role {
            Role::Postgres => self.postgres.is_some(),
            Role::Mariadb => self.mariadb.is_some(),
            Role::Memcached => fs::exists(MEMCACHED).unwrap_or(false),
            Role::Victim
            | Role::Limited
            | Role::Looping
            | Role::Redis
            | Role::App
            | Role::Nginx
            | Role::Remote
            | Role::RemoteRedis => true,
        })
    }

    pub(super) fn port(&self, name: &str) -> u16 {
        self.ports[name]
    }

    /// The service `looping` crashes at its start while this is there.
    pub(super) fn crash_file(&self) -> PathBuf {
        self.folder.path().join("crash")
    }

    /// All of them in a configuration.
    pub(super) fn config(&self) -> Result<String> {
        self.there().map(|spec| self.service(spec)).collect()
    }

    fn service(&self, spec: &Spec) -> Result<String> {
        let port = self.port(spec.name);
        let mut text = format!("[[service]]\nname = {:?}\n", spec.name);
        if let Some(command) = self.command(spec)? {
            let output = self.folder.path().join(format!("{}.output", spec.name));
            text += &format!("exec = {command:?}\noutput = {:?}\n", output.display().to_string());
        }
        if let Some(needed) = spec.needs {
            text += &format!("depends_on = [{needed:?}]\n");
        }
        let probe = match spec.role {
            Role::Victim => format!("http = \"http://127.0.0.1:{port}/health\"\nslow = \"800ms\""),
            Role::Limited | Role::Looping | Role::App | Role::Nginx | Role::Remote => {
                format!("http = \"http://127.0.0.1:{port}/health\"")
            }
            Role::Redis | Role::RemoteRedis => format!("redis = \"redis://127.0.0.1:{port}\""),
            Role::Postgres => format!("postgres = \"postgres://postgres@127.0.0.1:{port}/postgres\""),
            Role::Mariadb => format!("mysql = \"mysql://root@127.0.0.1:{port}\""),
            Role::Memcached => {
                format!(
                    "tcp = \"127.0.0.1:{port}\"\nsend = 'version\\r\\n'\nexpect = {{ contains = \"VERSION\" }}"
                )
            }
        };
        text += &format!("[[service.probe]]\n{probe}\n");
        let restart = match spec.role {
            Role::Limited => format!("budget = \"{LIMITED_BUDGET} per {WINDOW}s\"\ngrace = \"3s\""),
            Role::Looping => format!("budget = \"{LOOPING_BUDGET} per {WINDOW}s\"\ngrace = \"3s\""),
            Role::Postgres | Role::Mariadb => "budget = \"10000 per 1h\"\ngrace = \"20s\"".to_owned(),
            Role::Victim | Role::Redis | Role::App | Role::Nginx | Role::Memcached => {
                "budget = \"10000 per 1h\"\ngrace = \"3s\"".to_owned()
            }
            Role::Remote | Role::RemoteRedis => return Ok(text),
        };
        Ok(text + &format!("[service.restart]\n{restart}\nbackoff = \"10ms..500ms\"\n"))
    }

    /// The command of a service that hostprobe starts.
    fn command(&self, spec: &Spec) -> Result<Option<Vec<String>>> {
        let port = self.port(spec.name).to_string();
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let victim = Victim::program().display().to_string();
        Ok(Some(match spec.role {
            Role::Victim | Role::Limited => words(&[&victim, "--port", &port]),
            Role::Looping => {
                words(&[&victim, "--port", &port, "--crash-if", &self.crash_file().display().to_string()])
            }
            Role::Redis => Redis::command(self.port(spec.name), self.folder.path()),
            Role::App => {
                let redis = self.port(spec.needs.context("an application needs a Redis")?).to_string();
                words(&[&built("app").display().to_string(), "--port", &port, "--redis", &redis])
            }
            Role::Nginx => {
                let answer = match spec.needs {
                    Some(app) => format!("proxy_pass http://127.0.0.1:{};", self.port(app)),
                    None => "return 200 ok;".to_owned(),
                };
                let server = format!("listen 127.0.0.1:{port}; location / {{ {answer} }}");
                nginx(self.folder.path(), spec.name, "daemon off; worker_processes 1;", &server)
                    .context("nginx is missing")?
            }
            Role::Postgres => {
                self.postgres.as_ref().context("PostgreSQL is missing")?.command(self.port(spec.name))
            }
            Role::Mariadb => {
                self.mariadb.as_ref().context("MariaDB is missing")?.command(self.port(spec.name))
            }
            Role::Memcached => {
                words(&[MEMCACHED, "-u", "root", "-m", "8", "-t", "1", "-l", "127.0.0.1", "-p", &port])
            }
            Role::Remote | Role::RemoteRedis => return Ok(None),
        }))
    }

    /// The command by which this harness starts a service that hostprobe does not start.
    pub(super) fn remote_command(&self, spec: &Spec) -> Vec<String> {
        if spec.role == Role::RemoteRedis {
            return Redis::command(self.port(spec.name), self.folder.path());
        }
        let port = self.port(spec.name).to_string();
        [Victim::program().display().to_string(), "--port".to_owned(), port].to_vec()
    }
}

const MEMCACHED: &str = "/usr/bin/memcached";
