//! Every question has one answer, whatever became of the processes.

use std::{
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
};

use super::*;
use crate::{
    config::{Identity, Limits, Policy, RestartPolicy},
    fact::{ExitStatus, OomScope, Process, Source},
    host::fake::FakeHost,
    inspect::culprit::RanOut,
};

const WEB: ServiceId = ServiceId(2);

struct Fixture {
    inspector: Inspector,
    inbox: tokio::sync::mpsc::Receiver<Answer>,
    reader: ProcReader,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (outcomes, inbox) = Outcomes::channel(8);
        let reader = ProcReader::new("/").unwrap();
        let options = SnapshotOptions { directory: folder.path().join("snapshots"), keep: 2, stacks: false };
        Self { inspector: Inspector::new(reader.clone(), outcomes, options), inbox, reader, folder }
    }

    fn me(&self) -> ProcessKey {
        self.reader.key_of(std::process::id()).unwrap()
    }

    async fn answer(&mut self) -> Answer {
        self.inbox.recv().await.unwrap()
    }
}

fn exit(code: u8) -> ProcessExit {
    let key = ProcessKey::new(7, Timestamp::from_nanos(1_000_000_000));
    let mut process = Process::unknown(key, 1);
    process.name = "web".to_owned();
    ProcessExit {
        at: Timestamp::from_nanos(3_500_000_000),
        source: Source::Ebpf,
        process,
        status: ExitStatus::Code(code),
        sender: None,
        sent_signal: None,
        sender_service: None,
        oom: false,
        max_rss_bytes: 0,
        namespace_end: None,
        left_processes: false,
        crash: None,
        actor: None,
    }
}

#[tokio::test]
async fn an_examination_is_answered_also_for_a_process_that_is_gone() {
    let mut it = Fixture::new();
    let over = Duration::from_millis(20);
    let me = it.me();
    it.inspector.examine(WEB, Some(me), over, None);
    let Answer::Examined(WEB, Some(seen)) = it.answer().await else { panic!("this process lives") };
    assert!(seen.over >= over && seen.progressed() && seen.threads > 0, "{seen:?}");
    for gone in [None, Some(ProcessKey { start: Timestamp::from_nanos(1), ..it.me() })] {
        it.inspector.examine(WEB, gone, over, None);
        assert!(matches!(it.answer().await, Answer::Examined(WEB, None)));
    }
}

#[tokio::test]
async fn a_recent_early_sample_is_the_first_sample() {
    let mut it = Fixture::new();
    let over = Duration::from_millis(20);
    let me = it.me();
    for recent in [true, false] {
        let before = Timestamp::now();
        it.inspector.sample_early(WEB, me);
        // It is taken, and as good as untouched.
        let early = it.inspector.early.get_mut(&WEB).unwrap();
        let sample = (&mut early.sample).await.unwrap();
        let (again, taken) = oneshot::channel();
        let _ = again.send(sample);
        early.sample = taken;

        let asked = Timestamp::now();
        let ahead = EarlySample { since: if recent { before } else { asked }, over };
        it.inspector.examine(WEB, Some(me), over, Some(ahead));
        let Answer::Examined(WEB, Some(seen)) = it.answer().await else { panic!("this process lives") };
        assert!(seen.over >= over, "{seen:?}");
        let begun = seen.at.as_nanos() - seen.over.as_nanos() as u64;
        assert_eq!((begun < asked.as_nanos(), seen.ahead), (recent, recent), "{seen:?}");
        assert!(it.inspector.early.is_empty());
    }
}

#[tokio::test]
async fn a_snapshot_is_a_file_with_the_last_exits_in_it() {
    let mut it = Fixture::new();
    (0..20).for_each(|code| it.inspector.exited(WEB, &exit(code), true));
    it.inspector.snapshot(WEB, "web", Some(it.me()), ServiceNames::default());
    let Answer::Snapshot(WEB, Ok(path)) = it.answer().await else { panic!("a snapshot can be taken") };
    assert!(path.starts_with(it.folder.path().to_str().unwrap()), "{path}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(" process 7 (web) ended with exit code 19 after 2.500 s\n"), "{text}");
    assert_eq!(text.matches(" ended with ").count(), EXITS_MAX);
    assert!(text.contains("End of the snapshot."), "{text}");
}

#[tokio::test]
async fn a_file_that_blocks_costs_the_snapshot_its_rest_only() {
    let host = FakeHost::v2();
    host.process(10, 1, "db", "/db");
    host.thread(10, 10, "db", 'D', (0, 0));
    let blocking = host.blocking_file("proc/10/limits");
    let mut it = Fixture::new();
    it.inspector.reader = host.reader();
    it.inspector.snapshot(WEB, "web", it.inspector.reader.key_of(10), ServiceNames::default());
    let Answer::Snapshot(WEB, Ok(path)) = it.answer().await else { panic!("what there is is written") };
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("process 10 thread 10 (db) state D"), "{text}");
    assert!(text.contains("Time was up while \"limits\" was read"), "{text}");
    assert!(text.contains("Missing or incomplete: limits, pressure"), "{text}");
    // The thread that reads it can end.
    drop(std::fs::OpenOptions::new().write(true).open(blocking).unwrap());
}

