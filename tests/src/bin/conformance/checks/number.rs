//! `mark_victim` passed a thread id before it passed a task, and stable updates have taken that to the older kernels as
//! well. So that hosts without them are served too, the programs are loaded here as they are there, and the one for
//! `mark_victim` is run with a number.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use anyhow::{Context, Error, Result, ensure};
use aya::programs::loaded_programs;
use hostprobe::sensor::ebpf::{
    Hook, Oom, Options, Record,
    btf::{
        KernelTypes,
        reduce::{Sections, reduce},
    },
    load::Paths,
};
use hostprobe_tests::memcg::MemoryCgroup;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use super::oom;
use crate::{bench::Bench, report::Outcome};

pub fn check() -> Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let paths = Paths { btf: folder.path().join("vmlinux"), ..Paths::default() };
    fs::write(&paths.btf, types_with_a_number()?)?;
    let others: Vec<u32> = programs()?.into_iter().map(|(id, _)| id).collect();
    let mut bench = Bench::at(Options::default(), &paths)?;
    let attached = bench.kernel.coverage().iter().any(|it| it.hook == Hook::Oom && it.attached);
    ensure!(attached, "{:?}", bench.kernel.coverage());
    let ours = programs()?.into_iter().find(|(id, _)| !others.contains(id));
    let (_, program) = ours.context("the program is not among those loaded")?;

    // What is remembered of a signal is a CPU's own: all stays on one, as in the kernel's own course.
    let before = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    one.set(sched_getcpu());
    sched_setaffinity(None, &one)?;
    let outcome = on_one_cpu(&mut bench, &program);
    sched_setaffinity(None, &before)?;
    outcome
}

fn on_one_cpu(bench: &mut Bench, program: &OwnedFd) -> Result<Outcome> {
    let cgroup = MemoryCgroup::new(oom::LIMIT)?;
    let mut hog = oom::hog()?;
    cgroup.add(hog.pid())?;
    hog.go();
    let exit = bench.wait_for_exit(hog.pid())?;
    ensure!(exit.oom_victim, "{exit:?}");
    // It has been signalled, is dead, and nobody has waited for it: its task is still there.
    let told = mark_victim(bench, program, hog.pid())?;
    let same = told.pid == Some(hog.pid()) && told.start_ns == exit.start_ns && told.comm == "allocate";
    ensure!(same && told.score_adj == oom::SCORE, "not {}: {told:?}", hog.pid());
    hog.wait()?;

    // One that is dying already is marked by itself, without a signal.
    let own = std::process::id();
    let told = mark_victim(bench, program, own)?;
    ensure!(told.pid == Some(own) && told.start_ns > 0 && told.anon_pages > 0, "not {own}: {told:?}");

    // Nobody has this number, and nobody must be taken for it.
    let told = mark_victim(bench, program, 1 << 30)?;
    ensure!((told.pid, told.start_ns, told.anon_pages) == (None, 0, 0), "not nobody: {told:?}");
    Ok(Outcome::Kept("by its signal, by being the current one, or not at all".to_owned()))
}

/// The running kernel's type information, in which `mark_victim` passes a number.
fn types_with_a_number() -> Result<Vec<u8>> {
    let whole = fs::read(Paths::default().btf)?;
    let mut types = reduce(&whole).map_err(Error::msg)?;
    let sections = Sections::find(&types).map_err(Error::msg)?;
    let places = sections.places().map_err(Error::msg)?;
    let records: Result<Vec<_>, _> = places.iter().map(|&place| sections.kind_at(place as usize)).collect();
    let records = records.map_err(Error::msg)?;
    let by_id = |id: u32| usize::try_from(id).ok().and_then(|id| records.get(id.checked_sub(1)?));
    let name = KernelTypes::prototype("mark_victim");
    let alias = records.iter().find(|it| it.name == name).context("no prototype")?;
    let prototype = by_id(alias.of).and_then(|pointer| by_id(pointer.of)).context("no prototype")?;
    // The type of the second parameter, behind the header, what all types begin with, the first parameter, and a name.
    let place = 24 + prototype.place.start + 12 + 8 + 4;
    // What is of no type is no pointer.
    types.get_mut(place..place + 4).context("no second parameter")?.fill(0);
    Ok(types)
}

/// All loaded programs for `mark_victim`, by their ids.
fn programs() -> Result<Vec<(u32, OwnedFd)>> {
    let mut found = Vec::new();
    for program in loaded_programs() {
        // One of somebody else's may go meanwhile.
        let Ok(program) = program else { continue };
        if program.name() == b"mark_victim"
            && let Ok(descriptor) = program.fd()
        {
            found.push((program.id(), descriptor.as_fd().try_clone_to_owned()?));
        }
    }
    Ok(found)
}

/// Runs the program on this CPU, as a kernel does that passes a thread id, and waits for what it tells.
fn mark_victim(bench: &mut Bench, program: &OwnedFd, tid: u32) -> Result<Oom> {
    const BPF_PROG_RUN: libc::c_int = 10;
    let arguments = [u64::from(tid)];
    // The part of `union bpf_attr` for this command, as words: `prog_fd`, `ctx_size_in` and `ctx_in` are what matters.
    let mut request = [0_u32; 20];
    request[0] = program.as_raw_fd().cast_unsigned();
    request[10] = u32::try_from(size_of_val(&arguments))?;
    let address = arguments.as_ptr().expose_provenance() as u64;
    (request[12], request[13]) = (address as u32, (address >> 32) as u32);
    // SAFETY: the request and the arguments that it points to live through the call and are as long as it says.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_RUN, request.as_mut_ptr(), size_of_val(&request)) };
    ensure!(done == 0, "the program cannot be run: {}", std::io::Error::last_os_error());
    bench.wait_for("OOM kill", |record| {
        if let Record::Oom(it) = record { Some(it.clone()).filter(|it| it.tid == tid) } else { None }
    })
}
