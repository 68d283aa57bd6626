//! Samples of facts, at least one of each kind.

pub(crate) mod blame;
pub(crate) mod hang;
mod host;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::super::{Name, Names, Origin};
use crate::{
    clock::Timestamp,
    fact::{
        AcceptQueue, Action, AgentReady, AgentStart, AlertOutcome, Cgroup, CgroupMode, ChangedService,
        CommandKind, Container, CrashSite, DatabaseRole, Direction, DrillFault, EventId, ExitStatus, Fact,
        FaultContext, Holder, HookCoverage, HookEvent, HookRun, Incident, IncidentId, Listener, Membership,
        OomKill, OomScope, Operator, OperatorReport, Order, Peer, Phase, Place, ProbeChange, ProbeFailure,
        ProbeKind, ProbeOutcome, ProbeReport, Process, ProcessExit, ProcessKey, Protocol, Reload,
        ReloadChanges, Resource, Restart, RestartMethod, Retransmits, Sender, ServerReport, ServerUsage,
        ServiceGrowth, ServiceId, ServiceState, Severity, Share, SocketError, Source, SuppressedAlert,
        Suspension, TcpState, Timing, UnitJob, UnitState, User, Verdict,
    },
    growth::Forecast,
};

const API: ServiceId = ServiceId(0);
const WEB: ServiceId = ServiceId(1);

pub fn origin() -> Origin {
    Origin {
        host_name: "db-1".to_owned(),
        boot_id: "0ddba11e-0000-4000-8000-000000000000".to_owned(),
        ephemeral_id: "c0ffee00".to_owned(),
    }
}

pub fn names() -> Names {
    Names::new([
        Name { service: "api".to_owned(), unit: Some("api.service".to_owned()) },
        Name { service: "web".to_owned(), unit: None },
    ])
}

const START: Timestamp = Timestamp::from_nanos(10_000_000_000);

fn process() -> Process {
    Process {
        key: ProcessKey { pid: 4242, start: START },
        parent_pid: 1,
        name: "python3".to_owned(),
        executable: Some("/usr/bin/python3".to_owned()),
        command_line: Some("/usr/bin/api --token abc --port 80".to_owned()),
        user_id: 1000,
        cgroup: Some(Cgroup { id: 77, path: "/system.slice/api.service".to_owned() }),
        container_id: Some("f".repeat(64)),
        namespace_pid: Some(7),
    }
}

fn exit(status: ExitStatus, sent_signal: Option<u8>, sender: Option<Sender>) -> ProcessExit {
    ProcessExit {
        at: START.plus(Duration::from_micros(125_000_250)),
        source: Source::Ebpf,
        process: process(),
        status,
        sender,
        sent_signal,
        sender_service: None,
        oom: false,
        max_rss_bytes: 1 << 20,
        namespace_end: None,
        left_processes: false,
        crash: None,
        actor: None,
    }
}

fn bash() -> Sender {
    Sender::Process { pid: 4000, name: "bash".to_owned(), user_id: 0, unit: None, terminal: false }
}

const MAIN: Option<Membership> = Some(Membership { service: API, main: true });
const KILL: ExitStatus = ExitStatus::Signal { number: 9, core_dumped: false };

pub fn killed() -> Fact {
    Fact::ProcessExit(exit(KILL, Some(9), Some(bash())), MAIN)
}

/// A main process that exits with success after a request.
pub fn asked() -> Fact {
    Fact::ProcessExit(exit(ExitStatus::Code(0), Some(15), Some(bash())), MAIN)
}

pub fn down() -> Fact {
    Fact::ServiceState(API, ServiceState::Down, ServiceState::Healthy, "its main process died".to_owned())
}

pub fn incident() -> Fact {
    Fact::Incident(Phase::Open, an_incident())
}

/// The end of an incident, this long after the fault.
pub fn recovered(after: Duration) -> Fact {
    let mut incident = an_incident();
    incident.timing.healthy = Some(after);
    Fact::Incident(Phase::Resolve, incident)
}

