//! Files that cannot be read, and passwords in files.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

/// A folder of its own for a test that needs files, gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hostprobe-config-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn refused_whole(path: &Path, expected: &str) {
    let errors = Config::load(path).unwrap_err().to_string();
    assert_eq!(errors, format!("{}: {expected}", path.display()));
}

#[test]
fn the_error_of_an_unreadable_file_has_the_reason_and_the_remedy() {
    let folder = Folder::new("unreadable");
    refused_whole(&folder.0.join("missing.toml"), "no such file; create it, or name another with --config");
    refused_whole(&folder.0, "is a directory; expected a TOML file");
    refused_whole(
        &folder.file("latin1.toml", b"# fine\n# \xe4\n", 0o600),
        "line 2 is not UTF-8 text; expected a TOML file saved as UTF-8",
    );
    refused_whole(
        &folder.file("huge.toml", &vec![b'#'; (1 << 20) + 1], 0o600),
        "larger than 1048576 bytes; expected a TOML file",
    );
}

#[test]
fn the_error_of_a_forbidden_file_names_the_missing_right() {
    let folder = Folder::new("forbidden");
    let path = folder.file("secret.toml", b"", 0o000);
    if rustix::process::geteuid().is_root() {
        // Nothing is forbidden to root, so the error itself is made by hand.
        let error = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert_eq!(read::config_error(error), FORBIDDEN);
    } else {
        refused_whole(&path, FORBIDDEN);
    }
}

const FORBIDDEN: &str = "may not be read by this user; run as root or change its permissions";

#[test]
fn a_byte_order_mark_is_no_error() {
    let folder = Folder::new("bom");
    assert!(Config::load(&folder.file("bom.toml", b"\xef\xbb\xbf[http]\nlisten = \"\"", 0o600)).is_ok());
}

#[test]
fn a_password_in_a_file_that_others_may_read_gets_a_warning() {
    let folder = Folder::new("password");
    let text = b"[[service]]\nname = \"a\"\n[[service.probe]]\nredis = \"redis://:s3cret@h\"\n";
    let open = Config::load(&folder.file("open.toml", text, 0o644)).unwrap();
    assert!(open.warnings[0].contains("open.toml:4:9: this file contains a password"), "{:?}", open.warnings);
    let closed = Config::load(&folder.file("closed.toml", text, 0o600)).unwrap();
    assert_eq!(closed.warnings, [""; 0]);
    assert!(!format!("{open:?}").contains("s3cret"));
}

#[test]
fn a_password_file_is_read_trimmed_and_never_printed() {
    let folder = Folder::new("password-file");
    let load = |path: &Path| {
        let text = format!(
            "[[service]]\nname = \"db\"\n[[service.probe]]\npostgres = \"postgres://u@h/d\"\npassword_file = {:?}\n",
            path.display().to_string()
        );
        Config::load(&folder.file("h.toml", text.as_bytes(), 0o600))
    };
    let secret = folder.file("secret", b"  p@ss w\xc3\xb6rd\n", 0o600);
    let config = load(&secret).unwrap();
    assert_eq!(config.services[0].probes[0].target.expose(), "postgres://u:p%40ss%20w%C3%B6rd@h/d");
    assert!(!format!("{config:?}").contains("p%40ss") && config.warnings.is_empty());

    let open = folder.file("open", b"x", 0o640);
    assert!(load(&open).unwrap().warnings[0].ends_with("may be read by others (chmod 600)"));

    let missing = folder.0.join("nowhere");
    let expected = format!(
        "{}:5:17: the password file {} does not exist; expected a file that holds the password alone",
        folder.0.join("h.toml").display(),
        missing.display()
    );
    assert_eq!(load(&missing).unwrap_err().to_string(), expected);
    for (name, content, why) in [
        ("empty", b" \n".as_slice(), "is empty"),
        ("binary", b"\xff", "is not UTF-8 text"),
        ("huge", &[b'x'; 5000], "is larger than 4096 bytes"),
    ] {
        let errors = load(&folder.file(name, content, 0o600)).unwrap_err().to_string();
        assert!(errors.contains(why), "{errors}");
    }
}

#[test]
fn the_files_of_conf_d_add_services_and_alerts_in_the_order_of_their_names() {
    let folder = Folder::new("parts");
    let main = folder.file(
        "h.toml",
        b"[http]\nlisten = \"\"\n[[service]]\nname = \"a\"\nunit = \"a.service\"\n",
        0o600,
    );
    fs::create_dir_all(folder.0.join("conf.d")).unwrap();
    let remote = |name: &str, more: &str| {
        format!("[[service]]\nname = \"{name}\"\n{more}[[service.probe]]\ntcp = \"10.0.0.1:80\"\n")
            .into_bytes()
    };
    folder.file("conf.d/20-c.toml", &remote("c", "depends_on = [\"a\", \"b\"]\n"), 0o600);
    folder.file("conf.d/10-b.toml", &remote("b", ""), 0o600);
    folder.file("conf.d/README", b"no TOML", 0o600);
    folder.file("conf.d/.30-d.toml.toml", b"half a fi", 0o600);
    let config = Config::load(&main).unwrap();
    let names: Vec<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(config.services[2].depends_on, [ServiceId(0), ServiceId(1)]);
    folder.file("conf.d/30-alert.toml", b"[[alert]]\nwebhook = \"http://127.0.0.1:1/\"\n", 0o600);
    let hook = b"[[hook]]\non = [\"incident.open\"]\ncommand = [\"/a\"]\nservices = [\"b\"]\n";
    folder.file("conf.d/40-hook.toml", hook, 0o600);
    let config = Config::load(&main).unwrap();
    assert_eq!((config.alerts.len(), config.hooks.len(), config.warnings.len()), (1, 1, 0));
}

#[test]
fn an_error_names_the_file_of_conf_d_and_a_name_twice_both_places() {
    let folder = Folder::new("part-errors");
    let unit = |name: &str| format!("# \u{e4}\n[[service]]\nname = \"{name}\"\nunit = \"{name}.service\"\n");
    let main = folder.file("h.toml", unit("a").as_bytes(), 0o600);
    fs::create_dir_all(folder.0.join("conf.d")).unwrap();
    folder.file("conf.d/1.toml", unit("b").as_bytes(), 0o600);
    folder.file("conf.d/2.toml", unit("a").as_bytes(), 0o600);
    let errors = |main: &Path| {
        let errors = Config::load(main).unwrap_err().to_string();
        errors.replace(&format!("{}/", folder.0.display()), "")
    };
    assert_eq!(
        errors(&main),
        "conf.d/2.toml:3:8: another service is named \"a\" already; expected a name of its own; the other one is at \
         h.toml:3:8"
    );
    folder.file("conf.d/1.toml", b"[http]\nlisten = \"\"\n[[service]]\nnam = \"c\"\n", 0o600);
    folder.file("conf.d/2.toml", b"[[service]\n", 0o600);
    let said = errors(&main);
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines[0].starts_with(
            "conf.d/1.toml:1:2: `http` in a file of conf.d; expected [[service]], [[alert]] and [[hook]]"
        ),
        "{said}"
    );
    assert!(lines[1].starts_with("conf.d/1.toml:4:1: unknown key `nam` (did you mean `name`?)"), "{said}");
    assert!(lines[2].starts_with("conf.d/2.toml:1:"), "{said}");
}
