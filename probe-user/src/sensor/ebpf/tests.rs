//! The programs in the running kernel: each test watches, causes an event, and checks its record. It tells its records
//! from the host's others by process id.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::{fact::OomScope, sensor::record::*};

mod exit;
mod flood;
mod listen_exec;
mod oom;
mod signal;
mod socket;

/// The loaded programs.
struct Fixture {
    sensor: EbpfSensor,
    runtime: Runtime,
    /// Records that came with an awaited one. The next awaited one may be among them.
    pending: Vec<Record>,
}

/// Without a limit on unwatched processes: tests run side by side, and some cause floods of them.
fn fixture(test: &str) -> Option<Fixture> {
    fixture_with(test, &Options { unwatched_per_second: u32::MAX, prober: 0, ..Options::default() })
}

/// Skips the test where loading is not permitted; under `CI` that is a failure.
fn fixture_with(test: &str, options: &Options) -> Option<Fixture> {
    match EbpfSensor::load(options) {
        Ok(sensor) => {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            Some(Fixture { sensor, runtime, pending: Vec::new() })
        }
        Err(LoadError::NotPermitted { missing }) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped {test}: needs {missing:?}");
            None
        }
        Err(error) => panic!("{test}: {error}"),
    }
}

impl Fixture {
    /// The first record that `pick` accepts; fails after ten seconds without one.
    fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(Record) -> Option<T>) -> T {
        let Self { sensor, runtime, pending } = self;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            sensor.drain(pending);
            let found = pending.iter().enumerate().find_map(|(at, it)| Some((at, pick(it.clone())?)));
            if let Some((at, found)) = found {
                pending.drain(..=at);
                return found;
            }
            pending.clear();
            // Records of the bulk ring cause no wake-up, hence the short limit.
            let limit = Duration::from_millis(20);
            let _ = runtime.block_on(async { tokio::time::timeout(limit, sensor.readable()).await });
        }
        panic!("no record: {what}; losses: {:?}", sensor.losses());
    }
}

fn exit_of(pid: u32) -> impl FnMut(Record) -> Option<Exit> {
    move |record| if let Record::Exit(exit) = record { Some(exit).filter(|it| it.pid == pid) } else { None }
}

/// A shell that does `after` once its standard input ends.
fn shell(after: &str) -> Child {
    let script = format!("read line; {after}");
    Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn every_hook_attaches_and_lacks_nothing() {
    let Some(Fixture { sensor, .. }) = fixture("every_hook_attaches_and_lacks_nothing") else { return };
    for hook in sensor.coverage() {
        // A kernel without machine checks, for example, has no such tracepoint.
        assert!(hook.attached != hook.absent && hook.lacking.is_empty(), "{hook:?}");
    }
}

#[test]
fn the_verifier_stays_below_its_budget() {
    let Some(Fixture { sensor, .. }) = fixture("the_verifier_stays_below_its_budget") else { return };
    for (name, program) in sensor.ebpf.programs() {
        // The program for the level of a pid namespace is not loaded here.
        let Ok(info) = program.info() else { continue };
        // `None` before 5.16. Older verifiers prune less, and their limit is a million.
        let count = info.verified_instruction_count();
        println!("{name}: {count:?} instructions verified");
        assert!(count.is_none_or(|it| it < 20_000), "{name}: {count:?} instructions verified");
    }
}

#[test]
fn a_cancelled_wait_loses_no_record() {
    let Some(Fixture { mut sensor, runtime, .. }) = fixture("a_cancelled_wait_loses_no_record") else {
        return;
    };
    runtime.block_on(async {
        for _ in 0..3 {
            let mut child = shell("exit 9");
            sensor.watch_process(child.id(), 1).unwrap();
            // A cancelled wait must not affect the next one.
            let _ = tokio::time::timeout(Duration::from_millis(1), sensor.readable()).await;
            let mut records = Vec::new();
            sensor.drain(&mut records);
            drop(child.stdin.take());
            let mut pick = exit_of(child.id());
            let found = async {
                loop {
                    sensor.readable().await.unwrap();
                    sensor.drain(&mut records);
                    if let Some(exit) = records.drain(..).find_map(&mut pick) {
                        return exit;
                    }
                }
            };
            let exit = tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
            assert_eq!(exit.status.code(), Some(9));
            child.wait().unwrap();
        }
    });
}

#[test]
fn the_programs_log_if_asked() {
    let options = Options { log: true, ..Options::default() };
    let Some(Fixture { mut sensor, runtime, .. }) = fixture_with("the_programs_log_if_asked", &options)
    else {
        return;
    };
    assert!(sensor.coverage().iter().all(|it| it.attached != it.absent), "{:?}", sensor.coverage());
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    runtime.block_on(async {
        sensor.spawn_log();
        let mut child = shell("exit 0");
        let id = child.id();
        drop(child.stdin.take());
        child.wait().unwrap();
        let want = format!("exit of {id} with status 0");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !lines.contain(&want) {
            assert!(Instant::now() < deadline, "no line {want:?}");
            tokio::task::yield_now().await;
            let _ = tokio::time::timeout(Duration::from_millis(20), sensor.readable()).await;
            sensor.drain(&mut Vec::new());
        }
    });
}

/// A writer that collects log lines.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Lines {
    fn contain(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(text)
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