fn an_incident() -> Incident {
    Incident {
        id: IncidentId::new(3),
        service: API,
        verdict: Verdict::Killed,
        confidence: 0.9,
        summary: "api was killed by bash".to_owned(),
        severity: Severity::Critical,
        cause: API,
        evidence: vec![EventId(1), EventId(2)],
        held: vec![WEB],
        since: START,
        timing: Timing { detected: Some(Duration::from_nanos(123_456)), ..Timing::default() },
        attempts: 1,
        snapshot: Some("/var/lib/hostprobe/snapshots/api.txt".to_owned()),
        context: FaultContext {
            logs: vec!["api: out of cheese".to_owned()],
            changes: vec!["its program /opt/api was changed 40 s before".to_owned()],
            changed_at: vec![1_769_828_360_000_000],
            stacks: Some(Box::new(hang::stacks())),
            crash: Some(Box::new(CrashSite::example())),
            culprit: Some(Box::new(blame::culprit())),
            actor: Some(Box::new(blame::actor())),
        },
        drill: Some("alice (as root)".to_owned()),
        host: None,
        earlier: Default::default(),
    }
}

/// An exit with every text longer than its room, made of one character.
pub fn enormous(character: &str) -> Fact {
    let text = character.repeat(100_000);
    let mut exit = exit(KILL, Some(9), None);
    exit.sender = Some(Sender::Process {
        pid: 1,
        name: text.clone(),
        user_id: 0,
        unit: Some(text.clone()),
        terminal: false,
    });
    exit.process.name = text.clone();
    exit.process.executable = Some(text.clone());
    exit.process.command_line = Some(text.clone());
    exit.process.container_id = Some(text.clone());
    exit.process.cgroup = Some(Cgroup { id: 1, path: text });
    Fact::ProcessExit(exit, MAIN)
}

fn oom_kill() -> OomKill {
    OomKill {
        at: START,
        source: Source::Ebpf,
        victim: process(),
        scope: OomScope::Memcg,
        anon_bytes: 500 << 20,
        file_bytes: 4096,
        shmem_bytes: 0,
        limit_bytes: Some(512 << 20),
        score_adj: -1,
        trigger_pid: 4242,
        trigger_name: "python3".to_owned(),
    }
}

fn listener(up: bool) -> Fact {
    let process = process().key;
    Fact::Listener(
        Listener {
            at: START,
            up,
            address: Ipv4Addr::LOCALHOST.into(),
            port: 80,
            source: Source::Ebpf,
            process,
        },
        API,
    )
}

fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], port))
}

fn socket_error(direction: Direction) -> Fact {
    let error = SocketError {
        at: START,
        source: Source::Ebpf,
        errno: 111,
        transition: Some((TcpState::SynSent, TcpState::Close)),
        protocol: Protocol::Tcp,
        direction,
        local: address(1, 40000),
        remote: address(2, 6379),
        peer: Peer::Service(WEB),
        process: Some(process().key),
        count: 3,
        age: Some(Duration::from_millis(2)),
    };
    Fact::SocketError(error, API)
}

fn retransmits() -> Retransmits {
    Retransmits { at: START, source: Source::Ebpf, remote: address(2, 443), peer: Peer::Remote, count: 4 }
}

fn growth() -> ServiceGrowth {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let forecast = Forecast {
        used: 700.0,
        ceiling: 1024.0,
        per_hour: 200.0,
        left: minutes(97),
        earliest: minutes(90),
        latest: minutes(110),
        over: minutes(80),
    };
    ServiceGrowth { at: START, resource: Resource::Fds, limit: "RLIMIT_NOFILE".to_owned(), forecast }
}

fn accept_queue() -> AcceptQueue {
    let address = Ipv4Addr::LOCALHOST.into();
    AcceptQueue { at: START, source: Source::Ebpf, address, port: 80, waiting: 129, backlog: 128 }
}

fn suspension() -> Suspension {
    Suspension { at: START, process: process().key, signal: 19, sender: Some(bash()) }
}

fn unit() -> UnitState {
    UnitState {
        at: START,
        active: "failed".to_owned(),
        sub: "failed".to_owned(),
        result: "signal".to_owned(),
        invocation_id: "ab".repeat(16),
        restarts: 2,
        restart_delay: Duration::from_millis(100),
        restarts_itself: true,
        start_limit: (5, Duration::from_secs(10)),
        main: Some(process().key),
        active_exit: Some(START),
        job: Some(UnitJob { id: 9, kind: "restart".to_owned() }),
        ..UnitState::default()
    }
}

