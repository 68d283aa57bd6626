//! A folder that only the daemon's user can change.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
};

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Opens a folder, and creates it with mode 0700 if it is missing. The error names the reason of a refusal.
///
/// A folder is refused if it is a symbolic link, belongs to another user than the daemon's or root, or is writable by
/// its group or by all. Another user could otherwise make the daemon, which may run as root, write or delete
/// elsewhere. Operations in the open folder follow no link in its path.
pub fn open(path: &Path) -> Result<File, String> {
    let failed = |error: io::Error| error.to_string();
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    if fs::symlink_metadata(path).map_err(failed)?.file_type().is_symlink() {
        return Err("it is a symbolic link".to_owned());
    }
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(CWD, path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let folder = File::from(folder);
    let meta = folder.metadata().map_err(failed)?;
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("it belongs to the user {}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Err(format!("others may write to it, as its mode {:o} says", meta.mode() & 0o7777));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_missing_folder_is_created_private() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("var/state");
        open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_folder_that_others_could_turn_elsewhere_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, root.path().join("link")).unwrap();
        assert_eq!(open(&root.path().join("link")).unwrap_err(), "it is a symbolic link");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(open(&real).unwrap_err(), "others may write to it, as its mode 1777 says");
    }
}
