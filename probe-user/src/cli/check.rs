//! `hostprobe check`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use hostprobe::config::Config;

use super::{
    argument::DEFAULT_CONFIG,
    output::{BAD_CONFIG, Page, complain, complain_all, counted, print},
};

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The configuration file [default: /etc/hostprobe/hostprobe.toml]
    file: Option<PathBuf>,
    /// The same, as other commands name it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
}

/// Says whether a configuration is valid, and if not, where and why.
pub fn run(args: &Args) -> ExitCode {
    let file = args.file.as_deref().or(args.config.as_deref()).unwrap_or(Path::new(DEFAULT_CONFIG));
    match Config::load(file) {
        Ok(config) => {
            for warning in &config.warnings {
                complain(format_args!("warning: {warning}"));
            }
            for absent in config.absent(Path::new("/")) {
                complain(format_args!("warning: {}: {absent}", file.display()));
            }
            let mut page = Page::default();
            let services = counted(config.services.len() as u64, "service");
            page.line(format_args!("{}: valid, {services}", file.display()));
            print(&page)
        }
        Err(errors) => {
            complain_all(&errors);
            ExitCode::from(BAD_CONFIG)
        }
    }
}
