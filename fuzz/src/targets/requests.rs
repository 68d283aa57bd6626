//! Requests to the daemon: lines on its control socket (`c`), and HTTP to its page (`p`).
use std::{
    future,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use hostprobe::{
    config,
    emit::{Name, Names, Origin, Tail, for_each_event},
    fact::{Reload, ServiceState},
    probe::heartbeat::{Earlier, Heartbeats},
    serve::{self, Metrics, Past, ServiceView, Shown, View, control},
    store::history::History,
};
use hostprobe_fuzz::is_one_plain_line;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
};

/// What the daemon knows of past incidents.
const EVENTS: &[u8] = include_bytes!("../../seeds/events.ndjson");

std::thread_local! {
    static DAEMON: Daemon = Daemon::start();
}

pub fn fuzz(input: &[u8]) {
    DAEMON.with(|daemon| match input.split_first() {
        Some((b'c', request)) => daemon.ask(request),
        Some((b'p', request)) => daemon.get(request),
        Some(_) | None => {}
    });
}

struct Daemon {
    runtime: Runtime,
    control: PathBuf,
    page: SocketAddr,
    /// What is shown stays while this does.
    _view: watch::Sender<Arc<View>>,
}

impl Daemon {
    fn start() -> Self {
        // A client that says nothing is cut off at once.
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        let control = PathBuf::from(format!("/dev/shm/hostprobe-fuzz-{}.sock", std::process::id()));
        let (view, shown) =
            watch::channel(Arc::new(View { ready: true, services: vec![service()], ..View::default() }));
        let shown = Shown {
            origin: Arc::new(origin()),
            view: shown,
            metrics: Arc::new(Metrics::new(Names::new([Name { service: "api".to_owned(), unit: None }]))),
            history: Arc::new(Mutex::new(history())),
            tail: Tail::default(),
            heartbeats: heartbeats(),
            past: Past::default(),
            hosts: Default::default(),
        };
        let page = runtime.block_on(async {
            let socket = control::open(&control, None).await.expect("the control socket");
            tokio::spawn(control::serve(socket, shown.clone(), requests()));
            let listener = serve::bind("127.0.0.1:0".parse().expect("an address")).await.expect("the page");
            let address = listener.local_addr().expect("its address");
            tokio::spawn(serve::serve(listener, serve::Access::default(), shown, future::pending()));
            address
        });
        Self { runtime, control, page, _view: view }
    }

    /// Each line gets an answer of one line.
    fn ask(&self, request: &[u8]) {
        let answers = self.runtime.block_on(async {
            let mut stream = UnixStream::connect(&self.control).await.expect("a connection");
            // The daemon may close before it has read all.
            let _ = stream.write_all(request).await;
            let _ = stream.shutdown().await;
            let mut answers = Vec::new();
            let _ = stream.read_to_end(&mut answers).await;
            answers
        });
        let answers = String::from_utf8(answers).expect("answers are UTF-8");
        let lines = request.split(|byte| *byte == b'\n').count();
        assert!(answers.lines().count() <= lines, "{answers}");
        for answer in answers.lines() {
            serde_json::from_str::<control::Answer>(answer).expect("an answer");
        }
    }

    fn get(&self, request: &[u8]) {
        let answer = self.runtime.block_on(async {
            let mut stream = TcpStream::connect(self.page).await.expect("a connection");
            let _ = stream.write_all(request).await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            answer
        });
        let answer = String::from_utf8(answer).expect("answers are UTF-8");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1."), "{answer:?}");
        for line in answer.split('\n') {
            assert!(is_one_plain_line(line.strip_suffix('\r').unwrap_or(line)), "{line:?}");
        }
    }
}

/// A daemon that answers each request to reload, each command and each request for a drill.
fn requests() -> control::Requests {
    let (reloads, mut inbox) = mpsc::channel::<control::ReloadRequest>(1);
    let (operations, mut commands) = mpsc::channel::<control::OperatorRequest>(1);
    let (drills, mut plans) = mpsc::channel::<control::DrillRequest>(1);
    tokio::spawn(async move {
        while let Some(control::ReloadRequest { answer, .. }) = inbox.recv().await {
            let _ = answer.send(Reload::Unchanged);
        }
    });
    tokio::spawn(async move {
        while let Some(control::OperatorRequest { operation, answer, .. }) = commands.recv().await {
            let _ = answer.send(Ok(format!("{operation:?}")));
        }
    });
    tokio::spawn(async move {
        while let Some(control::DrillRequest { service, fault, answer, .. }) = plans.recv().await {
            let words = vec![format!("send SIGKILL to {service}")];
            let plan = control::DrillPlan { service, fault, main: 100, words, limit_s: 60 };
            let _ = answer.send(Ok(control::DrillAnswer::Plan(plan)));
        }
    });
    let (alert_tests, mut tests) = mpsc::channel::<control::AlertTestRequest>(1);
    tokio::spawn(async move {
        while let Some(control::AlertTestRequest { answer, .. }) = tests.recv().await {
            let _ = answer.send(Ok(Vec::new()));
        }
    });
    control::Requests { reloads, operations, drills, alert_tests }
}

/// Jobs that may report in, one of them with a token.
fn heartbeats() -> Heartbeats {
    let token = format!("/dev/shm/hostprobe-fuzz-{}.token", std::process::id());
    std::fs::write(&token, "correct-horse-battery").expect("a file in memory");
    let job = |name: &str, more: &str| {
        format!(
            "[[service]]\nname = {name:?}\n[[service.probe]]\nheartbeat = {name:?}\nevery = \"1h\"\n{more}\n"
        )
    };
    let text = [job("nightly", ""), job("closed", &format!("token_file = {token:?}"))].concat();
    let services = config::fuzz::check(&text, "").expect("a configuration").services;
    let heartbeats = Heartbeats::new(None);
    heartbeats.configure(&services, Earlier::default());
    heartbeats
}

fn origin() -> Origin {
    Origin {
        host_name: "db-1".to_owned(),
        boot_id: "0ddba11e".to_owned(),
        ephemeral_id: "c0ffee00".to_owned(),
    }
}

/// A service that says of itself what a terminal would obey.
fn service() -> ServiceView {
    ServiceView {
        name: "api".to_owned(),
        unit: None,
        critical: true,
        state: ServiceState::Down,
        main_pid: None,
        response_time: None,
        error: Some("\u{1b}[2Jfine\r\n\u{202e}".to_owned()),
        verdict: None,
        incident: None,
        summary: Some("\u{9b}31m".to_owned()),
        since: None,
        depends_on: Vec::new(),
        held: Vec::new(),
        stale_since: None,
        orders: Vec::new(),
        maintenance: None,
    }
}

fn history() -> History {
    let mut history = History::default();
    for_each_event(EVENTS, |_, record| {
        if let Some(record) = record {
            history.take(record);
        }
    })
    .expect("bytes can be read");
    assert!(history.incident_count() > 0, "seeds/events.ndjson has no incident");
    history
}
