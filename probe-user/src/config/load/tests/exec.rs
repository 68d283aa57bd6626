//! The keys of a service under `exec`.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

/// A service under `exec` with these lines, which begin on line 4.
fn exec(lines: &str) -> String {
    format!("[[service]]\nname = \"a\"\nexec = [\"/bin/a\"]\n{lines}")
}

#[test]
fn every_key_of_a_command_needs_one() {
    for key in [
        "user = \"www-data\"",
        "group = \"adm\"",
        "environment_file = \"/x\"",
        "umask = \"022\"",
        "rlimits = {}",
        "stop_signal = \"SIGTERM\"",
        "stop_timeout = \"1s\"",
        "start_after = []",
        "output_max = \"1MiB\"",
        "output_keep = 3",
        "output_stamp = true",
    ] {
        let name = key.split(' ').next().unwrap();
        let column = key.find("= ").unwrap() + 3;
        let expected =
            format!("4:{column}: `{name}` in a service without `exec`; expected it beside `exec` only");
        refused(&format!("[[service]]\nname = \"a\"\nunit = \"a.service\"\n{key}"), &[&expected]);
    }
}

#[test]
fn a_user_or_a_group_that_the_host_lacks_is_an_error_with_its_place() {
    refused(
        &exec("user = \"nobdy\"\ngroup = \"4711\""),
        &[
            "4:8: this host has no user \"nobdy\"; expected the name or the number of one",
            "5:9: this host has no group \"4711\"; expected the name or the number of one",
        ],
    );
    // The start of the service will tell: one directory that does not answer must not stop the others.
    assert_eq!(
        warned(&exec("user = \"slow\"")),
        ["4:8: the user slow cannot be looked up: no answer within 5s"]
    );
}

#[test]
fn wrong_values_are_refused_with_what_is_expected() {
    refused(
        &exec("umask = \"8\"\nstop_signal = \"TERMINATE\"\nrlimits = { nofile = -1 }"),
        &[
            "4:9: found \"8\"; expected octal digits such as \"022\" or \"0077\"",
            "5:15: found \"TERMINATE\"; expected the name of a signal that can end a process, such as \"SIGTERM\", \"SIGQUIT\" or \"SIGUSR1\"",
            "6:22: found \"-1\"; expected a number, a size, \"unlimited\", or a soft and a hard limit such as \"1024:65536\"",
        ],
    );
    refused(
        &exec("output_max = \"1KiB\""),
        &["4:14: `output_max` is 1024 bytes; expected at least \"64KiB\""],
    );
    refused(
        &exec("output_keep = 3"),
        &["4:15: `output_keep` without `output_max`; expected a size at which the file is rotated"],
    );
    refused(
        &exec("rlimits = { nofiles = 5, core = \"2:1\", as = \"unlimited:8MiB\" }\nstop_timeout = \"1h\""),
        &[
            "4:23: unknown resource \"nofiles\" (did you mean `nofile`?); expected a name of prlimit(1) in lower case, such as `nofile`",
            "4:33: the soft limit of core is above the hard one; expected it not to be",
            "4:45: the soft limit of as is above the hard one; expected it not to be",
            "5:16: `stop_timeout` is 1h; expected from 0s to 10m",
        ],
    );
}

#[test]
fn a_cycle_of_starts_is_refused_with_its_place() {
    let service = |name: &str, lines: &str| {
        format!("[[service]]\nname = \"{name}\"\nexec = [\"/bin/{name}\"]\n{lines}\n")
    };
    let chain = [
        service("a", "start_after = [\"b\"]"),
        service("b", "start_after = [\"d\", \"c\"]"),
        service("c", "start_after = [\"a\"]"),
        service("d", ""),
    ];
    refused(
        &chain.concat(),
        &[
            "12:16: a cycle of starts: a → b → c → a; expected no service to wait for itself, even through others",
        ],
    );
    refused(
        &service("web", "start_after = [\"wbe\", \"x\"]"),
        &[
            "4:16: unknown service \"wbe\"; expected the name of a service in this file",
            "4:23: unknown service \"x\"; expected the name of a service in this file",
        ],
    );
    refused(
        &service("web", "start_after = [\"web\"]"),
        &["4:16: a cycle of starts: web → web; expected no service to wait for itself, even through others"],
    );
}

#[test]
fn an_environment_file_adds_variables_and_its_errors_have_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.env");
    let write = |text: &str, mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let lines =
        format!("environment_file = {:?}\nenvironment = {{ B = \"service\" }}", path.display().to_string());

    write("# web\nA=\"one two\"\nB=file\nDB_PASSWORD=s3cretive\n", 0o600);
    let config = parse(&exec(&lines)).unwrap();
    let variables: Vec<_> = config.services[0]
        .environment()
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(variables, [("A", "one two"), ("B", "service"), ("DB_PASSWORD", "s3cretive")]);
    assert!(config.secrets().contains(&"s3cretive".to_owned()));
    assert!(!format!("{config:?}").contains("s3cretive") && config.warnings.is_empty());

    write("DB_PASSWORD=x\n", 0o644);
    assert!(warned(&exec(&lines))[0].ends_with("holds a secret and may be read by others (chmod 600)"));

    write("A=1\n", 0o646);
    assert!(warned(&exec(&lines))[0].ends_with("may be changed by every user (chmod o-w)"));

    write("A=1\nB\n\nexport C=s3cret\n", 0o600);
    let shown = path.display();
    refused(
        &exec(&lines),
        &[
            &format!("4:20: {shown}:2: a line without `=`; expected NAME=value"),
            &format!(
                "4:20: {shown}:4: `export` before the name; expected NAME=value, because no shell reads this file"
            ),
        ],
    );

    write(&"A=1\n".repeat(70_000), 0o600);
    let large = format!(
        "4:20: the environment file {shown} is larger than 262144 bytes; expected lines of the form NAME=value"
    );
    refused(&exec(&lines), &[&large]);
    fs::remove_file(&path).unwrap();
    let missing = format!(
        "4:20: the environment file {shown} does not exist; expected a file that holds lines of the form NAME=value"
    );
    refused(&exec(&lines), &[&missing]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let fifo = format!(
        "4:20: the environment file {shown} is a FIFO; expected a file that holds lines of the form NAME=value"
    );
    refused(&exec(&lines), &[&fifo]);
    refused(
        &exec("environment_file = \"web.env\""),
        &["4:20: found \"web.env\"; expected the absolute path of a file with variables"],
    );
}
