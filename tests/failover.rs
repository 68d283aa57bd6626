//! The example of a failover: a real standby is promoted once its primary is down and stays down, never when the primary is only
//! slow, and never twice.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    incident_events::{is, number, text},
    parts::{Postgres, Standby, require_root},
    process::{children, until},
};
use rustix::process::{Pid, Signal, kill_process};

const LONG: Duration = Duration::from_secs(60);

/// For so long the primary has to be down, in seconds.
const DOWN: u32 = 2;

struct Lab {
    primary: Postgres,
    standby: Standby,
    daemon: Option<Daemon>,
    folder: tempfile::TempDir,
}

impl Lab {
    fn start() -> Option<Self> {
        if !require_root() {
            return None;
        }
        let primary = Postgres::start(&[])?;
        let standby = Standby::of(&primary);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut lab = Self { primary, standby, daemon: None, folder };
        lab.start_daemon();
        Some(lab)
    }

    fn start_daemon(&mut self) {
        let server = |port: u16| format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/promote-standby");
        let program = self.folder.path().join("promote-standby");
        fs::copy(example, &program).expect("the example is there");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is this test's own");
        let command = [
            program.display().to_string(),
            server(self.primary.port),
            server(self.standby.port),
            DOWN.to_string(),
            self.folder.path().join("lock").display().to_string(),
        ];
        let config = format!(
            "[http]\nlisten = \"\"\n[[service]]\nname = \"primary\"\n[[service.probe]]\n\
             postgres = \"postgres://postgres@127.0.0.1:{}/postgres\"\ninterval = \"500ms\"\ntimeout = \"1s\"\n\
             failures = 2\nslow = \"500ms\"\n[[hook]]\non = [\"incident.open\"]\nservices = [\"prim*\"]\n\
             verdicts = [\"unhealthy\", \"overloaded\"]\ncommand = {command:?}\ntimeout = \"1m\"\n",
            self.primary.port
        );
        self.daemon = None;
        let daemon = Daemon::start(&config, &[]);
        daemon.ready();
        self.daemon = Some(daemon);
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    fn until_healthy(&self) {
        let healthy =
            |event: &_| is(event, "service.state", "primary") && text(event, "service.state") == "healthy";
        self.daemon().wait_for(healthy, LONG);
    }

    fn is_standby(&self) -> bool {
        self.standby.sql("SELECT pg_is_in_recovery()") == "t"
    }

    /// The promotions that the standby's log tells of.
    fn promotions(&self) -> usize {
        self.standby.timeline() - 1
    }

    /// The exit status of the hook's next run.
    fn ran(&self) -> Option<i64> {
        let run = self.daemon().wait_for(|event| event_action(event) == "hook.run", LONG);
        assert!(text(&run, "hook.command").ends_with("/promote-standby"), "{run:#}");
        number(&run, "hook.exit_code")
    }

    fn signal_primary(&self, signal: Signal) {
        let postmaster = self.primary.process.pid();
        let all = children(postmaster).into_iter().chain([postmaster]);
        for pid in all.filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            // A child may have ended since.
            let _ = kill_process(pid, signal);
        }
    }
}

#[test]
fn a_standby_is_promoted_once_when_its_primary_is_down_and_not_again_by_the_next_daemon() {
    let Some(mut lab) = Lab::start() else { return };
    lab.until_healthy();
    assert!(lab.is_standby());
    lab.signal_primary(Signal::KILL);
    assert_eq!(lab.ran(), Some(0));
    assert!(!lab.is_standby());
    assert_eq!(lab.promotions(), 1);
    lab.standby.sql("CREATE TABLE written_after(x int)");

    lab.start_daemon();
    assert_eq!(lab.ran(), Some(0), "the next daemon's hook finds that it was promoted");
    assert_eq!(lab.promotions(), 1);
}

#[test]
fn a_standby_stays_one_while_its_primary_is_only_slow() {
    let Some(lab) = Lab::start() else { return };
    lab.until_healthy();
    lab.signal_primary(Signal::STOP);
    lab.daemon().wait_for(|event| is(event, "incident.open", "primary"), LONG);
    // For longer than a primary that is down may be.
    std::thread::sleep(Duration::from_secs(u64::from(DOWN) + 3));
    assert!(lab.is_standby());
    lab.signal_primary(Signal::CONT);
    assert_eq!(lab.ran(), Some(1));
    until("the primary is well", LONG, || {
        (lab.daemon().count(|event| is(event, "incident.resolve", "primary")) > 0).then_some(())
    });
    assert!(lab.is_standby());
    assert_eq!(lab.promotions(), 0);
}
