//! What happens on the day.

use std::{path::Path, time::Duration};

use hostprobe::{
    clock::Timestamp,
    config::Config,
    fact::{
        CommandKind, EventId, ExitStatus, Membership, Observation, Operator, OperatorCommand, Order,
        ProbeFailure, ProbeOutcome, Process, ProcessExit, Sender, Source, User,
    },
};

use super::{clock::moment, recorder::Recorder};

/// Between two probes of a service.
const INTERVAL: u64 = 30;
const QUICK: Duration = Duration::from_millis(1);

/// Three supervised services, of which hostprobe does not restart the cache. No daemon runs.
pub(super) fn config(folder: &Path) -> String {
    let service = |name: &str, further: &str| {
        format!(
            "[[service]]\nname = {name:?}\nexec = [\"/usr/bin/{name}\"]\n[[service.probe]]\n\
             http = \"http://127.0.0.1:80/{name}\"\ninterval = \"30s\"\nslow = \"2s\"\nfailures = 3\n{further}"
        )
    };
    format!(
        "[http]\nlisten = \"\"\n[control]\nsocket = {:?}\n[state]\ndirectory = {:?}\n{}{}{}",
        folder.join("control.sock"),
        folder.join("state"),
        service("web", ""),
        service("db", ""),
        service("cache", "[service.restart]\nenabled = false\n"),
    )
}

/// The recording of the two daemons that ran on the day.
pub(super) fn record(config: &Config, wall_ahead: i128) -> Vec<u8> {
    let mut first = Day { recorder: Recorder::start(config, "aaaaaaaa", at(0, 0, 0.0), wall_ahead) };
    first.begin();
    first.killed_at_night();
    first.database_answers_with_errors();
    first.killed_while_paused();
    first.maintenance_of_the_database();
    first.cache_is_stopped_by_an_operator();
    first.calm_until(at(20, 0, 0.0));
    let mut second = Day { recorder: Recorder::start(config, "bbbbbbbb", at(20, 5, 0.0), wall_ahead) };
    second.begin();
    second.database_is_slow();
    second.cache_exits();
    second.calm_until(at(24, 0, 0.0));
    [first.recorder.stop(), second.recorder.stop()].concat()
}

fn at(hour: u32, minute: u32, second: f64) -> Timestamp {
    moment(Duration::from_secs_f64(f64::from(hour * 3600 + minute * 60) + second))
}

struct Day<'c> {
    recorder: Recorder<'c>,
}

impl Day<'_> {
    /// The services start, and answer.
    fn begin(&mut self) {
        for service in self.recorder.services() {
            let id = self.recorder.id(&service);
            self.recorder.run(id);
        }
    }

    /// Every probe is answered until a moment.
    fn calm_until(&mut self, until: Timestamp) {
        self.calm_but(until, &[]);
    }

    /// So are the probes of all services but these.
    fn calm_but(&mut self, until: Timestamp, others: &[&str]) {
        loop {
            let next = self.recorder.now.plus(Duration::from_secs(INTERVAL));
            if next >= until {
                break;
            }
            self.recorder.tick_until(next);
            self.recorder.now = next;
            for service in self.recorder.services() {
                if !others.contains(&&*service) {
                    self.recorder.answer(&service, QUICK, ProbeOutcome::Ok);
                }
            }
        }
        self.recorder.tick_until(until);
        self.recorder.now = until;
    }

    /// The main process of a service ends. The daemon knows of that 0.2 ms later.
    fn ends(&mut self, service: &str, status: ExitStatus, sender: Option<Sender>) {
        let (happened, id) = (self.recorder.now, self.recorder.id(service));
        let key = self.recorder.main_of(id);
        let exit = ProcessExit {
            at: happened,
            source: Source::Ebpf,
            process: Process { name: service.to_owned(), ..Process::unknown(key, 1) },
            status,
            sent_signal: status.signal(),
            sender,
            sender_service: None,
            oom: false,
            max_rss_bytes: 0,
            namespace_end: None,
            left_processes: false,
            crash: None,
            actor: None,
        };
        let member = Membership { service: id, main: true };
        let known = happened.plus(Duration::from_micros(200));
        self.recorder.see(known, Observation::Exit(exit, member, EventId(1)));
    }

    fn killed(&mut self, service: &str) {
        let bash =
            Sender::Process { pid: 4000, name: "bash".to_owned(), user_id: 0, unit: None, terminal: false };
        let status = ExitStatus::Signal { number: 9, core_dumped: false };
        self.ends(service, status, Some(bash));
    }

    fn killed_at_night(&mut self) {
        self.calm_until(at(3, 12, 0.25));
        self.killed("web");
    }

    /// Three probes in a row get the status 500, every 10 s.
    fn database_answers_with_errors(&mut self) {
        self.calm_until(at(9, 30, 0.25));
        for _ in 0..3 {
            let failed = ProbeOutcome::Failed(ProbeFailure::Status, "status 500".to_owned());
            self.recorder.now = self.recorder.now.plus(Duration::from_secs(10));
            self.recorder.answer("db", QUICK, failed);
        }
    }

    fn order(&self, kind: CommandKind, until: Option<Timestamp>) -> Order {
        let user = User { id: 1000, name: Some("alice".to_owned()) };
        Order { kind, by: Operator { user, login: None }, reason: None, since: self.recorder.now, until }
    }

    fn command(&mut self, service: &str, command: OperatorCommand) {
        let id = self.recorder.id(service);
        self.recorder.see(self.recorder.now, Observation::Operator(id, command));
    }

    /// The pause holds the restart.
    fn killed_while_paused(&mut self) {
        self.calm_until(at(12, 0, 0.0));
        let order = self.order(CommandKind::Pause, Some(at(12, 30, 0.0)));
        self.command("web", OperatorCommand::Pause(order));
        self.calm_until(at(12, 10, 0.25));
        self.killed("web");
        self.calm_but(at(12, 31, 0.0), &["web"]);
    }

    fn maintenance_of_the_database(&mut self) {
        self.calm_until(at(15, 0, 0.0));
        self.command("db", OperatorCommand::Maintenance(Some("daily 15:00-15:15 UTC".to_owned())));
        self.calm_until(at(15, 15, 0.0));
        self.command("db", OperatorCommand::Maintenance(None));
    }

    fn cache_is_stopped_by_an_operator(&mut self) {
        self.calm_until(at(18, 0, 0.0));
        let stop = self.order(CommandKind::Stop, None);
        self.command("cache", OperatorCommand::Stop(stop));
        self.ends("cache", ExitStatus::Signal { number: 15, core_dumped: false }, None);
        self.calm_but(at(18, 20, 0.0), &["cache"]);
        let start = self.order(CommandKind::Start, None);
        self.command("cache", OperatorCommand::Start(start));
    }

    /// For two minutes, every answer takes 3 s.
    fn database_is_slow(&mut self) {
        self.calm_until(at(22, 0, 0.0));
        while self.recorder.now < at(22, 2, 0.0) {
            self.recorder.now = self.recorder.now.plus(Duration::from_secs(10));
            self.recorder.tick_until(self.recorder.now);
            self.recorder.answer("db", Duration::from_secs(3), ProbeOutcome::Ok);
        }
    }

    /// It stays down until the end of the day: its restart is not enabled.
    fn cache_exits(&mut self) {
        self.calm_until(at(23, 50, 0.25));
        self.ends("cache", ExitStatus::Code(1), None);
        self.calm_but(at(23, 59, 30.0), &["cache"]);
    }
}
