//! `cargo xtask fuzz`: runs the fuzzers in `fuzz/`.
//!
//! A fuzzer makes up inputs, watches which code each of them reaches, and keeps those that reach more. `cargo fuzz`
//! builds them; this program runs them itself, several at a time, and adds up what they print.

mod run;
mod table;
mod tools;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use self::run::Outcome;
use crate::{
    cargo::{self, root},
    nightly::{self, run as run_command},
};

/// Exit status without the tools: the fuzzers say nothing then.
const NOT_RUN: u8 = 4;

/// AddressSanitizer finds reads and writes out of bounds in `unsafe` code, of which the libraries have some, and it lets
/// the fuzzer bound a single allocation. It works with all that the daemon uses, and takes half the speed.
const SANITIZER: &str = "address";

/// Parts that a crate is compiled in: as one, which is cargo-fuzz's default, the largest takes 8 GB and ten minutes.
const UNITS: &str = "16";

#[derive(clap::Args)]
pub struct Arguments {
    /// How long to run each of them
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Build without optimisation and without AddressSanitizer: in minutes, for a short run. It bounds no single allocation
    #[arg(long)]
    dev: bool,
    /// The fuzzers to run, by the names of their files in fuzz/src/targets; all of them if none is named
    targets: Vec<String>,
}

pub fn fuzz(arguments: &Arguments) -> Result<ExitCode> {
    let targets = chosen(&arguments.targets)?;
    if let Err(error) = tools::ensure() {
        eprintln!("fuzz: NOT run, as a tool is missing: {error:#}");
        return Ok(ExitCode::from(NOT_RUN));
    }
    let (sanitizer, profile, folder) = match arguments.dev {
        true => ("none", "--dev", "debug"),
        false => (SANITIZER, "--release", "release"),
    };
    let build = ["cargo", "fuzz", "build", "--sanitizer", sanitizer, "--codegen-units", UNITS, profile];
    run_command(&mut nightly::command(&build))?;
    let program = program(folder)?;
    let todo = Mutex::new(targets.iter());
    let outcomes = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(target) = next else { return Ok(()) };
            eprintln!("{target}: runs for {} s", arguments.seconds);
            let outcome = run::run(target, &program, arguments.seconds)?;
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from).min(targets.len());
        let started: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        started
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(report(&outcomes))
}

/// Checks that the fuzzers compile: they are a workspace of their own.
pub fn check() -> Result<()> {
    tools::ensure_compiler()?;
    let words = ["clippy", "--manifest-path", "fuzz/Cargo.toml", "--all-targets", "--", "-D", "warnings"];
    cargo::run(cargo::command(&words).env("RUSTFLAGS", "--cfg fuzzing"))
}

fn report(outcomes: &[Outcome]) -> ExitCode {
    println!("{}", table::of(outcomes));
    let mut status = ExitCode::SUCCESS;
    for outcome in outcomes {
        let Some(finding) = &outcome.finding else { continue };
        status = ExitCode::FAILURE;
        let command = format!("{}={} {}", run::CHOICE, outcome.target, outcome.program.display());
        println!("\n{}: found something; its last words:\n{}", outcome.target, finding.words);
        match &finding.input {
            Some(input) => {
                println!("the input is {input}; to repeat it:\n  {command} {input}");
            }
            None => println!("it left no input; to repeat it:\n  {command}"),
        }
    }
    status
}

/// The fuzzers of these names, or all.
fn chosen(names: &[String]) -> Result<Vec<String>> {
    let folder = root().join("fuzz/src/targets");
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        all.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    all.sort();
    let unknown = names.iter().find(|name| !all.contains(name));
    if let Some(unknown) = unknown {
        bail!("{unknown}: no such fuzzer; there are {}", all.join(", "));
    }
    Ok(if names.is_empty() { all } else { names.to_vec() })
}

/// The program with all fuzzers, where cargo-fuzz leaves it.
fn program(folder: &str) -> Result<PathBuf> {
    let version = nightly::output(&mut nightly::command(&["rustc", "-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let program = root().join("fuzz/target").join(host).join(folder).join("fuzzers");
    ensure!(program.is_file(), "{}: the build did not make it", program.display());
    Ok(program)
}
