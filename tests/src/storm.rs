//! A program whose children, unwatched processes, die in great numbers (`src/bin/storm.rs`).

use std::{
    io,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{parts::built, process::Running, program::NOBODY};

/// Far more than any of them takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// How its children end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// With exit code 1.
    Exit,
    /// With exit code 0.
    Well,
    Signals,
    /// As another program, with 0.
    Exec,
}

impl Manner {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Exit, Self::Well, Self::Signals, Self::Exec];

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Well => "well",
            Self::Signals => "signals",
            Self::Exec => "exec",
        }
    }

    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|manner| manner.word() == word)
    }
}

/// The program, waiting for the start signal.
#[derive(Debug)]
pub struct Storm {
    /// The process whose children die.
    pub process: Running,
}

impl Storm {
    /// One that makes children until it is stopped.
    #[track_caller]
    pub fn endless(manner: Manner) -> Self {
        Self::endless_under(&built("storm"), manner)
    }

    /// The same, from a copy of the program.
    #[track_caller]
    pub fn endless_under(program: &Path, manner: Manner) -> Self {
        Self::with(program, &[manner.word()])
    }

    /// One that makes so many as fast as it can.
    #[track_caller]
    pub fn of(manner: Manner, number: u64) -> Self {
        Self::with(&built("storm"), &[manner.word(), &number.to_string()])
    }

    /// One that makes so many, at so many a second.
    #[track_caller]
    pub fn paced(manner: Manner, number: u64, per_second: u64) -> Self {
        Self::with(&built("storm"), &[manner.word(), &number.to_string(), &per_second.to_string()])
    }

    #[track_caller]
    fn with(program: &Path, arguments: &[&str]) -> Self {
        let process = Running::start(Command::new(program).args(arguments), Signal::TERM);
        process.wait_until_it_says("ready", &process.stdout, LONG);
        Self { process }
    }

    /// Gives it the start signal.
    pub fn begin(&self) {
        self.process.signal(Signal::USR1);
    }

    /// Gives it the start signal, waits until it has made all it was to make, and returns how long that took.
    ///
    /// # Panics
    /// If it takes far too long.
    #[track_caller]
    pub fn pass(&mut self) -> Duration {
        let began = Instant::now();
        self.begin();
        self.process.wait_until_it_says("made ", &self.process.stdout, LONG);
        let took = began.elapsed();
        self.process.wait(LONG);
        took
    }

    /// Ends it, and returns how many children it had.
    ///
    /// # Panics
    /// If it does not end in order.
    #[track_caller]
    pub fn stop(&mut self) -> u64 {
        assert_eq!(self.process.stop().code(), Some(0));
        self.made()
    }

    /// How many children it says it had, once it has ended.
    ///
    /// # Panics
    /// If it does not say.
    #[track_caller]
    pub fn made(&self) -> u64 {
        let said = self.process.stdout.all();
        let made = said.last().and_then(|line| line.strip_prefix("made ")?.parse().ok());
        made.unwrap_or_else(|| panic!("it does not say how many: {said:?}"))
    }
}

/// For the programs themselves: drops all rights.
pub fn become_nobody() -> io::Result<()> {
    // SAFETY: plain system calls.
    let dropped = unsafe { libc::setgid(NOBODY) == 0 && libc::setuid(NOBODY) == 0 };
    if dropped { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// For the programs themselves: says `ready`, and waits for SIGUSR1.
pub fn wait_for_start_signal() {
    // SAFETY: the set is initialised before it is used, and outlives the calls.
    unsafe {
        let mut begin = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut begin);
        libc::sigaddset(&raw mut begin, libc::SIGUSR1);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const begin, std::ptr::null_mut());
        println!("ready");
        let mut came = 0;
        libc::sigwait(&raw const begin, &raw mut came);
    }
}
