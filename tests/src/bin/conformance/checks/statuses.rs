//! How processes end: what the kernel side says is what wait(2) says, to the bit.

use std::{fs, thread};

use anyhow::{Result, ensure};
use hostprobe::sensor::ebpf::Record;
use rustix::process::Signal;

use super::Check;
use crate::{bench::Bench, process::Doer, report::Outcome};

pub const CHECKS: &[Check] = &[
    ("exit with a code", |bench| ends(bench, &["exit", "7"], &[0x0700])),
    ("exit 0 of a watched process", |bench| ends(bench, &["exit", "0"], &[0])),
    ("SIGSEGV, core dumped", |bench| ends(bench, &["segv"], &[0x8b])),
    ("SIGABRT, core dumped", |bench| ends(bench, &["abort"], &[0x86])),
    ("SIGSEGV in a thread, core dumped", |bench| ends(bench, &["thread-segv"], &[0x8b])),
    ("SIGKILL", killed),
    ("SIGKILL of 32 threads: told once", crowd),
    ("first thread gone, another exits 9", |bench| ends(bench, &["leader-exits", "9"], &[0x0900])),
    // Which thread's code is the process's differs between kernels, and wait(2) with it.
    ("every thread ends by itself", |bench| ends(bench, &["threads-exit", "5", "8"], &[0x0500, 0x0800])),
];

/// Has a watched process do something that ends it, with a status that is one of these.
fn ends(bench: &mut Bench, deed: &[&str], expected: &[u32]) -> Result<Outcome> {
    let mut doer = Doer::start(deed)?;
    bench.kernel.watch_process(doer.pid(), 1)?;
    doer.go();
    let status = told(bench, &mut doer, deed[0])?;
    ensure!(expected.contains(&status), "status 0x{status:04x}, not one of {expected:x?}");
    let all: Vec<_> = expected.iter().map(|it| format!("0x{it:04x}")).collect();
    Ok(Outcome::Kept(format!("status {}, as wait(2) says", all.join(" or "))))
}

fn killed(bench: &mut Bench) -> Result<Outcome> {
    // Not watched: a death by signal is always told.
    let mut doer = Doer::start(&["exit", "0"])?;
    doer.signal(Signal::KILL)?;
    let status = told(bench, &mut doer, "")?;
    ensure!(status == 9, "status 0x{status:04x}");
    Ok(Outcome::Kept(format!("status 0x{status:04x}, as wait(2) says")))
}

/// All threads of a process end at once, and each of them may look like the last one. Whether they do is chance, so there
/// are several goes.
fn crowd(bench: &mut Bench) -> Result<Outcome> {
    const THREADS: usize = 32;
    for _ in 0..8 {
        let mut doer = Doer::start(&["crowd", &THREADS.to_string()])?;
        bench.kernel.watch_process(doer.pid(), 1)?;
        doer.go();
        while fs::read_dir(format!("/proc/{}/task", doer.pid()))?.count() < THREADS {
            thread::yield_now();
        }
        doer.signal(Signal::KILL)?;
        let first = bench.wait_for_exit(doer.pid())?;
        ensure!(first.status.0 == 9 && doer.wait()? == 9, "{first:?}");
        // All that is told of it comes before the end of one that is started after it.
        let mut marker = Doer::start(&["exit", "1"])?;
        bench.kernel.watch_process(marker.pid(), 1)?;
        marker.go();
        let mut again = 0;
        bench.wait_for("end of the marker", |record| {
            let Record::Exit(it) = record else { return None };
            again += u32::from((it.pid, it.start_ns) == (first.pid, first.start_ns));
            (it.pid == marker.pid()).then_some(())
        })?;
        ensure!(again == 0, "told {again} times more");
    }
    Ok(Outcome::Kept("one record, status 0x0009".to_owned()))
}

/// The status that was told, which is the one of wait(2), and with it who ended.
fn told(bench: &mut Bench, doer: &mut Doer, comm: &str) -> Result<u32> {
    let exit = bench.wait_for_exit(doer.pid())?;
    let waited = doer.wait()?;
    ensure!(exit.status.0 == waited, "told 0x{:04x}, wait(2) says 0x{waited:04x}", exit.status.0);
    ensure!(exit.parent_pid == std::process::id(), "parent {}", exit.parent_pid);
    ensure!(exit.namespaced_pid == Some(doer.pid()), "in its namespace {:?}", exit.namespaced_pid);
    ensure!(exit.uid == 0 && exit.start_ns > 0 && exit.start_ns < exit.at_ns && !exit.oom_victim, "{exit:?}");
    // A static program that has started has some pages; this one has no gigabyte.
    ensure!((20..1 << 18).contains(&exit.max_rss_pages), "{} pages", exit.max_rss_pages);
    // It is named when it begins to run, which one that is killed at once may not have come to.
    ensure!(comm.is_empty() || exit.comm == comm, "named {}", exit.comm);
    Ok(waited)
}
