//! `cargo xtask vm`: the checks of `tests/src/bin/conformance` in several kernels, and one table of what they say.

mod debian;
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

/// Machines that run at a time. Each has two processors, and most of the time waits for something.
const AT_A_TIME: usize = 2;

/// What follows `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which of 5.10, 6.1, 6.12, 7.2 and host; all, if none is named
    #[arg(value_name = "KERNEL")]
    kernels: Vec<String>,
    /// Look for newer packages of the kernels, instead of using those that were fetched before
    #[arg(long)]
    refresh: bool,
    /// Keep the type information of each kernel for the unit tests, reduced to what is looked up in it
    #[arg(long)]
    record: bool,
}

/// Runs the checks and prints the table. One of all kernels that is good becomes the page of the documentation.
pub fn vm(arguments: &Arguments) -> Result<ExitCode> {
    let known = || DEBIAN.iter().map(|it| it.name).chain([HOST]);
    if let Some(unknown) = arguments.kernels.iter().find(|it| !known().any(|known| known == *it)) {
        bail!("no kernel {unknown}; there are {}", known().collect::<Vec<_>>().join(", "));
    }
    let all = arguments.kernels.is_empty();
    let wanted: Vec<_> =
        known().filter(|known| all || arguments.kernels.iter().any(|it| it == known)).collect();

    let missing = packages::provide(&["qemu-system-x86"])?;
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
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some((kernel, image)) = next() {
                    let run = match image {
                        Some(image) => {
                            machine::run(&image, &initramfs, &scratch.join(kernel), arguments.record)
                        }
                        None => guest::run_here(&program, arguments.record),
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
    println!("{table}");
    for column in &columns {
        if let Some(doctor) = &column.doctor {
            println!("What `hostprobe doctor` says in {}:\n\n{doctor}", column.release());
        }
    }
    // What is not as promised is not documented as if it were.
    if all && table.is_good() {
        let page = root().join("docs/kernels.md");
        fs::write(&page, table.page()).with_context(|| format!("cannot write {}", page.display()))?;
    }
    if arguments.record {
        for column in &columns {
            recording::keep(column)?;
        }
    }
    Ok(if table.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
