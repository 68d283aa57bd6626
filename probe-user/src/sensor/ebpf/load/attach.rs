//! Verifies and attaches each program by itself, and says what its records lack.

use std::thread;

use aya::{
    Ebpf,
    programs::{Program, ProgramError, RawTracePoint},
};

use crate::sensor::ebpf::{
    coverage::{Attachment, Hook},
    fields::{IS_TYPED, Resolved},
    options::Options,
};

/// Has the kernel verify the programs of the wanted hooks side by side: 102 ms instead of 160 for all. [`attach_all`]
/// tries a refused program again and reports the reason.
pub fn verify(ebpf: &mut Ebpf, wanted: impl Fn(Hook) -> bool) {
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (name, program) in ebpf.programs_mut() {
            let hook = Hook::ALL.into_iter().find(|hook| hook.tracepoint() == name);
            if let (true, Program::RawTracePoint(program)) = (hook.is_some_and(&wanted), program) {
                let verify = || program.load();
                threads.extend(thread::Builder::new().name("verify".to_owned()).spawn_scoped(scope, verify));
            }
        }
        // The end of the scope waits for the closures only, not for the exits of the threads.
        for thread in threads {
            let _ = thread.join();
        }
    });
}

/// Whether the verifier accepts the typed reads. If not, the programs read with the helper, which every kernel accepts.
/// The exit program has the most typed reads, and the signal program takes registers by the task's type: these stand for
/// all.
pub fn accepts_typed_reads(ebpf: &mut Ebpf, resolved: &Resolved, wanted: impl Fn(Hook) -> bool) -> bool {
    let is_typed = resolved.globals.get(IS_TYPED).is_some_and(|it| *it != 0);
    let mut accepts = |hook| program(ebpf, hook).and_then(loaded).is_ok();
    !is_typed || (accepts(Hook::Exit) && (!wanted(Hook::Signal) || accepts(Hook::Signal)))
}

/// Why a hook must not be tried, if so.
pub fn ruled_out(hook: Hook, options: &Options, resolved: &Resolved) -> Option<String> {
    if options.without.contains(&hook) {
        return Some("left out by --without-hook".to_owned());
    }
    resolved.unusable.get(&hook).cloned()
}

/// Attaches every hook and describes the results.
pub fn attach_all(ebpf: &mut Ebpf, options: &Options, resolved: &Resolved) -> Vec<Attachment> {
    let mut coverage: Vec<_> = Hook::ALL.into_iter().map(|it| cover(ebpf, it, options, resolved)).collect();
    add_loss_of_signals(&mut coverage);
    add_loss_of_owners(&mut coverage);
    coverage
}

/// Attaches one hook and describes the result.
fn cover(ebpf: &mut Ebpf, hook: Hook, options: &Options, resolved: &Resolved) -> Attachment {
    let reason =
        ruled_out(hook, options, resolved).or_else(|| attach(ebpf, hook).err().map(|error| explain(&error)));
    let lacking = resolved.lacking.get(&hook).cloned().unwrap_or_default();
    let absent = resolved.absent.contains(&hook) && !options.without.contains(&hook);
    Attachment { hook, attached: reason.is_none(), reason, absent, lacking }
}

/// The scope of an OOM kill needs the kernel's symbols.
pub fn add_loss_of_symbols(coverage: &mut [Attachment], reason: &str) {
    for hook in coverage.iter_mut().filter(|it| it.hook == Hook::Oom) {
        hook.lacking.push(format!("scope of OOM kills: {reason}"));
    }
}

/// Exit records get the senders of signals from another hook.
fn add_loss_of_signals(coverage: &mut [Attachment]) {
    let Some(reason) = coverage.iter().find(|it| it.hook == Hook::Signal).and_then(|it| it.reason.clone())
    else {
        return;
    };
    for hook in coverage.iter_mut().filter(|it| it.hook == Hook::Exit) {
        hook.lacking.push(format!("senders of signals: {reason}"));
    }
}

/// Retransmits get the owners of sockets from another hook. Without it nothing is counted.
fn add_loss_of_owners(coverage: &mut [Attachment]) {
    let Some(reason) = coverage.iter().find(|it| it.hook == Hook::Socket).and_then(|it| it.reason.clone())
    else {
        return;
    };
    for hook in coverage.iter_mut().filter(|it| it.hook == Hook::Retransmit) {
        hook.lacking.push(format!("owners of the segments: {reason}"));
    }
}

fn attach(ebpf: &mut Ebpf, hook: Hook) -> Result<(), ProgramError> {
    program(ebpf, hook).and_then(loaded)?.attach(hook.tracepoint())?;
    Ok(())
}

/// Loads a program that is not loaded yet.
fn loaded(program: &mut RawTracePoint) -> Result<&mut RawTracePoint, ProgramError> {
    if program.fd().is_err() {
        program.load()?;
    }
    Ok(program)
}

fn program(ebpf: &mut Ebpf, hook: Hook) -> Result<&mut RawTracePoint, ProgramError> {
    let name = hook.tracepoint();
    ebpf.program_mut(name).ok_or_else(|| ProgramError::InvalidName { name: name.to_owned() })?.try_into()
}

/// One line. Of a verifier's log only the end counts, with the refused instruction.
fn explain(error: &ProgramError) -> String {
    const LINES: usize = 4;
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let lines: Vec<_> = log.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
        let end = lines[lines.len().saturating_sub(LINES)..].join(" | ");
        return format!("the kernel refused the program: {io_error}; {end}");
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}
