//! The manual pages, one a command. `cargo xtask dist` puts them into the packages.

use std::{fs, io, path::Path, process::ExitCode};

use clap::Command;
use clap_mangen::Man;

use super::output::complain;

/// Commands of an administrator (`man-pages(7)`).
const SECTION: &str = "8";

/// Writes the pages of a command and of all below it.
pub fn write(command: &Command, folder: &Path) -> ExitCode {
    let mut command = command.clone().disable_help_subcommand(true);
    // It gives each command its whole name, such as `hostprobe alert test`.
    command.build();
    match write_all(&command, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("hostprobe: {}: cannot write the manual pages: {error}", folder.display()));
            ExitCode::FAILURE
        }
    }
}

fn write_all(command: &Command, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = Vec::new();
    Man::new(command.clone()).section(SECTION).render(&mut page)?;
    fs::write(folder.join(format!("{name}.{SECTION}")), page)?;
    command.get_subcommands().try_for_each(|command| write_all(command, folder))
}
