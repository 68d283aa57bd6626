//! `cargo xtask dist`: makes what a release consists of: packages, static programs, a container image, and what describes
//! them.

mod archive;
pub mod build;
mod deb;
mod headers;
mod image;
pub mod machine;
mod manual;
mod release;
mod rpm;
mod sbom;
mod sums;
mod tree;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};

use self::{
    machine::Machine,
    release::Release,
    tree::{Kind, Tree},
};
use crate::{cargo::root, test::packages};

/// What every part is made with: archives in a fixed order, packages of the two families.
const TOOLS: [&str; 7] = ["binutils", "ca-certificates", "dpkg", "gzip", "musl-tools", "rpm", "tar"];

#[derive(clap::Args)]
pub struct Arguments {
    /// A machine to build for; may be repeated [default: both]
    #[arg(long = "machine", value_enum)]
    machines: Vec<Machine>,
    /// `dev` builds faster, for tests; what is published is `release`
    #[arg(long, default_value = "release", value_parser = ["release", "dev"])]
    profile: String,
    /// Package this program instead of building one; it takes exactly one --machine, and should be static
    #[arg(long)]
    program: Option<PathBuf>,
    /// The version that the packages have [default: that of the workspace]
    #[arg(long)]
    version: Option<String>,
    /// Compress little, for tests
    #[arg(long)]
    quick: bool,
    /// Where the files go
    #[arg(long, default_value = "target/dist")]
    output: PathBuf,
}

/// Makes everything, and prints the files.
pub fn dist(arguments: &Arguments) -> Result<ExitCode> {
    let machines = if arguments.machines.is_empty() { &Machine::ALL[..] } else { &arguments.machines };
    ensure!(arguments.program.is_none() || machines.len() == 1, "--program takes exactly one --machine");
    let compilers = machines.iter().flat_map(|machine| machine.compilers().iter().copied());
    let missing = packages::provide(&TOOLS.into_iter().chain(compilers).collect::<Vec<_>>())?;
    ensure!(missing.is_empty(), "packages {}: missing; install them", missing.join(", "));

    let given = arguments.program.as_ref().map(|program| root().join(program));
    ensure!(
        given.is_none_or(|program| !program.starts_with(root().join(&arguments.output))),
        "--program is in the folder of --output, which is emptied first"
    );
    let release =
        Release::new(root().join(&arguments.output), arguments.version.as_deref(), arguments.quick)?;
    let mut programs = Vec::new();
    for machine in machines {
        let built = match &arguments.program {
            Some(program) => program.clone(),
            None => build::program(*machine, &arguments.profile)?,
        };
        programs.push(release.program(*machine, &built)?);
    }
    let manual = manual::write(&programs, &release.scratch)?;
    for program in &programs {
        let described = sbom::write(&release, program.machine)?;
        for kind in Kind::ALL {
            let tree = Tree { kind, release: &release, program, manual: &manual, sbom: &described };
            let staged = tree.stage()?;
            match kind {
                Kind::Deb => deb::build(&release, program.machine, &staged)?,
                Kind::Rpm => rpm::build(&release, program.machine, &staged)?,
                Kind::Tar => archive::release_tar(&release, program.machine, &staged)?,
            }
        }
    }
    image::build(&release, &programs)?;
    fs::remove_dir_all(&release.scratch)?;
    sums::write(&release.folder)?;
    let sums = fs::read_to_string(release.folder.join(sums::FILE))?;
    print!("{sums}");
    eprintln!("{}: complete", release.folder.display());
    Ok(ExitCode::SUCCESS)
}
