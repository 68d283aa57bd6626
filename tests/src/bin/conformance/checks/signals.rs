//! The sender of a signal.

use anyhow::{Context, Result, ensure};
use hostprobe::{
    clock::Timestamp,
    fact::ProcessKey,
    sensor::record::{CrashMemory, CrashStack, ReceivedSignal, Record, Signal as SentSignal, StackFrame},
};
use rustix::process::Signal;

use crate::{check::FixtureCheck, fixture::Fixture, report::Outcome, workload::Workload};

pub const CHECKS: &[FixtureCheck] = &[
    ("sender of a fatal signal", fatal),
    ("SIGSTOP and its sender", stop),
    ("a request to end, before the end", request_to_end),
    ("SIGSEGV, before its core dump", core_dump),
    ("SIGSEGV, where it happened", crash_site),
    ("SIGSEGV, memory of its stack", crash_memory),
];

/// A user id that is neither root nor likely to be in use.
const UID: u32 = 44_203;

fn fatal(fixture: &mut Fixture) -> Result<Outcome> {
    let mut victim = Workload::start_as(UID, &["exit", "0"])?;
    let mut sender = Workload::start_as(UID, &["kill", &victim.pid().to_string(), "15"])?;
    sender.release();
    ensure!(sender.wait()? == 0, "the signal could not be sent");
    let exit = fixture.wait_for_exit(victim.pid())?;
    ensure!(exit.status.0 == Some(victim.wait()?) && exit.uid == UID, "{exit:?}");
    let signal = exit.signal.context("no signal")?;
    ensure!(signal.number == 15 && signal.at_ns <= exit.at_ns, "{signal:?}");
    by(&signal, sender.pid(), UID, "kill")?;
    Ok(Outcome::Passed(format!(
        "signal {}, code {}, its pid, uid {UID}, comm kill",
        signal.number, signal.code
    )))
}

fn stop(fixture: &mut Fixture) -> Result<Outcome> {
    let mut victim = Workload::start(&["exit", "3"])?;
    fixture.sensor.watch_process(victim.pid(), 1)?;
    let mut sender = Workload::start(&["kill", &victim.pid().to_string(), "19"])?;
    sender.release();
    ensure!(sender.wait()? == 0, "the signal could not be sent");
    let stop = wait_for_stop(fixture, victim.pid())?;
    ensure!(stop.signal.number == 19, "{stop:?}");
    by(&stop.signal, sender.pid(), 0, "kill")?;
    victim.signal(Signal::CONT)?;
    victim.release();
    // The stop neither ended it nor counts as the signal of its exit.
    let exit = fixture.wait_for_exit(victim.pid())?;
    ensure!(
        exit.status.code() == Some(3) && exit.start_ns == stop.start_ns && exit.signal.is_none(),
        "{exit:?}"
    );
    Ok(Outcome::Passed(format!("signal {}, code {}, its pid, uid 0, comm kill", 19, stop.signal.code)))
}

/// A process that is stopped has its SIGTERM pending.
fn request_to_end(fixture: &mut Fixture) -> Result<Outcome> {
    let mut victim = Workload::start(&["exit", "0"])?;
    fixture.sensor.watch_process(victim.pid(), 1)?;
    victim.signal(Signal::STOP)?;
    let stop = wait_for_stop(fixture, victim.pid())?;
    let process = ProcessKey::new(victim.pid(), Timestamp::from_nanos(stop.start_ns));
    let before = fixture.sensor.request_to_end(process);
    ensure!(before.is_none(), "nobody has asked it: {before:?}");
    victim.signal(Signal::TERM)?;
    let asked = fixture.sensor.request_to_end(process).context("no request")?;
    ensure!(asked >= Timestamp::from_nanos(stop.at_ns), "it was asked before it was stopped");
    victim.signal(Signal::CONT)?;
    let exit = fixture.wait_for_exit(victim.pid())?;
    ensure!(exit.status.0 == Some(victim.wait()?) && exit.status.signal() == Some(15), "{exit:?}");
    Ok(Outcome::Passed("signal 15, while it is pending".to_owned()))
}