#[tokio::test]
async fn the_error_of_an_unwritable_snapshot_has_the_remedy() {
    let mut it = Fixture::new();
    it.inspector.snapshot(WEB, "web", None, ServiceNames::default());
    let Answer::Snapshot(WEB, Err(why)) = it.answer().await else { panic!("there is no process") };
    assert!(why.contains("no main process of web"), "{why}");
    let open = it.folder.path().join("snapshots");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    it.inspector.snapshot(WEB, "web", Some(it.me()), ServiceNames::default());
    let Answer::Snapshot(WEB, Err(why)) = it.answer().await else { panic!("others may write there") };
    assert!(why.contains("mode 777") && why.contains("[snapshots] directory"), "{why}");
}

#[tokio::test]
async fn known_holders_of_ports_and_connections_are_named() {
    let mut it = Fixture::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    it.inspector.find_port_holder(WEB, vec![port]);
    let Answer::PortHolder(WEB, Some(holder)) = it.answer().await else { panic!("this process holds it") };
    assert_eq!((holder.pid, holder.port), (std::process::id(), port));
    it.inspector.find_holders(WEB, None, vec![port]);
    let Answer::Holders(WEB, holders) = it.answer().await else { panic!("holders are asked for") };
    assert_eq!(holders.len(), 1);
    let process = Some((holder.pid, holder.name));
    assert_eq!((holders[0].process.clone(), holders[0].connections), (process, 1));

    it.inspector.find_port_holder(WEB, vec![]);
    assert!(matches!(it.answer().await, Answer::PortHolder(WEB, None)));
    it.inspector.find_holders(WEB, None, vec![]);
    assert!(matches!(it.answer().await, Answer::Holders(WEB, holders) if holders.is_empty()));
}

#[test]
fn the_clients_with_most_connections_are_the_holders() {
    let client = |pid, connections| Client { pid, name: format!("app{pid}"), connections };
    let clients = (1..=12).map(|pid| client(pid, pid)).chain([client(3, 100)]).collect();
    let holders = most(clients);
    let counts: Vec<u32> = holders.iter().map(|holder| holder.connections).collect();
    assert_eq!(counts, [103, 12, 11, 10, 9, 8, 7, 6]);
    assert_eq!(holders[0].process, Some((3, "app3".to_owned())));
}

/// A service elsewhere, of which no log is read.
fn remote(id: ServiceId) -> Service {
    Service {
        id,
        name: "web".to_owned(),
        identity: Identity::Remote,
        depends_on: Vec::new(),
        start_after: Vec::new(),
        critical: true,
        maintenance: Vec::new(),
        probes: Vec::new(),
        restart: RestartPolicy::default(),
        limits: Limits::default(),
        policy: Policy::default(),
    }
}

/// The host's memory ran out. The look at who took it reads `proc/meminfo`, which blocks.
fn blocked_look(it: &mut Fixture) -> (FakeHost, PathBuf, Timestamp) {
    let host = FakeHost::v2();
    let blocking = host.blocking_file("proc/meminfo");
    it.inspector.reader = host.reader();
    let since = Timestamp::now();
    let death = MemoryDeath {
        at: since,
        killer: "the OOM killer".to_owned(),
        victim: exit(1).process,
        bytes: 7 << 20,
        scope: OomScope::Global,
        group: None,
        limit: None,
        main: None,
        ran_out: RanOut::Host,
    };
    it.inspector.ended_for_memory(WEB, death);
    (host, blocking, since)
}

#[tokio::test]
async fn the_context_of_a_death_for_memory_waits_for_the_look_at_who_took_it() {
    let mut it = Fixture::new();
    let (_host, blocking, since) = blocked_look(&mut it);
    it.inspector.gather_context(&remote(WEB), (None, None), since, true, None);
    // Longer than the wait for the last lines, after which the culprit is asked for.
    sleep(log_lines::WRITTEN * 3).await;
    std::fs::write(blocking, "MemTotal:       2000 kB\n").unwrap();
    let Answer::Context(WEB, context) = it.answer().await else { panic!("a context is asked for") };
    let culprit = context.culprit.expect("it is known by now");
    assert_eq!((culprit.victim.bytes, culprit.limit.map(|limit| limit.bytes)), (7 << 20, Some(2_048_000)));
}

#[tokio::test]
async fn a_look_that_never_ends_keeps_the_context_back_within_its_limit() {
    let mut it = Fixture::new();
    let (_host, blocking, since) = blocked_look(&mut it);
    it.inspector.gather_context(&remote(WEB), (None, None), since, true, None);
    let Answer::Context(WEB, context) = it.answer().await else { panic!("a context is asked for") };
    // This host may have changed a moment ago.
    let context = FaultContext { changes: Vec::new(), changed_at: Vec::new(), ..context };
    assert_eq!(context, FaultContext::default());
    // The thread that reads it can end.
    drop(std::fs::OpenOptions::new().write(true).open(blocking).unwrap());
}
