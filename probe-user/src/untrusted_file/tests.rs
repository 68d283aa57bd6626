use std::{
    fs,
    io::Write as _,
    os::unix::{fs::symlink, net::UnixListener},
};

use rustix::fs::{FileType, mknodat};
use tempfile::TempDir;

use super::*;

const BOUND: u64 = 4096;

/// A folder with one file of every kind that a path can lead to.
fn zoo() -> TempDir {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "42\n").unwrap();
    fs::create_dir(at("folder")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    File::create(at("sparse")).unwrap().set_len(3 << 30).unwrap();
    drop(UnixListener::bind(at("socket")).unwrap());
    symlink("/dev/zero", at("zero")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("file", at("link")).unwrap();
    symlink("circle", at("circle")).unwrap();
    symlink("fifo", at("link to fifo")).unwrap();
    folder
}

fn refusal(name: &str) -> String {
    let folder = zoo();
    let error = read(&folder.path().join(name), BOUND).unwrap_err();
    assert_eq!(error.path, folder.path().join(name));
    error.reason.to_string()
}

#[test]
fn a_regular_file_is_read_also_by_a_link() {
    let folder = zoo();
    assert_eq!(read(&folder.path().join("file"), BOUND).unwrap(), b"42\n");
    assert_eq!(read(&folder.path().join("link"), BOUND).unwrap(), b"42\n");
    assert_eq!(read(&folder.path().join("file"), 3).unwrap(), b"42\n", "the bound itself fits");
    assert!(matches!(read(&folder.path().join("file"), 2).unwrap_err().reason, Refusal::TooLarge(2)));
}

#[test]
fn what_is_no_regular_file_is_refused_with_its_reason_and_without_a_wait() {
    assert_eq!(refusal("fifo"), "it is a FIFO; expected a regular file");
    assert_eq!(refusal("link to fifo"), "it is a FIFO; expected a regular file");
    assert_eq!(refusal("zero"), "it is a device; expected a regular file");
    assert_eq!(refusal("folder"), "it is a directory; expected a regular file");
    assert_eq!(refusal("socket"), "it is a socket; expected a regular file");
    assert_eq!(refusal("sparse"), "larger than 4096 bytes");
    assert_eq!(refusal("dangling"), "a symbolic link to a file that does not exist");
    assert_eq!(refusal("missing"), "no such file");
    assert!(refusal("circle").contains("symbolic links"), "{}", refusal("circle"));
}

#[test]
fn a_file_that_is_replaced_is_read_as_it_was_found() {
    let folder = zoo();
    let path = folder.path().join("file");
    let found = look_up(&path, OFlags::empty()).unwrap();
    fs::remove_file(&path).unwrap();
    fs::rename(folder.path().join("fifo"), &path).unwrap();
    let mut text = String::new();
    open_found(&found, OFlags::RDONLY).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "42\n");
}

#[test]
fn a_file_is_created_with_its_mode_and_appended_to() {
    let folder = zoo();
    let path = folder.path().join("new");
    for line in ["1\n", "2\n"] {
        let (mut file, kind) = append(&path, Access::Append, 0o600).unwrap();
        assert_eq!(kind, Kind::Regular);
        file.write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    append(&folder.path().join("link"), Access::Append, 0o600).unwrap().0.write_all(b"43\n").unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "42\n43\n");
}

#[test]
fn what_cannot_be_appended_to_is_refused_with_its_reason_and_without_a_wait() {
    let folder = zoo();
    let refusal = |name: &str| {
        append(&folder.path().join(name), Access::ReadAndAppend, 0o600).unwrap_err().reason.to_string()
    };
    assert_eq!(refusal("fifo"), "a FIFO that no process reads");
    assert_eq!(refusal("link to fifo"), "a FIFO that no process reads");
    assert_eq!(refusal("folder"), "it is a directory; expected a regular file");
    assert_eq!(refusal("socket"), "it is a socket; expected a regular file");
    assert_eq!(refusal("dangling"), "a symbolic link to a file that does not exist");
    assert_eq!(refusal("folder/missing/file"), "no such file");
}

#[test]
fn a_fifo_with_a_reader_and_dev_null_take_what_is_appended() {
    let folder = zoo();
    let fifo = folder.path().join("fifo");
    let reader = openat(CWD, &fifo, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
    let (mut file, kind) = append(&fifo, Access::ReadAndAppend, 0o600).unwrap();
    assert_eq!(kind, Kind::Fifo);
    file.write_all(b"1\n").unwrap();
    let mut bytes = [0; 2];
    File::from(reader).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"1\n");
    let null = append(Path::new("/dev/null"), Access::Append, 0o600).unwrap();
    assert_eq!(null.1, Kind::PlainDevice);
}

#[test]
fn a_link_that_another_user_made_is_not_appended_to() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = zoo();
    let link = folder.path().join("link");
    std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
    let error = append(&link, Access::Append, 0o600).unwrap_err().to_string();
    assert!(error.contains("link: a symbolic link of the user 65534"), "{error}");
    assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "42\n");
}