fn probe(outcome: ProbeOutcome, change: ProbeChange) -> Fact {
    let report = ProbeReport {
        service: API,
        index: 0,
        at: START,
        kind: ProbeKind::Http,
        target: "http://127.0.0.1/health".to_owned(),
        duration: Duration::from_nanos(1_234_567),
        outcome,
        hurried: None,
        remark: None,
        server: None,
    };
    Fact::Probe(report, change)
}

/// Every number that a database may report.
fn server_report() -> ServerReport {
    ServerReport {
        role: Some(DatabaseRole::Replica),
        lag: Some(Duration::from_millis(1500)),
        lag_bytes: Some(4096),
        replicas: Some(1),
        evicted_keys: Some(7),
        unsaved_changes: Some(12),
        uncovered_slots: Some(1),
        transaction: Some(Duration::from_secs(60)),
        waiting: Some(2),
        wait: Some(Duration::from_secs(3)),
        transaction_id_age: Some(1_700_000_000),
        withheld: true,
    }
}

pub fn full_database() -> Fact {
    let outcome = ProbeOutcome::Failed(ProbeFailure::TooManyConnections, "97 of 97 are in use".to_owned());
    let holder = Holder {
        user: Some("web".to_owned()),
        application: Some("orders".to_owned()),
        client: Some([127, 0, 0, 1].into()),
        ports: vec![40_000],
        process: Some((4711, "api".to_owned())),
        service: Some(API),
        connections: 90,
    };
    let server = ServerUsage {
        connections: Some(Share { used: 97, most: 97 }),
        memory: Some(Share { used: 1 << 20, most: 1 << 30 }),
        holders: vec![holder; 9],
        report: server_report(),
    };
    let Fact::Probe(report, change) = probe(outcome, ProbeChange::Fail(1)) else { panic!("it is a probe's") };
    Fact::Probe(ProbeReport { server: Some(server), ..report }, change)
}

fn restart(action: Action) -> Fact {
    Fact::Restart(Restart {
        service: API,
        incident: Some(IncidentId::new(3)),
        method: RestartMethod::Systemd,
        attempt: 1,
        reason: "api was killed by bash".to_owned(),
        budget_left: 4,
        action,
    })
}

fn alert(resolved: bool, error: Option<&str>) -> Fact {
    Fact::Alert(AlertOutcome {
        incident: IncidentId::new(3),
        service: API,
        receiver: "http://127.0.0.1:9093".to_owned(),
        severity: Severity::Critical,
        resolved,
        attempts: 1,
        error: error.map(str::to_owned),
    })
}

fn hook(error: Option<&str>) -> Fact {
    Fact::Hook(HookRun {
        event: HookEvent::IncidentOpen,
        service: API,
        incident: Some(IncidentId::new(3)),
        command: "/usr/local/bin/failover".to_owned(),
        duration: Duration::from_millis(1200),
        exit_code: Some(if error.is_some() { 3 } else { 0 }),
        error: error.map(str::to_owned),
    })
}

fn order(kind: CommandKind) -> Order {
    let user = |id, name: &str| User { id, name: Some(name.to_owned()) };
    Order {
        kind,
        by: Operator { user: user(0, "root"), login: Some(user(1000, "alice")) },
        reason: Some("the disk is replaced".to_owned()),
        since: START,
        until: Some(START.plus(Duration::from_secs(1800))),
    }
}

fn operator(
    kind: CommandKind,
    service: Option<ServiceId>,
    incident: Option<IncidentId>,
    error: Option<&str>,
) -> Fact {
    let fault = (kind == CommandKind::Drill).then_some(DrillFault::Hang);
    let (order, error) = (order(kind), error.map(str::to_owned));
    Fact::Operator(OperatorReport { service, incident, order, fault, error })
}

fn start(file: Option<&str>) -> AgentStart {
    AgentStart { config_file: file.map(str::to_owned) }
}

