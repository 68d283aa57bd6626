//! `hostprobe discover`.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use hostprobe::{
    config::Config,
    discover::{Discovered, discover, to_file, to_toml},
    host::ProcReader,
};

use super::{
    argument::DEFAULT_CONFIG,
    output::{NOT_POSSIBLE, Page, complain, complain_all, counted, print},
};

/// Exit status: there is such a file already.
const EXISTS: u8 = 1;

/// Passwords come into it sooner or later.
const MODE: u32 = 0o640;

#[derive(Debug, ClapArgs)]
#[command(after_help = "Exit status: 0 if it is printed or written, 1 if the file exists already.")]
pub struct Args {
    /// Write it to this file, with where events go and with examples of what else there is
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Replace a file that exists; the old one stays beside it, with `.old` at the end of its name
    #[arg(long, requires = "write")]
    force: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let found = ProcReader::new("/").and_then(|reader| discover(&reader, std::process::id()));
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            complain(format_args!("hostprobe: {error}"));
            return ExitCode::from(NOT_POSSIBLE);
        }
    };
    match &args.write {
        None => print(&Page::of(to_toml(&found.services).lines())),
        Some(file) => write(file, args.force, &found),
    }
}

fn write(file: &Path, force: bool, found: &Discovered) -> ExitCode {
    let shown = file.display();
    match put(file, to_file(found).as_bytes(), force) {
        Ok(None) => {}
        Ok(Some(old)) => complain(format_args!("{}: the file that was here before", old.display())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            complain(format_args!(
                "hostprobe: {shown}: exists already, and stays as it is; --force replaces it and keeps a copy"
            ));
            return ExitCode::from(EXISTS);
        }
        Err(error) => {
            complain(format_args!("hostprobe: {shown}: cannot be written: {error}"));
            return ExitCode::from(NOT_POSSIBLE);
        }
    }
    // Nothing but a fault of this program could have it refused.
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(errors) => {
            complain_all(&errors);
            return ExitCode::FAILURE;
        }
    };
    let services = counted(config.services.len() as u64, "service");
    let named = if file == Path::new(DEFAULT_CONFIG) { String::new() } else { format!(" {shown}") };
    print(&Page::of([
        format!(
            "{shown}: written, {services}; none of them is restarted until its [service.restart] says so"
        ),
        format!(
            "next: edit it, run `hostprobe check{named}`, and restart hostprobe (systemctl restart hostprobe)"
        ),
    ]))
}

/// Writes a file as a whole or not at all. An existing one stays, or with `force` is renamed; then its new name.
fn put(file: &Path, text: &[u8], force: bool) -> io::Result<Option<PathBuf>> {
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    let draft = file.with_added_extension(format!("{}.new", std::process::id()));
    let written = draft_and_link(&draft, file, text, force);
    let _ = fs::remove_file(&draft);
    written
}

fn draft_and_link(draft: &Path, file: &Path, text: &[u8], force: bool) -> io::Result<Option<PathBuf>> {
    let mut output = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(draft)?;
    output.write_all(text)?;
    output.sync_all()?;
    // Unlike a rename, a link replaces nothing.
    match fs::hard_link(draft, file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && force => {
            let old = file.with_added_extension("old");
            fs::rename(file, &old)?;
            fs::hard_link(draft, file)?;
            Ok(Some(old))
        }
        other => other.map(|()| None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_exists_is_replaced_only_by_force_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new/hostprobe.toml");
        assert_eq!(put(&file, b"one", false).unwrap(), None);
        let refused = put(&file, b"two", false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"one");
        let old = file.with_added_extension("old");
        assert_eq!(put(&file, b"two", true).unwrap(), Some(old.clone()));
        assert_eq!((fs::read(&file).unwrap(), fs::read(&old).unwrap()), (b"two".into(), b"one".into()));
        let left = fs::read_dir(file.parent().unwrap()).unwrap().count();
        assert_eq!(left, 2);
    }
}
