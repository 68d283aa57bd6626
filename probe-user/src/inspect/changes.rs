//! What was changed of a service, or of the host's packages, before its fault.
//!
//! A fault that comes soon after a change is most often its work. The time of a change is that of the inode (`ctime`): a
//! package brings files whose own times are those of their build.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    clock::Timestamp,
    config::{Identity, Service},
    fact::Process,
};

/// How long before a fault a change is worth a look.
const BEFORE: Duration = Duration::from_secs(1800);

/// What the executable of the main process is called.
const PROGRAM: &str = "its program";

/// How the kernel names an executable that was replaced while it ran (`d_path`, fs/d_path.c).
const REPLACED: &str = " (deleted)";

/// The most changes that are named.
const NAMED: usize = 4;

/// The most files of a folder that are looked at, with those of the folders in it.
const FILES: usize = 256;

/// Where systemd reads units from, as far as people and packages write there (`systemd.unit(5)`).
const UNIT_FOLDERS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// What each package manager writes to with every change of the host's packages.
const PACKAGES: [(&str, &str); 4] = [
    ("dpkg", "/var/lib/dpkg/status"),
    ("rpm", "/usr/lib/sysimage/rpm/rpmdb.sqlite"),
    ("rpm", "/var/lib/rpm/rpmdb.sqlite"),
    ("apk", "/lib/apk/db/installed"),
];

/// Where services keep what they write themselves.
const WRITTEN: [&str; 5] = ["/var/", "/run/", "/dev/", "/proc/", "/sys/"];

/// Something that was changed before a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, in microseconds since 1970.
    pub at_us: i64,
    pub words: String,
}

/// A new file and the folder that it comes into are changed at the same time.
const SAME_TIME: Duration = Duration::from_millis(500);

/// Something that may have been changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// What it is, as in "its program".
    what: &'static str,
    path: PathBuf,
    /// Whether it may be a folder, of which the files count.
    may_be_folder: bool,
}

impl Suspect {
    fn file(what: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { what, path: path.into(), may_be_folder: false }
    }

    fn folder(what: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { may_be_folder: true, ..Self::file(what, path) }
    }
}

/// What of a service may have been changed before the main process `ended`.
pub fn suspects(service: &Service, ended: Option<&Process>) -> Vec<Suspect> {
    let mut found = Vec::new();
    if let Some(executable) = ended.and_then(|process| process.executable.as_deref()) {
        found.push(Suspect::file(PROGRAM, executable.strip_suffix(REPLACED).unwrap_or(executable)));
    }
    let words = service.exec().map(|exec| exec.command.as_slice()).unwrap_or_default();
    let line = ended.and_then(|process| process.command_line.as_deref()).unwrap_or_default();
    let words = words.iter().map(String::as_str).chain(line.split(' ')).skip(1);
    for word in words {
        let path = word.split_once('=').map_or(word, |(_, path)| path);
        if path.starts_with('/') && !WRITTEN.iter().any(|folder| path.starts_with(folder)) {
            found.push(Suspect::file("its file", path));
        }
    }
    if let Some(name) = ended.map(|process| process.name.as_str()).filter(|name| is_folder_name(name)) {
        // As /etc/redis of redis-server.
        for name in [name, name.split('-').next().unwrap_or(name)] {
            found.push(Suspect::folder("its configuration", Path::new("/etc").join(name)));
        }
    }
    if let Identity::Unit(unit) = &service.identity {
        for folder in UNIT_FOLDERS {
            found.push(Suspect::file("its unit", Path::new(folder).join(unit)));
            found.push(Suspect::folder("its unit", Path::new(folder).join(format!("{unit}.d"))));
        }
    }
    found.extend(PACKAGES.map(|(manager, path)| Suspect::file(manager, path)));
    found
}

fn is_folder_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

/// The changes before a fault, in words, latest first. It blocks.
pub fn before(fault: Timestamp, suspects: &[Suspect]) -> Vec<Change> {
    let fault = fault.to_wall();
    let mut changes: Vec<Change> = Vec::new();
    for Suspect { what, path, may_be_folder } in suspects {
        let Some((path, at)) = latest(path, *may_be_folder, &mut { FILES }) else { continue };
        let Ok(before) = Duration::try_from(fault.duration_since(at)) else { continue };
        let ago = before.as_secs();
        let words = match PACKAGES.iter().any(|(manager, _)| manager == what) {
            true => format!("the host's packages were changed by {what} {ago} s before"),
            false if *what == PROGRAM && is_new(&path, at) => {
                format!("{what} {} was replaced {ago} s before", path.display())
            }
            false => format!("{what} {} was changed {ago} s before", path.display()),
        };
        let at_us = at.as_microsecond();
        // A program is also a file that its command names.
        let is_known = |it: &Change| {
            it.words == words || it.at_us == at_us && it.words.contains(&*path.to_string_lossy())
        };
        if before <= BEFORE && !changes.iter().any(is_known) {
            changes.push(Change { at_us, words });
        }
    }
    changes.sort_by_key(|change| std::cmp::Reverse(change.at_us));
    changes.truncate(NAMED);
    changes
}