pub fn facts() -> Vec<Fact> {
    let worker = Some(Membership { service: API, main: false });
    let refused =
        || ProbeOutcome::Failed(ProbeFailure::Refused, "nothing listens on 127.0.0.1:80".to_owned());
    let mut oom_death = exit(KILL, Some(9), Some(Sender::Kernel));
    oom_death.oom = true;
    let segv = ExitStatus::Signal { number: 11, core_dumped: true };
    let place = Place {
        pid_namespace: Some(4_026_532_777),
        foreign_proc: None,
        container: Some(Container { runtime: "docker".to_owned(), id: Some("f".repeat(64)) }),
        cgroups: CgroupMode::V2,
        cgroups_are_a_part: true,
    };
    let ready = AgentReady {
        place,
        coverage: vec![
            HookCoverage {
                hook: "sched_process_exit",
                missing: None,
                absent: false,
                fallback: None,
                lacking: vec!["senders of signals: no such tracepoint".to_owned()],
            },
            HookCoverage {
                hook: "mark_victim",
                missing: Some("no such tracepoint".to_owned()),
                absent: false,
                fallback: Some("the kernel's log".to_owned()),
                lacking: Vec::new(),
            },
            HookCoverage {
                hook: "mce_record",
                missing: Some("no such tracepoint".to_owned()),
                absent: true,
                fallback: None,
                lacking: Vec::new(),
            },
        ],
        self_test: Ok(Duration::from_micros(180)),
        services: 2,
        restartable: 1,
    };
    let untested = AgentReady { self_test: Err("nothing came back".to_owned()), ..ready.clone() };
    vec![
        Fact::AgentStart(start(Some("/etc/hostprobe/hostprobe.toml"))),
        Fact::AgentStart(start(None)),
        Fact::AgentReady(ready),
        Fact::AgentReady(untested),
        Fact::AgentReload(Reload::Unchanged),
        Fact::AgentReload(Reload::Applied(ReloadChanges {
            added: vec!["cache".to_owned()],
            removed: vec!["db".to_owned()],
            changed: vec![ChangedService {
                name: "api".to_owned(),
                keys: vec!["exec".to_owned()],
                at_next_start: true,
            }],
            keys: vec!["alert".to_owned()],
            needs_restart: vec!["http.listen".to_owned()],
        })),
        Fact::AgentReload(Reload::Refused("line 3: unknown key".to_owned())),
        Fact::AgentStop("SIGTERM".to_owned()),
        killed(),
        asked(),
        Fact::ProcessExit(exit(ExitStatus::Code(3), None, None), worker),
        Fact::ProcessExit(exit(segv, Some(11), Some(Sender::Kernel)), MAIN),
        Fact::ProcessExit(exit(segv, Some(11), Some(Sender::Itself)), None),
        Fact::ProcessExit(oom_death, MAIN),
        Fact::OomKill(oom_kill(), MAIN),
        listener(true),
        listener(false),
        socket_error(Direction::Outbound),
        socket_error(Direction::Inbound),
        Fact::Retransmits(retransmits(), API),
        Fact::AcceptQueue(accept_queue(), API),
        Fact::Growth(growth(), API),
        Fact::Suspension(suspension(), API),
        Fact::Dependency(API, WEB, 8080, Source::Ebpf),
        Fact::Unit(unit(), API),
        full_database(),
        probe(refused(), ProbeChange::Fail(3)),
        probe(ProbeOutcome::Ok, ProbeChange::Recover(3)),
        probe(ProbeOutcome::Ok, ProbeChange::Slow),
        down(),
        incident(),
        Fact::Incident(Phase::Update, an_incident()),
        Fact::Incident(Phase::Resolve, an_incident()),
        restart(Action::Request),
        restart(Action::Done),
        restart(Action::Fail("the unit is masked".to_owned())),
        restart(Action::Hold("api depends on web, which is down".to_owned())),
        alert(false, None),
        alert(true, Some("connection refused")),
        Fact::AlertSuppressed(SuppressedAlert {
            incident: IncidentId::new(3),
            service: API,
            severity: Severity::Warning,
            reason: order(CommandKind::Pause).to_string(),
        }),
        hook(None),
        hook(Some("it exited with 3: the standby does not answer")),
        operator(CommandKind::Pause, Some(API), None, None),
        operator(CommandKind::Pause, None, None, None),
        operator(CommandKind::Ack, Some(API), Some(IncidentId::new(3)), None),
        operator(CommandKind::Stop, Some(WEB), None, Some("hostprobe cannot stop it")),
        operator(CommandKind::Drill, Some(API), None, None),
        host::host_state(false),
        host::host_state(true),
        host::host_fault(),
        Fact::Loss { class: "exits".to_owned(), count: 12, place: "urgent ring".to_owned() },
    ]
}
