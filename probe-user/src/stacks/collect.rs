//! Looks at all threads of a service.

use std::{
    collections::HashMap,
    io,
    path::Path,
    rc::Rc,
    sync::mpsc::sync_channel,
    time::{Duration, Instant},
};

use super::{
    descriptor::{OpenFiles, ServiceNames},
    memory::StackMemory,
    name::Namer,
    reason::{Reason, WaitingThread},
    refusal, report, summary,
    thread_stack::{StackFrame, ThreadStack},
    tracer::{self, Registers},
    unwind::{CallStack, CodeAddress, Unwinder},
    wait,
};
use crate::{
    bounded_thread,
    fact::HangStacks,
    host::{ProcReader, call::Call, thread::Thread},
};

/// The most threads that are looked at.
const THREADS_MAX: usize = 64;

/// The longest time in which threads are stopped, one after the other.
const TRACE: Duration = Duration::from_millis(500);

/// The pieces of a stack that are copied while its thread stands still: 64 KiB.
const COPIED: u64 = 16;

/// What was found.
#[derive(Debug, Default)]
pub struct Collected {
    pub stacks: HangStacks,
    /// The whole stacks, for the snapshot.
    pub lines: Vec<String>,
}

/// A thread and what was found of it so far.
struct Found {
    thread: Thread,
    channel: Option<String>,
    call: Option<Call>,
    reason: Reason,
    calls: CallStack,
    kernel: Vec<String>,
    /// The process that traces it.
    tracer: Option<u32>,
}

/// Looks at the threads of these processes, until a time. `host` is the root folder of the host.
pub fn collect(
    reader: &ProcReader,
    host: &Path,
    pids: &[u32],
    services: &ServiceNames,
    until: Instant,
) -> Collected {
    let files = OpenFiles::new(reader, services);
    let (mut threads, mut missing, mut all) = (Vec::new(), Vec::new(), 0);
    let mut unwinders: HashMap<u32, Unwinder> = HashMap::new();
    for &pid in pids.iter().filter(|pid| **pid != std::process::id()) {
        if Instant::now() >= until {
            missing.push("time was up before all processes were looked at".to_owned());
            break;
        }
        let (found, number) = reader.threads(pid, THREADS_MAX.saturating_sub(threads.len()));
        all += number;
        let mappings = reader.code_mappings(pid);
        if mappings.is_empty() && number > 0 {
            missing.push(format!("process {pid}: its memory map cannot be read, so its calls are unknown"));
        }
        let unwinder = unwinders.entry(pid);
        let unwinder = unwinder.or_insert_with(|| Unwinder::of_process(reader.folder(pid), mappings));
        let tids: Vec<u32> = found.iter().map(|thread| thread.tid).collect();
        threads.extend(found.into_iter().map(|thread| look(reader, thread, &tids, &files, unwinder, until)));
    }
    trace_the_rest(reader, &mut threads, &mut unwinders, &mut missing, until);
    let mut namer = Namer::new(host);
    let named = threads.into_iter().map(|it| named(it, &unwinders, &mut namer, until)).collect::<Vec<_>>();
    missing.extend(unwinders.values().flat_map(Unwinder::unread));
    let stacks = summary::summarize(&named, all, missing.clone());
    let lines = report::lines(&stacks.summary, &named, &missing);
    Collected { stacks, lines }
}

/// What `/proc` says of a thread, which goes on meanwhile.
fn look(
    reader: &ProcReader,
    thread: Thread,
    tids: &[u32],
    files: &OpenFiles<'_>,
    unwinder: &mut Unwinder,
    until: Instant,
) -> Found {
    let (pid, tid, state) = (thread.pid, thread.tid, thread.state);
    let channel = reader.wait_channel(pid, tid);
    let call = reader.call(pid, tid);
    let waiting = WaitingThread { pid, tid, state, channel: channel.as_deref(), call, tids };
    let reason = wait::of(&waiting, files);
    let mut calls = CallStack::default();
    if let Some(position) = call.and_then(|call| call.position())
        && let Ok(of) = i32::try_from(pid)
    {
        calls = unwinder.calls_at(position, &mut StackMemory::new(of), until);
        // A thread that went on meanwhile has changed its stack.
        calls.is_complete &= reader.call(pid, tid) == Some(call.unwrap_or(Call::Running));
    }
    let kernel = reader.task_text(pid, tid, "stack").unwrap_or_default();
    let kernel = kernel.lines().map(|line| line.trim_start_matches("[<0>] ").to_owned()).collect();
    let tracer = reader.tracer_of(pid, tid);
    Found { thread, channel, call, reason, calls, kernel, tracer }
}

