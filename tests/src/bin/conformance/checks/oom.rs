//! OOM kills: victim, trigger, scope and sizes.

use std::{fs, os::unix::fs::MetadataExt};

use anyhow::{Context, Result, ensure};
use hostprobe::{
    fact::OomScope,
    sensor::record::{Oom, Record},
};
use hostprobe_tests::memcg::MemoryCgroup;

use crate::{check::FixtureCheck, fixture::Fixture, report::Outcome, workload::Workload};

pub const CHECKS: &[FixtureCheck] = &[("OOM kill of a memory cgroup", of_a_cgroup)];

/// The victim's `oom_score_adj`: high enough that the OOM killer chooses no other process of the machine.
pub const SCORE: i32 = 600;

/// Memory limit of the cgroup, in bytes.
pub const LIMIT: u64 = 32 << 20;

/// The victim holds at least this part of the memory, `MOST / OF`. Its counters are estimates of the kernel, some dozen
/// pages off for every CPU, and page tables count too.
const MOST: u64 = 3;
const OF: u64 = 4;

/// A process allocates more than its memory cgroup allows.
fn of_a_cgroup(fixture: &mut Fixture) -> Result<Outcome> {
    let cgroup = MemoryCgroup::new(LIMIT)?;
    let mut hog = hog()?;
    cgroup.add(hog.pid())?;
    hog.release();
    let oom = killed(fixture, &mut hog)?;
    let limit = LIMIT / page_size();
    ensure!(oom.scope == OomScope::Memcg, "scope {:?}; stack {:x?}", oom.scope, oom.stack);
    ensure!(oom.limit_pages == Some(limit), "limit {:?} pages, not {limit}", oom.limit_pages);
    ensure!(
        (limit * MOST / OF..limit * OF / MOST).contains(&oom.anon_pages),
        "{} pages of {limit}",
        oom.anon_pages
    );
    ensure!(oom.trigger_pid == hog.pid() && oom.trigger_comm == "allocate", "{oom:?}");
    let id = fs::metadata(cgroup.directory())?.ino();
    ensure!(oom.cgroups.memory_v1.or(oom.cgroups.v2) == Some(id), "{:?}, not {id}", oom.cgroups);
    Ok(Outcome::Passed(format!("scope memcg, victim, trigger, limit {limit} pages, score {}", oom.score_adj)))
}

/// A process allocates more than the machine has.
pub fn of_the_machine(fixture: &mut Fixture) -> Result<Outcome> {
    let free = available_pages()?;
    let mut hog = hog()?;
    hog.release();
    let oom = killed(fixture, &mut hog)?;
    ensure!(oom.scope == OomScope::Global, "scope {:?}; stack {:x?}", oom.scope, oom.stack);
    ensure!(oom.limit_pages.is_none(), "limit {:?} pages", oom.limit_pages);
    ensure!(oom.anon_pages > free * MOST / OF, "{} pages of {free}", oom.anon_pages);
    ensure!(oom.trigger_pid > 0 && !oom.trigger_comm.is_empty(), "{oom:?}");
    Ok(Outcome::Passed(format!("scope global, victim, no limit, score {}", oom.score_adj)))
}

/// A process that allocates until it is killed.
pub fn hog() -> Result<Workload> {
    let hog = Workload::start(&["allocate"])?;
    fs::write(format!("/proc/{}/oom_score_adj", hog.pid()), SCORE.to_string())?;
    Ok(hog)
}

/// Waits for the kill and checks what both scopes have in common.
fn killed(fixture: &mut Fixture, hog: &mut Workload) -> Result<Oom> {
    let pid = hog.pid();
    let oom = fixture.wait_for("OOM kill", |record| {
        if let Record::Oom(it) = record { Some(it.clone()).filter(|it| it.tid == pid) } else { None }
    })?;
    let exit = fixture.wait_for_exit(pid)?;
    ensure!(exit.status.0 == Some(hog.wait()?) && exit.status.signal() == Some(9), "{exit:?}");
    // On older kernels the tracepoint passes a thread id only, and the program has to find the task.
    ensure!(oom.pid == Some(pid) && oom.comm == "allocate" && oom.uid == 0, "victim {oom:?}");
    ensure!(oom.start_ns == exit.start_ns && oom.at_ns <= exit.at_ns, "{oom:?} {exit:?}");
    ensure!(oom.score_adj == SCORE, "score {}", oom.score_adj);
    ensure!(exit.oom_victim && exit.cgroups == oom.cgroups, "{exit:?}");
    let signal = exit.signal.context("no signal")?;
    ensure!(signal.number == 9 && signal.sender.is_none(), "{signal:?}");
    let resident = oom.anon_pages + oom.file_pages + oom.shmem_pages;
    ensure!(exit.max_rss_pages >= oom.anon_pages * MOST / OF, "at most {} pages", exit.max_rss_pages);
    ensure!(oom.file_pages < oom.anon_pages && resident < 1 << 20 && oom.swap_pages < 1 << 20, "{oom:?}");
    Ok(oom)
}

pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

fn available_pages() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("no MemAvailable")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024 / page_size())
}
