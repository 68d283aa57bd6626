//! The stack: a web application that needs Redis, a service of workers, Redis, PostgreSQL, and a client of that.

use std::{
    cell::RefCell,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{health::Health, interrupt};
use crate::{
    daemon::{Daemon, Mark},
    http::{self, free_port},
    incident_events::listening_pid,
    matrix::{
        receiver::Receiver,
        scene::{PATIENCE, Service, victim},
    },
    parts::{PostgresFolder, Redis, built},
    process::until,
};

pub(super) const WEB: &str = "web";
pub(super) const JOBS: &str = "jobs";
pub(super) const CACHE: &str = "cache";
pub(super) const DB: &str = "db";
pub(super) const SHOP: &str = "shop";

/// All of them.
const NAMES: [&str; 5] = [WEB, JOBS, CACHE, DB, SHOP];

/// The event stream, in the folder that is kept.
pub(super) const EVENTS: &str = "events.ndjson";

/// How long Redis takes to start, in milliseconds: long enough for the application to be seen failing, and short
/// enough for its grace.
const REDIS_START_MS: &str = "1200";

/// A fault that is not rare by itself needs no more than this to differ from a single late answer.
const TIMES: &str = "interval = \"200ms\"\ntimeout = \"800ms\"\nfailures = 2\nslow = \"500ms\"";

/// All faults are done to the same services, so their budget has to bear it.
const RESTART: &str = "enabled = true\nbudget = \"50 per 10m\"\nbackoff = \"100ms..2s\"\ngrace = \"2s\"";

/// So often is a service probed until the grace after its start is over, and some.
const PROBES_IN_GRACE: u64 = 12;

/// The running stack and its daemon.
pub(super) struct Stack {
    /// It comes first, because it ends the services that have their folders below.
    pub daemon: Daemon,
    pub web: u16,
    pub jobs: u16,
    pub shop: u16,
    /// Holds what is kept: events, snapshots, the services' output.
    kept: PathBuf,
    _redis: TempDir,
    _postgres: PostgresFolder,
}

impl Stack {
    /// Starts everything, and waits until all of it is well.
    pub fn start() -> Result<Self, String> {
        let kept = tempfile::Builder::new().prefix("hostprobe-demo-").tempdir().map_err(said)?.keep();
        let redis_folder = tempfile::tempdir().map_err(said)?;
        let postgres = PostgresFolder::new().ok_or("there is no PostgreSQL")?;
        let [web, jobs, redis, sql, shop] = std::array::from_fn(|_| free_port());
        // The probe needs its user from the start.
        postgres.serve_once(sql, "CREATE ROLE probe LOGIN IN ROLE pg_monitor; CREATE ROLE shop LOGIN");
        let services = [
            Service::exec(WEB, &[victim(web), words(&["--redis", &redis.to_string()])].concat(), web),
            Service::exec(JOBS, &program("workers", &["--port", &jobs.to_string(), "--workers", "1"]), jobs),
            Service::exec(CACHE, &slow_redis(redis, redis_folder.path()), redis)
                .probe(&format!("redis = \"redis://127.0.0.1:{redis}\"")),
            // Three of its connections are reserved for superusers; twelve remain.
            Service::exec(DB, &[postgres.command(sql), words(&["-c", "max_connections=15"])].concat(), sql)
                .probe(&format!(
                    "postgres = \"postgres://probe@127.0.0.1:{sql}/postgres\"\nconnections_percent = 90"
                )),
            Service::exec(
                SHOP,
                &program("client", &["--port", &shop.to_string(), "--postgres", &sql.to_string()]),
                shop,
            ),
        ];
        let services = services.map(|service| service.times(TIMES).restart(RESTART).config(&kept));
        let snapshots = kept.join("snapshots").display().to_string();
        let config = format!(
            "[http]\nlisten = \"\"\n[restart]\nbudget = \"50 per 10m\"\n[snapshots]\ndirectory = {snapshots:?}\n{}{}",
            Receiver::start().config(),
            services.concat()
        );
        let daemon = Daemon::start(&config, &[]);
        let this = Self { daemon, web, jobs, shop, kept, _redis: redis_folder, _postgres: postgres };
        if this.calm(Mark::default(), Health::of_none(&NAMES)) {
            this.until_graces_are_over();
            return Ok(this);
        }
        if interrupt::came() {
            return Err("interrupted".to_owned());
        }
        let log = this.daemon.log();
        let kept = this.end().map_err(said)?;
        Err(format!("not all of it became well; see {}; the daemon's log: {log}", kept.display()))
    }

    /// Waits until every service is well and no incident is open; false if that takes too long or the daemon ends.
    pub fn calm(&self, after: Mark, health: Health) -> bool {
        let health = RefCell::new(health);
        self.find(after, |event| health.borrow_mut().is_calm_with(event)).is_some()
    }

    /// Waits until failed probes count for all services.
    pub fn until_graces_are_over(&self) {
        let probed = || http::get(self.web, "/count").ok()?.1.parse::<u64>().ok();
        let probed = || if interrupt::came() { Some(u64::MAX) } else { probed() };
        let before = until("the web application counts its probes", PATIENCE, probed);
        let enough = before.saturating_add(PROBES_IN_GRACE);
        until("it is probed on", PATIENCE, || probed().filter(|&now| now >= enough));
    }

    /// Waits for the first such event after a mark; None if it takes too long or the daemon ends.
    pub fn find(&self, after: Mark, such: impl Fn(&Value) -> bool) -> Option<Value> {
        self.daemon.find_after(after, such, PATIENCE)
    }

    /// The process of a service that listens.
    pub fn pid(&self, service: &str) -> u32 {
        listening_pid(&self.daemon, service)
    }

    /// Whether the daemon has ended, as by Ctrl-C.
    pub fn is_over(&self) -> bool {
        interrupt::came() || self.daemon.count(|event| crate::daemon::event_action(event) == "agent.stop") > 0
    }

    /// Ends everything, and returns the folder that holds what is left of it.
    pub fn end(mut self) -> io::Result<PathBuf> {
        if !self.is_over() {
            self.daemon.stop();
        }
        let lines: String = self.daemon.events().iter().map(|event| format!("{event}\n")).collect();
        fs::write(self.kept.join(EVENTS), lines)?;
        Ok(self.kept.clone())
    }
}

fn slow_redis(port: u16, folder: &Path) -> Vec<String> {
    [program("delayed_start", &[REDIS_START_MS]), Redis::command(port, folder)].concat()
}

fn program(name: &str, arguments: &[&str]) -> Vec<String> {
    [vec![built(name).display().to_string()], words(arguments)].concat()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn said(error: io::Error) -> String {
    error.to_string()
}
