//! Answers HTTP, and is late now and then: `slow_service --port N --takes WORD --waits-for WORD --at-once N --least MS
//! --longest MS --server PORT`.
//!
//! After so many answers at once it is late for a while, and so is each answer to a request of that time: they come when it is
//! over. `/work` takes the longest of these times. After `/hang` it answers nothing any more: each thread waits for another one.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use hostprobe_tests::{
    fault::hang,
    http::{request_target, respond},
    slow_service::{Pace, Takes, WaitsFor},
};
use rustix::event::{Timespec, poll};

struct Service {
    waits_for: WaitsFor,
    pace: Pace,
    /// The port of the other server.
    server: u16,
    state: Mutex<State>,
    hangs: AtomicBool,
}

struct State {
    /// Answers at once that are left.
    at_once: u32,
    /// When the time at which it is late is over.
    late_until: Instant,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.get(arguments.iter().position(|argument| argument == name)? + 1);
    let number = |name: &str| value(name)?.parse::<u64>().ok();
    let port = |name: &str| u16::try_from(number(name)?).ok();
    let takes = value("--takes").and_then(|word| Takes::ALL.into_iter().find(|it| it.word() == word));
    let waits_for =
        value("--waits-for").and_then(|word| WaitsFor::ALL.into_iter().find(|it| it.word() == word));
    let at_once = number("--at-once").and_then(|number| u32::try_from(number).ok());
    let (Some(own), Some(takes), Some(waits_for), Some(at_once), Some(least), Some(longest), Some(server)) =
        (port("--port"), takes, waits_for, at_once, number("--least"), number("--longest"), port("--server"))
    else {
        eprintln!("slow_service: an option is missing or wrong");
        return ExitCode::from(2);
    };
    let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, own)) else { return ExitCode::FAILURE };
    println!("listening on {own}");
    let pace = Pace { at_once, late: (least, longest) };
    let state = Mutex::new(State { at_once, late_until: Instant::now() });
    let service = Arc::new(Service { waits_for, pace, server, state, hangs: AtomicBool::new(false) });
    let requests = listener.incoming().map_while(Result::ok);
    match takes {
        Takes::AtOnce => requests.for_each(|stream| {
            let service = Arc::clone(&service);
            thread::spawn(move || service.answer_when_due(stream));
        }),
        Takes::OneAfterTheOther => {
            let (accepted, work) = mpsc::channel::<TcpStream>();
            thread::spawn(move || work.iter().for_each(|stream| service.answer_then_be_away(stream)));
            requests.for_each(|stream| drop(accepted.send(stream)));
        }
        Takes::AcceptsWhenFree => requests.for_each(|stream| service.answer_then_be_away(stream)),
    }
    ExitCode::FAILURE
}

impl Service {
    /// Reads the request at once, and answers it when it is due.
    fn answer_when_due(&self, stream: TcpStream) {
        let Some(target) = request_target(&stream) else { return };
        if target == "/health" {
            self.wait(self.late_for());
        }
        self.answer(&target, stream);
    }

    /// Answers the request at once. If it is late then, it is as if it worked for another client meanwhile.
    fn answer_then_be_away(&self, stream: TcpStream) {
        if self.hangs.load(Ordering::SeqCst) {
            hang();
        }
        let Some(target) = request_target(&stream) else { return };
        self.answer(&target, stream);
        if target == "/health" {
            self.wait(self.late_for());
        }
    }

    fn answer(&self, target: &str, stream: TcpStream) {
        if self.hangs.load(Ordering::SeqCst) {
            hang();
        }
        if target == "/work" {
            self.wait(Duration::from_millis(self.pace.late.1));
        }
        respond(stream, "200 OK", "ok");
        if target == "/hang" {
            self.hangs.store(true, Ordering::SeqCst);
        }
    }

    /// How long it is still late.
    fn late_for(&self) -> Duration {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let left = state.late_until.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return left;
        }
        if state.at_once > 0 {
            state.at_once -= 1;
            return Duration::ZERO;
        }
        let (least, longest) = self.pace.late;
        let random = RandomState::new().build_hasher().finish();
        let late = Duration::from_millis(least + random % (longest - least + 1));
        state.at_once = self.pace.at_once;
        state.late_until = Instant::now() + late;
        late
    }

    fn wait(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let until = Instant::now() + time;
        // Those that nothing fills.
        let (_released, lock) = mpsc::channel::<()>();
        match self.waits_for {
            WaitsFor::Time => thread::sleep(time),
            WaitsFor::LockInTime => drop(lock.recv_timeout(time)),
            WaitsFor::Lock => {
                let (release, released) = mpsc::channel::<()>();
                thread::spawn(move || {
                    thread::sleep(time);
                    drop(release);
                });
                let _ = released.recv();
            }
            WaitsFor::Events => drop(poll(&mut [], Timespec::try_from(time).ok().as_ref())),
            WaitsFor::Child => drop(Command::new("/bin/sleep").arg(time.as_secs_f64().to_string()).status()),
            WaitsFor::Server => drop(self.ask(time)),
            WaitsFor::Cpu => while Instant::now() < until {},
        }
    }

    /// Asks the other server, which answers after this time.
    fn ask(&self, time: Duration) -> std::io::Result<usize> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.server))?;
        writeln!(stream, "{}", time.as_millis())?;
        stream.read(&mut [0])
    }
}