/// Whether a file that was changed then is another one than before, as deployments and packages put it in place: it was
/// made or renamed then, which changes its folder too.
fn is_new(path: &Path, changed: jiff::Timestamp) -> bool {
    let is_then = |time: std::io::Result<std::time::SystemTime>| {
        let time = time.ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
        time.is_some_and(|time| {
            Duration::try_from(time.duration_since(changed).abs()).is_ok_and(|apart| apart <= SAME_TIME)
        })
    };
    let folder = path.parent().unwrap_or(path);
    is_then(fs::metadata(folder).and_then(|meta| meta.modified()))
        || is_then(fs::metadata(path).and_then(|meta| meta.created()))
}

/// The file that was changed last: this one, or one in this folder.
fn latest(path: &Path, may_be_folder: bool, left: &mut usize) -> Option<(PathBuf, jiff::Timestamp)> {
    *left = left.checked_sub(1)?;
    let meta = fs::symlink_metadata(path).ok()?;
    let of_link = at(&meta);
    let meta = if meta.is_symlink() { fs::metadata(path).ok()? } else { meta };
    if meta.is_dir() && may_be_folder {
        let inside = fs::read_dir(path).ok()?.map_while(Result::ok);
        return inside.filter_map(|entry| latest(&entry.path(), true, left)).max_by_key(|(_, at)| *at);
    }
    meta.is_file().then(|| (path.to_owned(), of_link.max(at(&meta))))
}

fn at(meta: &fs::Metadata) -> jiff::Timestamp {
    let nanoseconds = i32::try_from(meta.ctime_nsec()).unwrap_or_default();
    jiff::Timestamp::new(meta.ctime(), nanoseconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_file_of_a_folder_is_named_with_the_time_before_the_fault() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("conf.d");
        fs::create_dir(&inner).unwrap();
        let (first, last) = (folder.path().join("a.conf"), inner.join("b.conf"));
        fs::write(&first, "").unwrap();
        let changed = |path: &Path| at(&fs::metadata(path).unwrap());
        // The clock of inodes goes in steps.
        while !last.exists() || changed(&last) == changed(&first) {
            fs::write(&last, "").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), inner.join("loop")).unwrap();
        let suspects = [
            Suspect::folder("its configuration", folder.path()),
            Suspect::folder("its configuration", &inner),
            Suspect::file("its file", &inner),
            Suspect::file("its file", "/no/such"),
        ];
        let fault = Timestamp::now().plus(Duration::from_secs(40));
        let found = before(fault, &suspects);
        let [Change { at_us, words }] = &found[..] else { panic!("{found:?}") };
        assert!(
            words.starts_with("its configuration ") && words.contains("b.conf was changed "),
            "{found:?}"
        );
        assert!(words.ends_with(" s before"), "{found:?}");
        assert_eq!(*at_us, changed(&last).as_microsecond());
        assert_eq!(before(fault.plus(BEFORE), &suspects), [], "that is long ago");
        let earlier = Timestamp::from_nanos(Timestamp::now().as_nanos() - 60_000_000_000);
        assert_eq!(before(earlier, &suspects), [], "that is after the fault");
    }

    #[test]
    fn a_program_that_was_renamed_into_place_was_replaced_and_one_that_was_written_was_changed() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("app");
        fs::write(&program, "old").unwrap();
        let words = || {
            let fault = Timestamp::now().plus(Duration::from_secs(5));
            let suspects = [Suspect::file(PROGRAM, &program), Suspect::file("its file", &program)];
            let found = before(fault, &suspects);
            assert_eq!(found.len(), 1, "one change is named once: {found:?}");
            found[0].words.clone()
        };
        std::thread::sleep(SAME_TIME * 2);
        fs::write(&program, "written").unwrap();
        assert!(words().contains(" was changed "), "{}", words());
        std::thread::sleep(SAME_TIME * 2);
        let new = folder.path().join("app.new");
        fs::write(&new, "new").unwrap();
        fs::rename(&new, &program).unwrap();
        assert!(words().contains(" was replaced "), "{}", words());
    }
}