/// Stops those threads for a moment whose calls are not known yet.
fn trace_the_rest(
    reader: &ProcReader,
    threads: &mut [Found],
    unwinders: &mut HashMap<u32, Unwinder>,
    missing: &mut Vec<String>,
    until: Instant,
) {
    let pids: HashMap<i32, i32> = threads.iter().filter(|it| may_be_stopped(it)).filter_map(ids).collect();
    let traced = threads.iter().find_map(|it| Some((it.thread.pid, it.tracer?)));
    if let Some((pid, tracer)) = traced {
        missing.push(format!("process {pid}: thread {tracer} traces it, so its threads are not stopped"));
    }
    if pids.is_empty() {
        return;
    }
    let mut tids: Vec<i32> = pids.keys().copied().collect();
    tids.sort_unstable();
    let end = until.min(Instant::now() + TRACE);
    let (sender, outcome) = sync_channel(1);
    // The thread ends with the work, which releases what it has seized. There is no limit to the wait for it: one that the
    // kernel holds must not be followed by another one.
    let started = bounded_thread::start("stack-tracer", move || {
        let mut stopped: Vec<(i32, Registers, StackMemory)> = Vec::new();
        let refused = tracer::trace(&tids, end, |tid, registers| {
            let mut memory = StackMemory::new(pids.get(&tid).copied().unwrap_or(tid));
            memory.copy_above(registers.stack_pointer, COPIED);
            stopped.push((tid, registers, memory));
        });
        let _ = sender.send((stopped, refused));
    });
    match started.map(|()| outcome.recv()) {
        Ok(Ok((stopped, refused))) => {
            missing.extend(refusals(reader, &refused));
            for (tid, registers, mut memory) in stopped {
                let found = threads.iter_mut().find(|it| i32::try_from(it.thread.tid) == Ok(tid));
                let Some(found) = found else { continue };
                let Some(unwinder) = unwinders.get_mut(&found.thread.pid) else { continue };
                let calls = unwinder.calls(&registers, &mut memory, until);
                if calls.is_complete || calls.places.len() >= found.calls.places.len() {
                    found.calls = calls;
                }
            }
        }
        Ok(Err(_)) => missing.push("threads could not be stopped: the tracing thread ended early".to_owned()),
        Err(error) => missing.push(format!("threads could not be stopped: {error}")),
    }
}

fn ids(found: &Found) -> Option<(i32, i32)> {
    Some((i32::try_from(found.thread.tid).ok()?, i32::try_from(found.thread.pid).ok()?))
}

/// Whether a stop tells more of a thread, and does not disturb it.
fn may_be_stopped(found: &Found) -> bool {
    let is_alive = !['D', 'Z', 'X', 't'].contains(&found.thread.state);
    let is_undisturbed = !wait::ends_if_stopped(found.call, found.channel.as_deref());
    is_alive && is_undisturbed && found.tracer.is_none() && !found.calls.is_complete
}

/// A sentence for each error that threads were refused with.
fn refusals(reader: &ProcReader, refused: &[(i32, io::Error)]) -> Vec<String> {
    let mut by_error: HashMap<Option<i32>, (usize, &io::Error)> = HashMap::new();
    for (_, error) in refused {
        // It has ended.
        if error.raw_os_error() != Some(libc::ESRCH) {
            by_error.entry(error.raw_os_error()).or_insert((0, error)).0 += 1;
        }
    }
    by_error.into_values().map(|(threads, error)| refusal::sentence(reader, threads, error)).collect()
}

fn named(
    found: Found,
    unwinders: &HashMap<u32, Unwinder>,
    namer: &mut Namer<'_>,
    until: Instant,
) -> ThreadStack {
    let Found { thread, channel, reason, calls, kernel, .. } = found;
    let unwinder = unwinders.get(&thread.pid);
    let mut frame = |at: &CodeAddress| unwinder.map(|unwinder| frame(unwinder, at, namer, until));
    let frames = calls.places.iter().filter_map(&mut frame).collect();
    let (pid, tid, name, state) = (thread.pid, thread.tid, thread.name, thread.state);
    ThreadStack { pid, tid, name, state, reason, frames, kernel, channel, is_complete: calls.is_complete }
}

fn frame(unwinder: &Unwinder, at: &CodeAddress, namer: &mut Namer<'_>, until: Instant) -> StackFrame {
    let file = at.mapping.map(|index| unwinder.mappings[index].file_name().to_owned()).unwrap_or_default();
    match unwinder.image_of(at) {
        Some((image, address)) => {
            let in_time = Instant::now() < until;
            let function = if in_time { namer.function(&Rc::clone(&image), address) } else { None };
            StackFrame { function, file, address }
        }
        None => StackFrame { function: None, file, address: at.address },
    }
}
