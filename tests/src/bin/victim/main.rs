//! A small HTTP service that fails in every way the daemon must tell apart, on request.
//!
//! `victim --port N [--start-delay-ms N] [--crash-at-start] [--crash-if FILE] [--wait-for-port] [--address A]
//! [--redis N]` prints `listening on N` once it does. With a file, it crashes at start if there is one. Waiting for a
//! port waits until the port is free, and prints `waiting for N` if it is not. With a Redis, `/health` is 503 while that
//! one does not answer. Every path is answered first, then the fault happens:
//!
//! | path | fault |
//! |---|---|
//! | `/health` | none: `ok` |
//! | `/count` | none: how often `/health` was answered |
//! | `/slow?ms=N` | answers `/health` that late from now on |
//! | `/segv` | another thread writes through a pointer to nothing |
//! | `/abort` | `abort()` |
//! | `/exit?code=N` | exits with N |
//! | `/alloc?mb=N` | takes and touches N MB, and keeps them |
//! | `/leader-exits` | the main thread ends alone, then another one exits the process with 9 |
//! | `/sys-exit?code=N` | every thread ends alone, the last one with N |
//! | `/close` | stops listening, lives on |
//! | `/fail` | answers `/health` with 500 from now on |
//! | `/hang` | answers nothing from now on |
//! | `/interim` | answers `/health` with `100 Continue` without an end from now on |
//! | `/fork-child-crash` | a forked child crashes, the service lives on |
//! | `/threads?n=N` | has N idle threads beyond its own |
//! | `/fds?n=N` | has N open files beyond its own |

mod store;

