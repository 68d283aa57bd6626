//! Exit statuses: the reported status equals that of wait(2), bit for bit.

use std::{fs, thread};

use anyhow::{Result, ensure};
use hostprobe::sensor::record::Record;
use rustix::process::Signal;

use crate::{check::FixtureCheck, fixture::Fixture, report::Outcome, workload::Workload};

pub const CHECKS: &[FixtureCheck] = &[
    ("exit with a code", |fixture| exits(fixture, &["exit", "7"], &[0x0700])),
    ("exit 0 of a watched process", |fixture| exits(fixture, &["exit", "0"], &[0])),
    ("SIGSEGV, core dumped", |fixture| exits(fixture, &["segv"], &[0x8b])),
    ("SIGABRT, core dumped", |fixture| exits(fixture, &["abort"], &[0x86])),
    ("SIGSEGV in a thread, core dumped", |fixture| exits(fixture, &["thread-segv"], &[0x8b])),
    ("SIGKILL", killed),
    ("SIGKILL of 32 threads: reported once", crowd),
    ("leader gone, another thread exits 9", |fixture| exits(fixture, &["leader-exits", "9"], &[0x0900])),
    // Kernels differ in the thread whose code becomes that of the process, and wait(2) differs alike.
    ("every thread exits by itself", |fixture| {
        exits(fixture, &["threads-exit", "5", "8"], &[0x0500, 0x0800])
    }),
];

/// A watched process acts and ends with one of the expected statuses.
fn exits(fixture: &mut Fixture, action: &[&str], expected: &[u32]) -> Result<Outcome> {
    let mut workload = Workload::start(action)?;
    fixture.sensor.watch_process(workload.pid(), 1)?;
    workload.release();
    let status = status(fixture, &mut workload, action[0])?;
    ensure!(expected.contains(&status), "status 0x{status:04x}, not one of {expected:x?}");
    let all: Vec<_> = expected.iter().map(|it| format!("0x{it:04x}")).collect();
    Ok(Outcome::Passed(format!("status {}, as wait(2) says", all.join(" or "))))
}

fn killed(fixture: &mut Fixture) -> Result<Outcome> {
    // Not watched: a death by signal is always reported.
    let mut workload = Workload::start(&["exit", "0"])?;
    workload.signal(Signal::KILL)?;
    let status = status(fixture, &mut workload, "")?;
    ensure!(status == 9, "status 0x{status:04x}");
    Ok(Outcome::Passed(format!("status 0x{status:04x}, as wait(2) says")))
}

/// All threads of a process end at once, and each of them may look like the last one. That is a race, so the check tries
/// several times.
fn crowd(fixture: &mut Fixture) -> Result<Outcome> {
    const THREADS: usize = 32;
    for _ in 0..8 {
        let mut workload = Workload::start(&["crowd", &THREADS.to_string()])?;
        fixture.sensor.watch_process(workload.pid(), 1)?;
        workload.release();
        while fs::read_dir(format!("/proc/{}/task", workload.pid()))?.count() < THREADS {
            thread::yield_now();
        }
        workload.signal(Signal::KILL)?;
        let first = fixture.wait_for_exit(workload.pid())?;
        ensure!(first.status.0 == Some(9) && workload.wait()? == 9, "{first:?}");
        // All its records come before the exit of a process that starts later.
        let mut marker = Workload::start(&["exit", "1"])?;
        fixture.sensor.watch_process(marker.pid(), 1)?;
        marker.release();
        let mut again = 0;
        fixture.wait_for("exit of the marker", |record| {
            let Record::Exit(it) = record else { return None };
            again += u32::from((it.pid, it.start_ns) == (first.pid, first.start_ns));
            (it.pid == marker.pid()).then_some(())
        })?;
        ensure!(again == 0, "reported {again} times more");
    }
    Ok(Outcome::Passed("one record, status 0x0009".to_owned()))
}

/// The reported status. Checks that it equals that of wait(2), and that the record is of this process.
fn status(fixture: &mut Fixture, workload: &mut Workload, comm: &str) -> Result<u32> {
    let exit = fixture.wait_for_exit(workload.pid())?;
    let waited = workload.wait()?;
    ensure!(exit.status.0 == Some(waited), "reported {:x?}, wait(2) says 0x{waited:04x}", exit.status);
    ensure!(exit.parent_pid == std::process::id(), "parent {}", exit.parent_pid);
    ensure!(exit.namespaced_pid == Some(workload.pid()), "namespaced pid {:?}", exit.namespaced_pid);
    ensure!(exit.uid == 0 && exit.start_ns > 0 && exit.start_ns < exit.at_ns && !exit.oom_victim, "{exit:?}");
    // A started static program has some pages, and this one less than a gigabyte.
    ensure!((20..1 << 18).contains(&exit.max_rss_pages), "{} pages", exit.max_rss_pages);
    // The process names itself when it begins to run; one that is killed at once may not get there.
    ensure!(comm.is_empty() || exit.comm == comm, "named {}", exit.comm);
    Ok(waited)
}
