//! The programs in the running kernel: arm, cause, see the record. Events are waited for, and told from the host's
//! own by process id.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::fact::OomScope;

mod exit;
mod flood;
mod listen_exec;
mod oom;
mod socket;
mod stop;

/// The kernel side, and a runtime to wait for it in.
struct Lab {
    kernel: Kernel,
    runtime: Runtime,
    // Records that came with one that was waited for, and may be the next to be waited for.
    pending: Vec<Record>,
}

/// Without a limit on strangers: tests run side by side, and some cause floods of them.
fn lab(test: &str) -> Option<Lab> {
    lab_with(test, &Options { unwatched_per_second: u32::MAX, prober: 0, ..Options::default() })
}

/// Says why the kernel cannot be tested here. Under `CI` that is a failure.
fn lab_with(test: &str, options: &Options) -> Option<Lab> {
    match Kernel::load(options) {
        Ok(kernel) => {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            Some(Lab { kernel, runtime, pending: Vec::new() })
        }
        Err(KernelError::NotPermitted { missing }) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped {test}: needs {missing:?}");
            None
        }
        Err(error) => panic!("{test}: {error}"),
    }
}

impl Lab {
    /// The first record that `pick` accepts; fails after ten seconds without one.
    fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(Record) -> Option<T>) -> T {
        let Self { kernel, runtime, pending } = self;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            kernel.drain(pending);
            let found = pending.iter().enumerate().find_map(|(place, it)| Some((place, pick(it.clone())?)));
            if let Some((place, found)) = found {
                pending.drain(..=place);
                return found;
            }
            pending.clear();
            // Records of the bulk ring wake nobody, hence the short limit.
            let limit = Duration::from_millis(20);
            let _ = runtime.block_on(async { tokio::time::timeout(limit, kernel.readable()).await });
        }
        panic!("no record: {what}; losses: {:?}", kernel.losses());
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
    let Some(Lab { kernel, .. }) = lab("every_hook_attaches_and_lacks_nothing") else { return };
    for hook in kernel.coverage() {
        assert!(hook.attached && hook.lacking.is_empty(), "{hook:?}");
    }
}

#[test]
fn the_verifier_is_done_quickly() {
    let Some(Lab { kernel, .. }) = lab("the_verifier_is_done_quickly") else { return };
    for (name, program) in kernel.ebpf.programs() {
        // The one that tells the level of a pid namespace is not asked here.
        let Ok(info) = program.info() else { continue };
        // `None` before 5.16. Older verifiers find fewer shortcuts and give up at a million.
        let count = info.verified_instruction_count();
        println!("{name}: {count:?} instructions verified");
        assert!(count.is_none_or(|it| it < 20_000), "{name}: {count:?} instructions verified");
    }
}

#[test]
fn a_waiting_daemon_is_woken_once_and_can_be_cancelled() {
    let Some(Lab { mut kernel, runtime, .. }) = lab("a_waiting_daemon_is_woken_once_and_can_be_cancelled")
    else {
        return;
    };
    runtime.block_on(async {
        for _ in 0..3 {
            let mut child = shell("exit 9");
            kernel.watch_process(child.id(), 1).unwrap();
            // A wait given up half way must not cost the next one anything.
            let _ = tokio::time::timeout(Duration::from_millis(1), kernel.readable()).await;
            let mut records = Vec::new();
            kernel.drain(&mut records);
            drop(child.stdin.take());
            let mut pick = exit_of(child.id());
            let found = async {
                loop {
                    kernel.readable().await.unwrap();
                    kernel.drain(&mut records);
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
fn the_programs_can_log() {
    let options = Options { log: true, ..Options::default() };
    let Some(Lab { mut kernel, runtime, .. }) = lab_with("the_programs_can_log", &options) else { return };
    assert!(kernel.coverage().iter().all(|it| it.attached), "{:?}", kernel.coverage());
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    runtime.block_on(async {
        kernel.spawn_log();
        let mut child = shell("exit 0");
        let id = child.id();
        drop(child.stdin.take());
        child.wait().unwrap();
        let want = format!("exit of {id} with status 0");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !lines.contain(&want) {
            assert!(Instant::now() < deadline, "no line {want:?}");
            tokio::task::yield_now().await;
            let _ = tokio::time::timeout(Duration::from_millis(20), kernel.readable()).await;
            kernel.drain(&mut Vec::new());
        }
    });
}

/// Collects what is logged.
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
