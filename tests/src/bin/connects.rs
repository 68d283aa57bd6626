//! A client that connects, with or without success.
//!
//! `connects served|refused|repeated|held N [PER_SECOND]` says `ready`, waits for SIGUSR1, makes N connections, and says how
//! many it made: to itself and closed in order, each refused by another address, all refused by one, or to itself and kept
//! open until its end by a signal, without rights.

use std::{
    io::Read,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use hostprobe_tests::storm::{become_nobody, wait_for_start_signal};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A port without a listener.
const CLOSED: u16 = 1;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).and_then(|number| number.parse::<u32>().ok());
    let (Some(manner), Some(count)) = (arguments.first(), number(1)) else {
        eprintln!("usage: connects served|refused|repeated|held N [PER_SECOND]");
        return ExitCode::from(2);
    };
    let pace = number(2);
    // Each process has its own addresses, so that lingering connections take no other process's ports.
    let own = u32::from(Ipv4Addr::new(127, 0, 0, 1)) + (std::process::id() % 10_000) * 1_000;
    let holds = manner == "held";
    if holds {
        // Both ends of a connection take a descriptor each.
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        become_nobody().expect("rights can be dropped");
    }
    let listener = (manner == "served" || holds)
        .then(|| TcpListener::bind((Ipv4Addr::from(own), 0)).expect("the loopback has ports"));
    let served = listener.as_ref().and_then(|it| it.local_addr().ok()).map(|address| address.port());
    wait_for_start_signal();
    // No earlier: a thread that does not wait for the signal would be ended by it.
    if let Some(listener) = listener {
        thread::spawn(move || if holds { hold(&listener) } else { serve(&listener) });
    }
    let (began, mut made, mut held) = (Instant::now(), 0, Vec::new());
    for at in 0..count {
        let address = if manner == "refused" { own + at } else { own };
        let to = SocketAddrV4::new(Ipv4Addr::from(address), served.unwrap_or(CLOSED));
        let connected = TcpStream::connect(to);
        made += u32::from(connected.is_ok() == served.is_some());
        if holds {
            held.extend(connected);
        } else if let Ok(mut stream) = connected {
            // The other side closes when it sees this one's end.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0]);
        }
        if let Some(pace) = pace {
            let due = Duration::from_secs_f64(f64::from(at + 1) / f64::from(pace.max(1)));
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    println!("made {made}");
    if holds {
        loop {
            thread::park();
        }
    }
    drop(held);
    ExitCode::SUCCESS
}

fn hold(listener: &TcpListener) {
    let mut held = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        held.push(stream);
    }
}

fn serve(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        let _ = stream.read(&mut [0]);
    }
}
