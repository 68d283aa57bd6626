//! A small HTTP service that fails in every way the daemon must tell apart, on request.
//!
//! `victim --port N [--start-delay-ms N] [--crash-at-start]` prints `listening on N` once it does. Every path
//! is answered first, then the fault happens:
//!
//! | path | fault |
//! |---|---|
//! | `/health` | none: `ok` |
//! | `/segv` | another thread writes through a pointer to nothing |
//! | `/abort` | `abort()` |
//! | `/exit?code=N` | exits with N |
//! | `/alloc?mb=N` | takes and touches N MB, and keeps them |
//! | `/leader-exits` | the main thread ends alone, then another one exits the process with 9 |
//! | `/sys-exit?code=N` | every thread ends alone, the last one with N |
//! | `/close` | stops listening, lives on |
//! | `/fail` | answers `/health` with 500 from now on |
//! | `/hang` | answers nothing from now on |
//! | `/fork-child-crash` | a forked child crashes, the service lives on |
//! | `/threads?n=N` | has N idle threads beyond its own |
//! | `/fds?n=N` | has N open files beyond its own |

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

/// What the requests share.
struct Service {
    /// The listener's descriptor, or -1 once it is closed.
    listener: AtomicI32,
    failing: AtomicBool,
    hanging: AtomicBool,
    /// Idle threads, each of which ends with its sender.
    idle: Mutex<Vec<mpsc::Sender<()>>>,
    files: Mutex<Vec<File>>,
    /// Tells the main thread to end alone.
    leader: mpsc::SyncSender<()>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let Some(port) = value("--port").and_then(|port| u16::try_from(port).ok()) else {
        eprintln!("usage: victim --port N [--start-delay-ms N] [--crash-at-start]");
        return ExitCode::from(2);
    };
    if let Some(delay) = value("--start-delay-ms") {
        thread::sleep(Duration::from_millis(delay));
    }
    if arguments.iter().any(|argument| argument == "--crash-at-start") {
        write_to_nothing();
    }
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("victim: cannot listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on {port}");
    let (leader, told) = mpsc::sync_channel(1);
    let service = Arc::new(Service {
        listener: AtomicI32::new(listener.as_raw_fd()),
        failing: AtomicBool::new(false),
        hanging: AtomicBool::new(false),
        idle: Mutex::default(),
        files: Mutex::default(),
        leader,
    });
    thread::spawn(move || accept(&listener, &service));
    // The main thread serves nobody, so that it can end while the service goes on.
    while told.recv().is_err() {
        thread::park();
    }
    exit_this_thread(0)
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

fn serve(mut stream: TcpStream, service: &Service) {
    let Some(target) = request_target(&stream) else { return };
    if service.hanging.load(Ordering::SeqCst) {
        hang();
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let number = query.split_once('=').and_then(|(_, value)| value.parse::<i32>().ok()).unwrap_or(0);
    let known = matches!(
        path,
        "/health"
            | "/segv"
            | "/abort"
            | "/exit"
            | "/alloc"
            | "/leader-exits"
            | "/sys-exit"
            | "/close"
            | "/fail"
            | "/hang"
            | "/fork-child-crash"
            | "/threads"
            | "/fds"
    );
    let (status, body) = match (path, known) {
        (_, false) => ("404 Not Found", "no such fault"),
        ("/health", _) if service.failing.load(Ordering::SeqCst) => ("500 Internal Server Error", "failing"),
        (_, true) => ("200 OK", "ok"),
    };
    let answer =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let _ = stream.write_all(answer.as_bytes());
    drop(stream);
    fail(path, number, service);
}

fn request_target(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let target = lines.next()?.ok()?.split(' ').nth(1)?.to_owned();
    // The rest of the request is read, because closing a socket with unread bytes resets it.
    lines.find(|line| line.as_ref().map_or(true, String::is_empty))?.ok()?;
    Some(target)
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
            end_the_others();
            exit_this_thread(number)
        }
        "/close" => {
            let listener = service.listener.swap(-1, Ordering::SeqCst);
            // SAFETY: the descriptor is the listener's, which is never dropped; a second call is given -1.
            unsafe { libc::shutdown(listener, libc::SHUT_RDWR) };
        }
        "/fail" => service.failing.store(true, Ordering::SeqCst),
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

fn hang() -> ! {
    loop {
        thread::park();
    }
}

/// Dies of SIGSEGV. The address is that of a field in a structure at null, because Rust's own checks would
/// turn a write to null itself into an abort.
fn write_to_nothing() {
    let nothing = std::ptr::without_provenance_mut::<u8>(std::hint::black_box(8));
    // SAFETY: the page at null is never mapped, so the write changes no memory: it ends the process.
    unsafe { nothing.write_volatile(1) }
}

fn allocate(megabytes: i32) {
    for _ in 0..megabytes {
        let mut block = vec![0_u8; 1 << 20];
        // A page that is never written costs no memory.
        block.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        std::mem::forget(std::hint::black_box(block));
    }
}

/// Ends the calling thread alone: the process lives on while another thread does.
fn exit_this_thread(code: i32) -> ! {
    // SAFETY: nothing on this thread's stack is borrowed by another one, and nobody joins it.
    unsafe { libc::syscall(libc::SYS_exit, code) };
    unreachable!("the thread has ended")
}

extern "C" fn end_on_signal(_: libc::c_int) {
    exit_this_thread(0);
}

/// Ends every thread but this one, each by itself, and returns when they are gone.
fn end_the_others() {
    let handler = end_on_signal as extern "C" fn(libc::c_int);
    // SAFETY: the handler makes one system call, which is allowed in a signal handler. The threads wait in
    // system calls, so none of them holds a lock that this one needs.
    unsafe { libc::signal(libc::SIGUSR1, handler as libc::sighandler_t) };
    let (process, own) = (std::process::id() as libc::c_int, rustix::thread::gettid());
    for thread in threads().into_iter().filter(|&thread| thread != own.as_raw_nonzero().get()) {
        // SAFETY: sends a signal that has a handler to a thread of this process.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
    }
    wait_for_main_thread();
    // What is left in the list is this thread and the dead main thread, which stays until the very end.
    while threads().len() > 2 {
        thread::yield_now();
    }
}

fn threads() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Waits until the main thread is a zombie.
fn wait_for_main_thread() {
    let stat = format!("/proc/self/task/{}/stat", std::process::id());
    let state = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
    while !std::fs::read_to_string(&stat).is_ok_and(state) {
        thread::yield_now();
    }
}

fn crash_in_a_child() {
    // SAFETY: the child only writes to memory that is not there, which ends it; it takes no lock.
    match unsafe { libc::fork() } {
        0 => write_to_nothing(),
        child => {
            // SAFETY: waits for the child just made; its status is not asked for.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    }
}
