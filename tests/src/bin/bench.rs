//! Measures what hostprobe costs and how fast it is, beside what a user would run instead.
//!
//! `bench [--quick] [SECTION…]`, all sections unless some are named. Writes what it measured into `docs/` and the README of
//! the project, with `--quick` only to standard output. Exit status: 0 if all was measured, whether or not the targets
//! were met, 1 if a section could not be, 3 if a part is missing.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use hostprobe_tests::{
    bench::{
        TASKS, Task,
        page::{Machine, Record},
        section::{Effort, Section},
    },
    parts::require_root,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, names): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|word| word.starts_with('-'));
    let unknown = |name: &&&String| TASKS.iter().all(|task| task.name != ***name);
    if options.iter().any(|option| *option != "--quick") || names.iter().any(|name| unknown(&name)) {
        let known: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
        eprintln!("usage: bench [--quick] [SECTION…]; sections: {}", known.join(" "));
        return ExitCode::from(2);
    }
    if !require_root() {
        return ExitCode::from(3);
    }
    let effort = if options.is_empty() { Effort::Full } else { Effort::Quick };
    let chosen = TASKS.iter().filter(|task| names.is_empty() || names.iter().any(|name| *name == task.name));
    let (mut sections, mut failed) = (Vec::new(), false);
    for task in chosen {
        eprintln!("measuring {}", task.name);
        match measure(task, effort) {
            Ok(section) => sections.push(section),
            Err(error) => {
                eprintln!("error: {} could not be measured: {error:#}", task.name);
                failed = true;
            }
        }
    }
    if let Err(error) = report(sections, effort) {
        eprintln!("error: {error:#}");
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Measures one section. The harness of the tests panics where a part fails; here that is this section's end alone.
fn measure(task: &Task, effort: Effort) -> Result<Section> {
    std::panic::catch_unwind(|| (task.measure)(effort))
        .unwrap_or_else(|_| Err(anyhow::anyhow!("a part failed, as said above")))
}

fn report(sections: Vec<Section>, effort: Effort) -> Result<()> {
    if effort == Effort::Quick {
        let record = Record { machine: Machine::this()?, sections };
        print!("{}", record.page());
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default();
    let names: Vec<String> = sections.iter().map(|section| section.name.clone()).collect();
    let record = Record::merged(&root.join("docs"), sections)?;
    record.write(&root.join("docs"), &root.join("README.md"))?;
    print!("{}", record.table());
    eprintln!("measured {}; written to docs/numbers.md", names.join(" "));
    Ok(())
}
