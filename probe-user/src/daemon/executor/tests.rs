//! What the engine asks about processes is carried out, and answered once.

use std::net::TcpListener;

use super::*;
use crate::{
    act::container::Containers,
    config::{Probe, Secret, SnapshotOptions, StateOptions},
    emit::Origin,
    enrich::Members,
    fact::{Orders, ProbeKind},
    host::ProcReader,
    probe::{Clients, Prober},
};

const WEB: ServiceId = ServiceId(0);

fn config(folder: &std::path::Path) -> Config {
    let text = "[http]\nlisten = \"\"\n[[service]]\nname = \"web\"\nunit = \"web.service\"\n";
    let file = folder.join("h.toml");
    std::fs::write(&file, text).unwrap();
    let directory = folder.join("snapshots");
    Config {
        snapshots: SnapshotOptions { directory, keep: 2, stacks: false },
        ..Config::load(&file).unwrap()
    }
}

fn executor(config: &Config, reader: &ProcReader) -> (Executor, mpsc::Receiver<Answer>) {
    let (outcomes, _) = Outcomes::channel(16);
    let (answers, inbox) = Outcomes::channel(16);
    let inspector = Inspector::new(reader.clone(), answers.clone(), config.snapshots.clone());
    let executor = Executor {
        holders: HolderSearch::new(reader.clone(), inspector.blocking_reads.clone(), answers.clone()),
        queues: AcceptQueues::new(reader.clone(), inspector.blocking_reads.clone(), answers.clone()),
        pressure: PressureMonitor::new(reader.clone(), config, tokio::time::Instant::now()),
        host: HostMonitor::new(reader.clone()),
        inspector,
        outcomes,
        answers,
        unit_changes: mpsc::channel(1).0,
        systemd: Err("there is none in this test".to_owned()),
        orphans: None,
        unit_watches: Vec::new(),
        containers: Containers::new(&Default::default(), reader),
        container_states: Default::default(),
        connects_to_systemd: false,
        starts: Threads::lasting("exec"),
        reports: mpsc::channel(1).0,
        removals: Vec::new(),
        prober: Prober::new(Clients::new().unwrap(), mpsc::channel(1).0, mpsc::channel(1).0),
        supervised: HashMap::new(),
        probes: HashMap::new(),
        alerter: None,
        heartbeat: Default::default(),
        on_exit: OnExit::Stop,
        left: Default::default(),
        state_directory: None,
        store: None,
        kept: None,
        hooks: None,
        prepared: Default::default(),
        names: Names::of(config),
        usage: UsageSampler::new(reader.clone()),
    };
    (executor, inbox)
}

#[tokio::test]
async fn each_question_has_one_answer_and_probes_go_on_after_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let reader = ProcReader::new("/").unwrap();
    let mut enricher = Enricher::new(reader.clone(), Members::default()).unwrap();
    let (mut executor, mut inbox) = executor(&config, &reader);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ports = vec![address.port()];

    let (reports, mut probed) = mpsc::channel(16);
    let hourly = Duration::from_secs(3600);
    let probe = Probe { interval: hourly, ..Probe::new(ProbeKind::Tcp, Secret::new(address.to_string())) };
    let mut prober = Prober::new(Clients::new().unwrap(), reports, mpsc::channel(1).0);
    executor.probes.insert(WEB, vec![prober.spawn(WEB, 0, probe)]);
    probed.recv().await.unwrap();

    // Of a service without a process there is nothing to see, which is an answer, too.
    let questions = || {
        [
            Effect::Examine { service: WEB, over: Duration::from_millis(1), ahead: None },
            Effect::Snapshot(WEB),
            Effect::FindPortHolder { service: WEB, ports: ports.clone() },
            Effect::FindHolders { service: WEB, ports: ports.clone() },
        ]
    };
    let me = std::process::id();
    for effect in questions() {
        executor.execute(effect, &config, &enricher);
        let answer = inbox.recv().await.unwrap();
        if matches!(answer, Answer::Snapshot(WEB, Err(_))) {
            executor.resume_probes(WEB);
            continue;
        }
        assert!(
            matches!(&answer, Answer::PortHolder(WEB, Some(holder)) if holder.pid == me)
                || matches!(answer, Answer::Examined(WEB, None) | Answer::Holders(WEB, _))
        );
    }
    probed.recv().await.unwrap();

    enricher.members.set_main(WEB, reader.key_of(std::process::id()));
    for effect in questions() {
        executor.execute(effect, &config, &enricher);
        let answer = inbox.recv().await.unwrap();
        if matches!(&answer, Answer::Snapshot(WEB, Ok(path)) if std::path::Path::new(path).exists()) {
            executor.resume_probes(WEB);
            continue;
        }
        assert!(
            matches!(&answer, Answer::Examined(WEB, Some(seen)) if seen.threads > 0)
                || matches!(answer, Answer::PortHolder(WEB, Some(_)) | Answer::Holders(WEB, _))
        );
    }
    let report = probed.recv().await.unwrap();
    assert_eq!(report.service, WEB, "an hour was not waited for");
    assert!(inbox.try_recv().is_err(), "nothing is answered twice");
}

#[tokio::test]
async fn what_is_told_waits_for_a_slow_disk_longer_than_a_restart_does() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let (mut executor, _inbox) = executor(&config, &ProcReader::new("/").unwrap());
    let options = StateOptions { directory: folder.path().to_owned(), ..StateOptions::default() };
    let origin = Origin {
        host_name: "db-1".to_owned(),
        boot_id: "0ddba11e-0000-4000-8000-000000000000".to_owned(),
        ephemeral_id: "c0ffee00".to_owned(),
    };
    let (store, _) = StateStore::open(&options, &origin).unwrap();
    executor.store = Some(store.clone());
    // While another process has the file, its writer waits.
    let other = rusqlite::Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let effects = || VecDeque::from([Effect::KeepOrders { service: WEB, orders: Orders::default() }]);
    let actions = LastActions::default();
    executor.keep(&effects(), &config, &actions).unwrap();
    executor.await_kept();
    for _ in 0..2 {
        let told = executor.keep(&effects(), &config, &actions).unwrap();
        assert!(executor.kept.is_none(), "a restart does not wait again");
        let early = tokio::time::timeout(Duration::from_millis(50), told.done()).await;
        assert!(early.is_err(), "it was told before it was kept");
    }
    let (told, begun) = (executor.keep(&effects(), &config, &actions).unwrap(), tokio::time::Instant::now());
    told.done().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "it does not wait for ever");
    other.execute_batch("COMMIT").unwrap();
    store.shutdown(Duration::from_secs(20));
}
