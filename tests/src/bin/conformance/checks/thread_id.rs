//! `mark_victim` with a thread id instead of a task, as on older kernels without the latest stable updates.
//!
//! No kernel here passes a thread id any more. So this check loads the programs as on such a kernel, and runs the one for
//! `mark_victim` with a thread id itself.

use std::{fs, os::fd::OwnedFd};

use anyhow::{Context, Error, Result, ensure};
use hostprobe::sensor::{
    ebpf::{
        Hook, Options,
        btf::{KernelTypes, reduce::reduce, sections::Sections},
        fields,
        load::Paths,
    },
    record::{Oom, Record},
};
use hostprobe_tests::memcg::MemoryCgroup;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::{oom, prog_run};
use crate::{fixture::Fixture, report::Outcome};

const MARK_VICTIM: &str = "mark_victim";

pub fn check() -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let paths = Paths { btf: folder.path().join("vmlinux"), ..Paths::default() };
    fs::write(&paths.btf, types_with_thread_id()?)?;
    let others: Vec<u32> = prog_run::named(MARK_VICTIM)?.into_iter().map(|(id, _)| id).collect();
    let mut fixture = Fixture::at(Options::default(), &paths)?;
    let attached = fixture.sensor.coverage().iter().any(|it| it.hook == Hook::Oom && it.attached);
    ensure!(attached, "{:?}", fixture.sensor.coverage());
    let ours = prog_run::named(MARK_VICTIM)?.into_iter().find(|(id, _)| !others.contains(id));
    let (_, program) = ours.context("the program is not among those loaded")?;

    // The program remembers the last signal per CPU, so the whole check stays on one CPU, as an OOM kill does.
    let before = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(sched_getcpu());
    sched_setaffinity(None, &one)?;
    let outcome = on_one_cpu(&mut fixture, &program);
    sched_setaffinity(None, &before)?;
    outcome
}

fn on_one_cpu(fixture: &mut Fixture, program: &OwnedFd) -> Result<Outcome> {
    let cgroup = MemoryCgroup::new(oom::LIMIT)?;
    let mut hog = oom::hog()?;
    cgroup.add(hog.pid())?;
    hog.release();
    let exit = fixture.wait_for_exit(hog.pid())?;
    ensure!(exit.oom_victim, "{exit:?}");
    // The process was signalled, is dead, and this process has not waited for it: its task still exists.
    let oom = mark_victim(fixture, program, hog.pid())?;
    let same = oom.pid == Some(hog.pid()) && oom.start_ns == exit.start_ns && oom.comm == "allocate";
    ensure!(same && oom.score_adj == oom::SCORE, "not {}: {oom:?}", hog.pid());
    hog.wait()?;

    // A process that is already dying marks itself, without a signal.
    let own = std::process::id();
    let oom = mark_victim(fixture, program, own)?;
    ensure!(oom.pid == Some(own) && oom.start_ns > 0 && oom.anon_pages > 0, "not {own}: {oom:?}");

    // No process has this id, and the program must not mistake another for it.
    let oom = mark_victim(fixture, program, 1 << 30)?;
    ensure!((oom.pid, oom.start_ns, oom.anon_pages) == (None, 0, 0), "a victim for an unused id: {oom:?}");
    Ok(Outcome::Passed("found by its signal, as the current task, or not at all".to_owned()))
}

/// The running kernel's type information, changed so that `mark_victim` passes a number.
fn types_with_thread_id() -> Result<Vec<u8>> {
    let whole = fs::read(Paths::default().btf)?;
    let mut types = reduce(&whole, &fields::names()).map_err(Error::msg)?;
    let sections = Sections::find(&types).map_err(Error::msg)?;
    let offsets = sections.offsets().map_err(Error::msg)?;
    let records: Result<Vec<_>, _> =
        offsets.iter().map(|&offset| sections.type_at(offset as usize)).collect();
    let records = records.map_err(Error::msg)?;
    let by_id = |id: u32| usize::try_from(id).ok().and_then(|id| records.get(id.checked_sub(1)?));
    let name = KernelTypes::prototype(MARK_VICTIM);
    let alias = records.iter().find(|it| sections.name(it.name) == name).context("no prototype")?;
    let prototype =
        by_id(alias.size_or_type).and_then(|pointer| by_id(pointer.size_or_type)).context("no prototype")?;
    // Offset of the second parameter's type: the BTF header, the prototype's common part, the first parameter, a name.
    let offset = 24 + prototype.range.start + 12 + 8 + 4;
    // Type 0 is void, which is no pointer.
    types.get_mut(offset..offset + 4).context("no second parameter")?.fill(0);
    Ok(types)
}

/// Runs the program on this CPU with a thread id, and waits for its record.
fn mark_victim(fixture: &mut Fixture, program: &OwnedFd, tid: u32) -> Result<Oom> {
    prog_run::run(program, &[u64::from(tid)])?;
    fixture.wait_for("OOM kill", |record| {
        if let Record::Oom(it) = record { Some(it.clone()).filter(|it| it.tid == tid) } else { None }
    })
}