fn core_dump(fixture: &mut Fixture) -> Result<Outcome> {
    let mut victim = Workload::start(&["segv"])?;
    fixture.sensor.watch_process(victim.pid(), 1)?;
    victim.release();
    let received = fixture.wait_for("core signal", |record| {
        if let Record::CoreSignal(it, _) = record {
            Some(it.clone()).filter(|it| it.pid == victim.pid())
        } else {
            None
        }
    })?;
    let exit = fixture.wait_for_exit(victim.pid())?;
    ensure!(received.signal.number == 11 && received.signal.sender.is_none(), "{received:?}");
    ensure!(exit.start_ns == received.start_ns && exit.signal.as_ref() == Some(&received.signal), "{exit:?}");
    Ok(Outcome::Passed("signal 11, from the kernel, before the exit".to_owned()))
}

/// The first frame is the exact instruction, in the file of this program or at an address of it.
fn crash_site(fixture: &mut Fixture) -> Result<Outcome> {
    let (stack, _) = crash(fixture)?;
    let first = stack.frames.first().with_context(|| format!("no stack: {stack:?}"))?;
    match first {
        StackFrame::File { build_id, offset } => {
            ensure!(build_id.iter().any(|byte| *byte != 0) && *offset > 0, "{stack:?}");
        }
        StackFrame::Address(address) => {
            // Kernels before 5.15 do not hand out the registers.
            let instruction = stack.registers.map(|registers| registers.instruction);
            ensure!(instruction.is_none_or(|it| it == *address) && *address > 0, "{stack:?}");
        }
    }
    ensure!(stack.address == 8, "the process writes to address 8: {stack:?}");
    ensure!(!cfg!(target_arch = "x86_64") || stack.trap == 14, "no page fault: {stack:?}");
    Ok(Outcome::Passed("the instruction, a page fault at address 8".to_owned()))
}

/// The main thread's stack ends with its arguments and its environment.
fn crash_memory(fixture: &mut Fixture) -> Result<Outcome> {
    let (stack, memory) = crash(fixture)?;
    let Some(registers) = stack.registers else {
        return Ok(Outcome::Absent("this kernel does not hand out the registers".to_owned()));
    };
    let memory = memory.context("no memory of the stack before the crash")?;
    let copied = memory.stack.registers;
    ensure!(copied.stack_pointer == registers.stack_pointer, "{stack:?} {memory:?}");
    ensure!(copied.program_counter == registers.instruction && copied.frame_pointer > 0, "{memory:?}");
    ensure!(memory.stack.bytes.len() >= 1024, "{memory:?}");
    Ok(Outcome::Passed("the registers, and 1 KiB or more above the stack pointer".to_owned()))
}

/// Has a process crash. Returns its stack and, if it came before it, the memory of that.
fn crash(fixture: &mut Fixture) -> Result<(CrashStack, Option<CrashMemory>)> {
    let mut victim = Workload::start(&["segv"])?;
    fixture.sensor.watch_process(victim.pid(), 1)?;
    victim.release();
    let mut memory = None;
    let stack = fixture.wait_for("crash", |record| {
        if let Record::CrashMemory(it) = record
            && it.pid == victim.pid()
        {
            memory = Some((**it).clone());
        }
        if let Record::CoreSignal(it, stack) = record {
            stack.clone().filter(|_| it.pid == victim.pid())
        } else {
            None
        }
    })?;
    fixture.wait_for_exit(victim.pid())?;
    Ok((*stack, memory))
}

fn wait_for_stop(fixture: &mut Fixture, pid: u32) -> Result<ReceivedSignal> {
    fixture.wait_for("stop", |record| {
        if let Record::Stop(it) = record { Some(it.clone()).filter(|it| it.pid == pid) } else { None }
    })
}

fn by(signal: &SentSignal, pid: u32, uid: u32, comm: &str) -> Result<()> {
    let sender = signal.sender.as_ref().context("no sender")?;
    let right = sender.pid == pid && sender.uid == uid && sender.comm == comm && sender.start_ns > 0;
    ensure!(right, "not pid {pid}, uid {uid}, {comm}: {sender:?}");
    Ok(())
}
