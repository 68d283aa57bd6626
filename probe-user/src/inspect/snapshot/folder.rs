//! The folder of snapshots: private, and limited in size.

use std::{
    fs,
    io::{self, Write},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};

use crate::host::private_folder;

/// The form of the time in a file's name, in UTC: it sorts as time passes.
const TIME: &str = "%Y%m%dT%H%M%S.%3fZ";

/// The length of a time of that form.
const TIME_LEN: usize = "20260102T030405.678Z".len();

/// The end of a file's name.
const EXTENSION: &str = ".txt";

/// The snapshots' folder is unusable.
#[derive(Debug, thiserror::Error)]
#[error(
    "no snapshot can be written to {}: {why}; let [snapshots] directory name a folder that only the daemon's \
     user may write to",
    path.display()
)]
pub struct FolderError {
    pub path: PathBuf,
    pub why: String,
}

/// A folder of snapshots, open.
///
/// A folder is refused if it is a symbolic link, belongs to another user than the daemon's or root, or is writable by
/// its group or by all. Another user could otherwise make the daemon, which runs as root, write or delete elsewhere.
/// The folder stays open, so that no operation follows a link.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    folder: OwnedFd,
}

impl Folder {
    /// Opens the folder, and creates it if it is missing.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let refused = |why: String| FolderError { path: path.to_owned(), why };
        let folder = private_folder::open(path).map_err(refused)?;
        Ok(Self { path: path.to_owned(), folder: folder.into() })
    }

    /// Writes a snapshot of a service, readable by the daemon's user alone, and deletes the oldest ones beyond `keep`.
    /// Returns the new path.
    pub fn write(
        &self,
        service: &str,
        at: jiff::Timestamp,
        text: &str,
        keep: usize,
    ) -> Result<PathBuf, FolderError> {
        let name = format!("{}-{}{EXTENSION}", safe(service), at.strftime(TIME));
        let failed =
            |error: io::Error| FolderError { path: self.path.clone(), why: format!("{name}: {error}") };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(&self.folder, &name, flags, mode).map_err(|error| failed(error.into()))?;
        if let Err(error) = fs::File::from(file).write_all(text.as_bytes()) {
            // A partial snapshot would mislead.
            let _ = unlinkat(&self.folder, &name, AtFlags::empty());
            return Err(failed(error));
        }
        if let Err(error) = self.tidy(keep.max(1)) {
            tracing::warn!("{}: cannot delete old snapshots: {error}", self.path.display());
        }
        Ok(self.path.join(name))
    }

    /// Deletes all snapshots but the newest `keep`. Other files stay.
    fn tidy(&self, keep: usize) -> io::Result<()> {
        // An own descriptor has its own position in the listing.
        let listing = openat(&self.folder, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut ours: Vec<String> = Vec::new();
        for entry in Dir::new(listing)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if time_of(name).is_some() && self.is_file(name) {
                ours.push(name.to_owned());
            }
        }
        ours.sort_by(|one, other| (time_of(one), one).cmp(&(time_of(other), other)));
        let surplus = ours.len().saturating_sub(keep);
        for name in &ours[..surplus] {
            unlinkat(&self.folder, name, AtFlags::empty())?;
        }
        Ok(())
    }

    fn is_file(&self, name: &str) -> bool {
        let stat = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }
}

/// A service's name as a part of a file's name.
fn safe(service: &str) -> String {
    let fits = |char: char| char.is_ascii_alphanumeric() || "-_.@".contains(char);
    let name: String = service.chars().take(64).map(|char| if fits(char) { char } else { '_' }).collect();
    // Never a hidden file.
    if name.starts_with('.') { format!("_{name}") } else { name }
}

/// The time in a file's name, if it is a snapshot's name.
fn time_of(name: &str) -> Option<&str> {
    let rest = name.strip_suffix(EXTENSION)?;
    let at = rest.len().checked_sub(TIME_LEN)?;
    let (service, time) = (rest.get(..at)?.strip_suffix('-')?, rest.get(at..)?);
    let fits = |(at, char): (usize, char)| match at {
        8 => char == 'T',
        15 => char == '.',
        19 => char == 'Z',
        _ => char.is_ascii_digit(),
    };
    (!service.is_empty() && safe(service) == service && time.chars().enumerate().all(fits)).then_some(time)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn at(second: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_767_323_045 + second).unwrap()
    }

    #[test]
    fn a_snapshot_is_private_and_named_after_service_and_time() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("var/snapshots");
        let folder = Folder::open(&path).unwrap();
        let written = folder.write("my/api", at(0), "text\n", 32).unwrap();
        assert_eq!(written, path.join("my_api-20260102T030405.000Z.txt"));
        assert_eq!(fs::read_to_string(&written).unwrap(), "text\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&written), mode(&path)), (0o600, 0o700));
        let again = folder.write("my/api", at(0), "other", 32).unwrap_err();
        assert!(again.to_string().contains("exists"), "{again}");
        assert_eq!(fs::read_to_string(&written).unwrap(), "text\n");
    }

    #[test]
    fn the_oldest_of_ours_go_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        let foreign =
            ["notes.txt", "api-2020.txt", "-20200102T030405.000Z.txt", "api-20200102T030405.000Z.txt.bak"];
        for name in foreign {
            fs::write(root.path().join(name), "keep").unwrap();
        }
        symlink("notes.txt", root.path().join("api-20200102T030405.000Z.txt")).unwrap();
        fs::create_dir(root.path().join("web-20200102T030405.000Z.txt")).unwrap();
        for second in 0..5 {
            let service = if second % 2 == 0 { "web" } else { "api" };
            folder.write(service, at(second), "x", 2).unwrap();
        }
        let left = names(root.path());
        assert_eq!(
            left,
            [
                "-20200102T030405.000Z.txt",
                "api-2020.txt",
                "api-20200102T030405.000Z.txt",
                "api-20200102T030405.000Z.txt.bak",
                "api-20260102T030408.000Z.txt",
                "notes.txt",
                "web-20200102T030405.000Z.txt",
                "web-20260102T030409.000Z.txt",
            ]
        );
    }

    #[test]
    fn a_folder_that_others_could_turn_elsewhere_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, root.path().join("link")).unwrap();
        let error = Folder::open(&root.path().join("link")).unwrap_err().to_string();
        assert!(error.contains("symbolic link") && error.contains("[snapshots] directory"), "{error}");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o1777)).unwrap();
        let error = Folder::open(&real).unwrap_err().to_string();
        assert!(error.contains("mode 1777"), "{error}");
        fs::write(root.path().join("file"), "").unwrap();
        let error = Folder::open(&root.path().join("file")).unwrap_err().to_string();
        assert!(error.contains("exists") || error.contains("directory"), "{error}");
    }

    #[test]
    fn an_unwritable_snapshot_is_an_error_with_its_path() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        fs::remove_dir(root.path()).unwrap();
        let error = folder.write("api", at(0), "x", 2).unwrap_err().to_string();
        assert!(error.contains("api-20260102T030405.000Z.txt: No such file"), "{error}");
    }
}
