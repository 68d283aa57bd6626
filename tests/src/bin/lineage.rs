//! A service whose processes fork, daemonize, reparent, rename and move: none of it may change which service they belong to.
//!
//! `lineage --port N [--daemonize] [--pidfile F]` listens on a loopback port and does what each connection asks for in one
//! line, then answers with one line. Daemonized, it forks twice, leads a session of its own, and its first process exits.
//!
//! | line | does | answers |
//! |---|---|---|
//! | `child` | forks a child that waits for ever | its pid |
//! | `orphan` | forks a child that forks a worker in a session of its own and exits; the worker waits for ever | the worker's pid |
//! | `session FOLDER PROGRAM [ARGUMENT…]` | forks a child that moves to this cgroup and becomes another program | its pid |
//! | `rename NAME` | calls itself so, in `comm` and in its arguments | `ok` |
//! | `exec PROGRAM [ARGUMENT…]` | becomes another program | `ok` |
//! | `sockets N` | is refused by N ports, and listens and ceases to on as many | `ok` |
//! | `many N` | forks N children, of which every 25th kills itself and the next of each exits with 3; waits for all | `ok` |

use std::{
    ffi::CString,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// Of so many children one kills itself, and one exits with an error.
const EVERY: u32 = 25;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.get(arguments.iter().position(|given| given == name)? + 1).cloned();
    let Some(port) = value("--port").and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: lineage --port N [--daemonize] [--pidfile F]");
        return ExitCode::from(2);
    };
    if arguments.iter().any(|given| given == "--daemonize") {
        leave_if_parent(fork());
        // SAFETY: it changes this process alone.
        unsafe { libc::setsid() };
        leave_if_parent(fork());
    }
    if let Some(file) = value("--pidfile") {
        fs::write(file, format!("{}\n", std::process::id())).expect("the pidfile is written");
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    println!("listening on {port}");
    loop {
        if let Ok((stream, _)) = listener.accept() {
            serve(stream);
        }
    }
}

fn serve(mut stream: TcpStream) {
    let mut line = String::new();
    if BufReader::new(&stream).read_line(&mut line).is_err() {
        return;
    }
    let mut words = line.split_whitespace();
    let answer = match words.next() {
        Some("child") => wait_for_ever_in(fork()).to_string(),
        Some("orphan") => orphan().to_string(),
        Some("session") => session(&words.collect::<Vec<_>>()).to_string(),
        Some("rename") => rename(words.next().unwrap_or("nobody")),
        Some("many") => many(words.next().and_then(|number| number.parse().ok()).unwrap_or(0)),
        Some("sockets") => sockets(words.next().and_then(|number| number.parse().ok()).unwrap_or(0)),
        Some("exec") => "ok".to_owned(),
        _ => "what?".to_owned(),
    };
    let _ = writeln!(stream, "{answer}");
    drop(stream);
    if line.starts_with("exec ") {
        let program: Vec<&str> = line.split_whitespace().skip(1).collect();
        let error = Command::new(program[0]).args(&program[1..]).exec();
        panic!("cannot execute {program:?}: {error}");
    }
}

/// The child's pid in the parent.
fn session(words: &[&str]) -> i32 {
    let pid = fork();
    if pid != 0 {
        return pid;
    }
    // The kernel takes 0 for the writing process.
    fs::write(format!("{}/cgroup.procs", words[0]), "0").expect("it is moved");
    let error = Command::new(words[1]).args(&words[2..]).exec();
    panic!("cannot execute {words:?}: {error}");
}

/// 0 in the child, its pid in the parent.
fn fork() -> i32 {
    // SAFETY: this process has one thread, so its child may do whatever it could.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "it can fork");
    pid
}

fn leave_if_parent(pid: i32) {
    if pid != 0 {
        exit(0);
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the process at once; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}

/// The child's pid in the parent; the child never returns.
fn wait_for_ever_in(pid: i32) -> i32 {
    if pid != 0 {
        return pid;
    }
    loop {
        // SAFETY: it only waits for a signal.
        unsafe { libc::pause() };
    }
}

/// The worker's pid, once its parent is gone.
fn orphan() -> i32 {
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let parent = fork();
    if parent == 0 {
        // SAFETY: it changes this process alone.
        unsafe { libc::setsid() };
        let worker = wait_for_ever_in(fork());
        let _ = writer.write_all(&worker.to_ne_bytes());
        exit(0);
    }
    wait_for(parent);
    let mut pid = [0; 4];
    reader.read_exact(&mut pid).expect("a pid");
    i32::from_ne_bytes(pid)
}

fn wait_for(pid: i32) {
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

fn rename(name: &str) -> String {
    let comm = CString::new(name).expect("a name without a NUL");
    // SAFETY: the name is a valid string for the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, comm.as_ptr()) };
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc can be read");
    let fields: Vec<usize> = stat.rsplit(") ").next().unwrap_or_default().split(' ').map(parsed).collect();
    // `arg_start` and `arg_end` of proc(5), fields 48 and 49, of which the third is the first here.
    let (start, end) = (fields[48 - 3], fields[49 - 3]);
    let mut text = name.as_bytes().to_vec();
    text.resize(end - start, 0);
    // SAFETY: the kernel says that the arguments lie there, which nothing here reads any more.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), start as *mut u8, text.len()) };
    "ok".to_owned()
}

fn parsed(field: &str) -> usize {
    field.trim().parse().unwrap_or(0)
}

fn sockets(number: u32) -> String {
    for _ in 0..number {
        let Ok(listener) = TcpListener::bind(("127.0.0.1", 0)) else { continue };
        if let Ok(address) = listener.local_addr() {
            drop(listener);
            let _ = TcpStream::connect(address);
        }
    }
    "ok".to_owned()
}

fn many(number: u32) -> String {
    let children: Vec<i32> = (0..number)
        .map(|at| {
            let pid = fork();
            if pid == 0 {
                match at % EVERY {
                    // SAFETY: it ends this process.
                    0 => drop(unsafe { libc::raise(libc::SIGKILL) }),
                    1 => exit(3),
                    _ => exit(0),
                }
            }
            pid
        })
        .collect();
    children.into_iter().for_each(wait_for);
    "ok".to_owned()
}