use std::{
    fs::File,
    io,
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use hostprobe_tests::{
    fault::{
        allocate, crash_in_a_child, end_other_threads, exit_this_thread, hang, wait_for_main_thread,
        write_to_nothing,
    },
    hostile_server::Answer,
    http::{request_target, respond},
};
use store::Store;

/// What the requests share.
struct Service {
    /// The listener's descriptor, or -1 once it is closed.
    listener: AtomicI32,
    failing: AtomicBool,
    hanging: AtomicBool,
    /// Whether `/health` gets interim responses only.
    interim: AtomicBool,
    /// How late `/health` is answered, in milliseconds.
    delay: AtomicU64,
    /// How often `/health` was answered.
    answered: AtomicU64,
    /// Idle threads, each of which ends with its sender.
    idle: Mutex<Vec<mpsc::Sender<()>>>,
    files: Mutex<Vec<File>>,
    /// The Redis it needs, if it needs one.
    store: Option<Mutex<Store>>,
    /// Tells the main thread to end alone.
    leader: mpsc::SyncSender<()>,
}

impl Service {
    /// Whether its Redis answers, or it needs none.
    fn has_store(&self) -> bool {
        let store = self.store.as_ref().map(|store| store.lock().unwrap_or_else(PoisonError::into_inner));
        store.is_none_or(|mut store| store.answers())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let Some(port) = value("--port").and_then(|port| u16::try_from(port).ok()) else {
        eprintln!(
            "usage: victim --port N [--start-delay-ms N] [--crash-at-start] [--crash-if FILE] [--wait-for-port]"
        );
        return ExitCode::from(2);
    };
    if let Some(delay) = value("--start-delay-ms") {
        thread::sleep(Duration::from_millis(delay));
    }
    let given = |name: &str| arguments.iter().any(|argument| argument == name);
    let word =
        |name: &str| arguments.get(arguments.iter().position(|argument| argument == name)? + 1).cloned();
    let broken = word("--crash-if").is_some_and(|file| Path::new(&file).exists());
    let address = word("--address").unwrap_or_else(|| "127.0.0.1".to_owned());
    if broken || given("--crash-at-start") {
        write_to_nothing();
    }
    let listener = match listen(&address, port, given("--wait-for-port")) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("victim: cannot listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on {port}");
    let store = value("--redis").and_then(|port| u16::try_from(port).ok());
    let store = store.map(|port| Mutex::new(Store::new(([127, 0, 0, 1], port).into(), true)));
    let (leader, ended) = mpsc::sync_channel(1);
    let service = Arc::new(Service {
        listener: AtomicI32::new(listener.as_raw_fd()),
        failing: AtomicBool::new(false),
        hanging: AtomicBool::new(false),
        interim: AtomicBool::new(false),
        delay: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        idle: Mutex::default(),
        files: Mutex::default(),
        store,
        leader,
    });
    thread::spawn(move || accept(&listener, &service));
    // The main thread serves no request, so that it can end while the service goes on.
    while ended.recv().is_err() {
        thread::park();
    }
    exit_this_thread(0)
}

fn listen(address: &str, port: u16, patient: bool) -> io::Result<TcpListener> {
    let mut waits = false;
    loop {
        match TcpListener::bind((address, port)) {
            Err(error) if patient && error.kind() == io::ErrorKind::AddrInUse => {
                if !std::mem::replace(&mut waits, true) {
                    println!("waiting for {port}");
                }
                thread::sleep(Duration::from_millis(1));
            }
            done => return done,
        }
    }
}

fn accept(listener: &TcpListener, service: &Arc<Service>) {
    while let Ok((stream, _)) = listener.accept() {
        let service = Arc::clone(service);
        thread::spawn(move || serve(stream, &service));
    }
    // Only `/close` makes accepting fail. The descriptor stays open, the socket no longer listens.
    loop {
        thread::park();
    }
}

fn serve(stream: TcpStream, service: &Service) {
    let Some(target) = request_target(&stream) else { return };
    if service.hanging.load(Ordering::SeqCst) {
        hang();
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let number = query.split_once('=').and_then(|(_, value)| value.parse::<i32>().ok()).unwrap_or(0);
    let known = matches!(
        path,
        "/health"
            | "/count"
            | "/slow"
            | "/segv"
            | "/abort"
            | "/exit"
            | "/alloc"
            | "/leader-exits"
            | "/sys-exit"
            | "/close"
            | "/fail"
            | "/hang"
            | "/interim"
            | "/fork-child-crash"
            | "/threads"
            | "/fds"
    );
    if path == "/health" && service.interim.load(Ordering::SeqCst) {
        return Answer::EndlessHead.send(stream);
    }
    if path == "/health" {
        thread::sleep(Duration::from_millis(service.delay.load(Ordering::SeqCst)));
        service.answered.fetch_add(1, Ordering::SeqCst);
    }
    let answered = service.answered.load(Ordering::SeqCst).to_string();
    let (status, body) = match (path, known) {
        (_, false) => ("404 Not Found", "no such fault"),
        ("/health", _) if service.failing.load(Ordering::SeqCst) => ("500 Internal Server Error", "failing"),
        ("/health", _) if !service.has_store() => ("503 Service Unavailable", "redis does not answer"),
        ("/count", _) => ("200 OK", answered.as_str()),
        (_, true) => ("200 OK", "ok"),
    };
    respond(stream, status, body);
    fail(path, number, service);
}

fn fail(path: &str, number: i32, service: &Service) {
    match path {
        "/segv" => drop(thread::spawn(write_to_nothing).join()),
        "/abort" => std::process::abort(),
        "/exit" => std::process::exit(number),
        "/alloc" => allocate(number),
        "/leader-exits" => {
            let _ = service.leader.send(());
            wait_for_main_thread();
            // SAFETY: ends the process at once; nothing of it is used afterwards.
            unsafe { libc::_exit(9) }
        }
        "/sys-exit" => {
            end_other_threads();
            exit_this_thread(number)
        }
        "/close" => {
            let listener = service.listener.swap(-1, Ordering::SeqCst);
            // SAFETY: the descriptor is the listener's, which is never dropped; a second call is given -1.
            unsafe { libc::shutdown(listener, libc::SHUT_RDWR) };
        }
        "/fail" => service.failing.store(true, Ordering::SeqCst),
        "/slow" => service.delay.store(number.max(0).unsigned_abs().into(), Ordering::SeqCst),
        "/interim" => service.interim.store(true, Ordering::SeqCst),
        "/hang" => service.hanging.store(true, Ordering::SeqCst),
        "/fork-child-crash" => crash_in_a_child(),
        "/threads" => have(&service.idle, number, idle_thread),
        "/fds" => have(&service.files, number, || File::open("/dev/null").ok()),
        _ => {}
    }
}

/// Makes or drops things until there are so many.
fn have<T>(things: &Mutex<Vec<T>>, number: i32, make: impl Fn() -> Option<T>) {
    let mut things = things.lock().unwrap_or_else(PoisonError::into_inner);
    let number = usize::try_from(number).unwrap_or(0);
    things.truncate(number);
    let missing = number - things.len();
    things.extend((0..missing).map_while(|_| make()));
}

fn idle_thread() -> Option<mpsc::Sender<()>> {
    let (alive, end) = mpsc::channel::<()>();
    thread::Builder::new().spawn(move || end.recv()).ok().map(|_| alive)
}
