//! `cargo xtask vm`: runs the checks of `tests/src/bin/conformance` in several kernels and prints one table of the results.

mod debian;
mod disks;
mod guest;
mod machine;
mod recording;
mod results;
mod table;

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use self::{
    debian::DEBIAN,
    results::{HOST, Results},
};
use crate::{cargo::root, dist::machine::Machine, test::packages};

/// Machines that run at a time. Each has two processors and mostly waits.
const PARALLEL: usize = 2;

#[derive(clap::Args)]
pub struct Arguments {
    /// 5.10, 6.1, 6.12, 7.2, host or arm64; all but arm64, if none is named
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Fetch the newest packages of the kernels, even if earlier ones are in the cache
    #[arg(long)]
    refresh: bool,
    /// Record the type information of each kernel for the unit tests, reduced to what the daemon looks up
    #[arg(long)]
    record: bool,
}

/// What runs in the machines of a kind.
struct Guest {
    program: PathBuf,
    initramfs: PathBuf,
}

impl Guest {
    fn new(machine: Machine, scratch: &Path) -> Result<Self> {
        let mut wanted = vec![machine::emulator(machine), "e2fsprogs"];
        if !machine.is_here() {
            wanted.extend(machine.compilers());
        }
        let missing = packages::provide(&wanted)?;
        ensure!(missing.is_empty(), "missing packages: {}; install them", missing.join(" "));
        let program = guest::build(machine)?;
        let initramfs = guest::initramfs(&program, machine, scratch)?;
        Ok(Self { program, initramfs })
    }
}

/// Runs the checks and prints the table. A table without a failure becomes `docs/kernels.md`, or
/// `docs/kernels-arm64.md`, if it is of all kernels of such a page.
pub fn vm(arguments: &Arguments) -> Result<ExitCode> {
    let available = || DEBIAN.iter().map(|it| it.name).chain([HOST]);
    if let Some(unknown) = arguments.kernels.iter().find(|it| !available().any(|name| name == *it)) {
        bail!("unknown kernel {unknown}; name one of {}", available().collect::<Vec<_>>().join(", "));
    }
    let all = arguments.kernels.is_empty();
    let kernel_of = |name: &str| DEBIAN.iter().find(|it| it.name == name);
    let is_usual = |name: &str| kernel_of(name).is_none_or(|it| it.machine == Machine::X86_64);
    let is_named = |name: &str| arguments.kernels.iter().any(|it| it == name);
    let wanted: Vec<_> = available().filter(|name| is_named(name) || (all && is_usual(name))).collect();
    ensure!(
        !arguments.record || wanted.iter().all(|name| is_usual(name)),
        "--record: the unit tests have the type information of x86_64 alone; name no other machine"
    );

    let scratch = root().join("target/vm");
    let mut guests = Vec::new();
    let mut jobs = VecDeque::new();
    for name in &wanted {
        let kernel = kernel_of(name);
        let here =
            Machine::ALL.into_iter().find(|it| it.is_here()).context("an unknown kind of processor")?;
        let machine = kernel.map_or(here, |it| it.machine);
        if !guests.iter().any(|(of, _): &(Machine, Guest)| *of == machine) {
            guests.push((machine, Guest::new(machine, &scratch)?));
        }
        let image = kernel.map(|it| it.image(arguments.refresh)).transpose()?;
        jobs.push_back((*name, machine, image));
    }
    let guest = |machine| guests.iter().find(|(of, _)| *of == machine).map(|(_, guest)| guest);

    let (jobs, done) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some((kernel, machine, image)) = next() {
                    let Some(guest) = guest(machine) else { continue };
                    let run = match image {
                        Some(image) => {
                            let folder = scratch.join(kernel);
                            machine::run(machine, &image, &guest.initramfs, &folder, arguments.record)
                        }
                        None => guest::run_on_host(&guest.program, arguments.record),
                    };
                    let results = Results::of(kernel, run);
                    eprintln!("{results}");
                    done.lock().unwrap_or_else(PoisonError::into_inner).push(results);
                }
            });
        }
    });
    let mut columns = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    columns.sort_by_key(|it| debian::order(it.release()));

    let table = table::Table::of(&columns);
    for column in &columns {
        if let Some(doctor) = &column.doctor {
            println!("`hostprobe doctor` in {}:\n\n{doctor}", column.release());
        }
    }
    // What failed is at its end, where people look first.
    println!("{table}");
    let page = match wanted[..] {
        _ if all => Some(table::USUAL),
        ["arm64"] => Some(table::ARM64),
        _ => None,
    };
    // A failed run must not replace the page.
    if let Some(page) = page.filter(|_| table.passed()) {
        let path = root().join(page.file);
        fs::write(&path, table.page(&page)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if arguments.record {
        for column in &columns {
            recording::write(column)?;
        }
    }
    Ok(if table.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
