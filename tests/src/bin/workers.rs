//! A service of processes: `workers --port N --workers N`. The main process serves no request; its workers share the
//! listener, and one that dies is replaced.
//!
//! `/health` answers with the pid of the worker that answers, `/alloc?mb=N` has it take so much memory and keep it.

use std::{
    collections::HashSet,
    net::{TcpListener, TcpStream},
    process::ExitCode,
};

use hostprobe_tests::http::{request_target, respond};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u16>().ok()
    };
    let (Some(port), Some(count)) = (value("--port"), value("--workers")) else {
        eprintln!("usage: workers --port N --workers N");
        return ExitCode::from(2);
    };
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("workers: cannot listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on {port}");
    let mut workers = HashSet::new();
    loop {
        while workers.len() < usize::from(count) {
            // SAFETY: the process has one thread, so the child may do whatever its parent may.
            match unsafe { libc::fork() } {
                0 => serve(&listener),
                -1 => return ExitCode::FAILURE,
                worker => drop(workers.insert(worker)),
            }
        }
        // SAFETY: waits for any child; its status is not asked for.
        let ended = unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        workers.remove(&ended);
    }
}

/// A worker's life. It ends with its parent.
fn serve(listener: &TcpListener) -> ! {
    // SAFETY: sets an attribute of this process and takes a number.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    for stream in listener.incoming().map_while(Result::ok) {
        answer(stream);
    }
    std::process::exit(1)
}

fn answer(stream: TcpStream) {
    let Some(target) = request_target(&stream) else { return };
    respond(stream, "200 OK", &std::process::id().to_string());
    if let Some(megabytes) = target.strip_prefix("/alloc?mb=").and_then(|number| number.parse::<u32>().ok()) {
        for _ in 0..megabytes {
            // A page that is never written costs no memory.
            std::mem::forget(std::hint::black_box(vec![1_u8; 1 << 20]));
        }
    }
}
