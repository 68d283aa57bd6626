//! The order in which the daemon takes in what happened.

use std::process::{Command, Stdio};

use super::*;
use crate::{
    config::EventOutput,
    fact::{ProbeFailure, ProbeKind, ServiceState, Verdict},
    host::ProcReader,
};

const WEB: ServiceId = ServiceId(0);

fn probed(outcome: ProbeOutcome) -> ProbeReport {
    ProbeReport {
        service: WEB,
        index: 0,
        at: Timestamp::now(),
        kind: ProbeKind::Tcp,
        target: "127.0.0.1:1".to_owned(),
        duration: Duration::ZERO,
        outcome,
        hurried: None,
        remark: None,
        server: None,
    }
}

#[tokio::test]
async fn a_connection_that_a_dying_server_resets_comes_after_its_exit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("h.toml");
    let state = folder.path().join("state");
    let text = format!(
        "[http]\nlisten = \"\"\n[state]\ndirectory = {state:?}\n[[service]]\nname = \"web\"\n\
         match = {{ exe = \"/no/such/program\" }}\n[[service.probe]]\ntcp = \"127.0.0.1:1\"\ninterval = \"1h\"\n\
         failures = 1\n"
    );
    std::fs::write(&file, text).unwrap();
    let events = vec![EventOutput::File(folder.path().join("events"))];
    let options = RunOptions { events: Some(events), observe: true, ..RunOptions::default() };
    let (mut daemon, _inbox) = Daemon::start(Config::load(&file).unwrap(), options).await.unwrap();

    // It ends with this test, however that ends.
    let mut server = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
    let main = ProcReader::new("/").unwrap().key_of(server.id()).unwrap();
    daemon.set_main(WEB, Some(main));
    daemon.observe(Observation::Running(WEB, main));
    daemon.on_probe(probed(ProbeOutcome::Ok));
    daemon.drain_sensors();
    daemon.execute_effects();
    let view = |daemon: &Daemon| daemon.engine.view().find(|view| view.service == WEB).unwrap();
    assert_eq!(view(&daemon).state, ServiceState::Healthy);

    // Its exit is seen, and the loop does not read it: others have a turn.
    server.kill().unwrap();
    server.wait().unwrap();
    daemon.on_probe(probed(ProbeOutcome::Failed(ProbeFailure::Reset, "the connection was reset".to_owned())));
    let open = view(&daemon).incident.unwrap();
    assert_eq!((open.verdict, view(&daemon).state), (Verdict::Killed, ServiceState::Down));
}
