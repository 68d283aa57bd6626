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
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use self::{
    debian::DEBIAN,
    results::{HOST, Results},
};
use crate::{cargo::root, test::packages};

/// Machines that run at a time. Each has two processors and mostly waits.
const PARALLEL: usize = 2;

#[derive(clap::Args)]
pub struct Arguments {
    /// 5.10, 6.1, 6.12, 7.2 or host; all, if none is named
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Fetch the newest packages of the kernels, even if earlier ones are in the cache
    #[arg(long)]
    refresh: bool,
    /// Record the type information of each kernel for the unit tests, reduced to what the daemon looks up
    #[arg(long)]
    record: bool,
}

/// Runs the checks and prints the table. A table of all kernels without a failure becomes `docs/kernels.md`.
pub fn vm(arguments: &Arguments) -> Result<ExitCode> {
    let available = || DEBIAN.iter().map(|it| it.name).chain([HOST]);
    if let Some(unknown) = arguments.kernels.iter().find(|it| !available().any(|name| name == *it)) {
        bail!("unknown kernel {unknown}; name one of {}", available().collect::<Vec<_>>().join(", "));
    }
    let all = arguments.kernels.is_empty();
    let wanted: Vec<_> =
        available().filter(|name| all || arguments.kernels.iter().any(|it| it == name)).collect();

    let missing = packages::provide(&["qemu-system-x86", "e2fsprogs"])?;
    ensure!(missing.is_empty(), "missing packages: {}; install them", missing.join(" "));
    let program = guest::build()?;
    let scratch = root().join("target/vm");
    let initramfs = guest::initramfs(&program, &scratch)?;
    let mut jobs = VecDeque::new();
    for kernel in &wanted {
        let image = DEBIAN.iter().find(|it| it.name == *kernel).map(|it| it.image(arguments.refresh));
        jobs.push_back((*kernel, image.transpose()?));
    }

    let (jobs, done) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some((kernel, image)) = next() {
                    let run = match image {
                        Some(image) => {
                            machine::run(&image, &initramfs, &scratch.join(kernel), arguments.record)
                        }
                        None => guest::run_on_host(&program, arguments.record),
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
    // A failed run must not replace the page.
    if all && table.passed() {
        let page = root().join("docs/kernels.md");
        fs::write(&page, table.page()).with_context(|| format!("cannot write {}", page.display()))?;
    }
    if arguments.record {
        for column in &columns {
            recording::write(column)?;
        }
    }
    Ok(if table.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
