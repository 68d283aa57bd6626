//! The packages of a release: installed, upgraded and removed in a clean Debian with a real systemd; the container image by
//! Podman; the RPM package by rpm itself.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use hostprobe_tests::{
    clean_debian,
    http::free_port,
    packages::{FIRST, Packages, SECOND},
    parts::skip,
    podman::Podman,
    process::{kill, until},
    systemd::SystemdLab,
    victim::Victim,
};
use serde_json::{Value, json};

/// What an operator waits at most after the installation for a status that is true.
const MINUTE: Duration = Duration::from_secs(60);

const UNIT: &str = "hostprobe.service";
const CONFIG: &str = "/etc/hostprobe/hostprobe.toml";
const OPTIONS: &str = "/etc/default/hostprobe";

#[track_caller]
fn words(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{}: {said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[track_caller]
fn printed(program: &str, arguments: &[&str]) -> String {
    words(&Command::new(program).args(arguments).output().expect("it can be started"))
}

/// A clean Debian that runs a service.
struct Host {
    systemd: SystemdLab,
}

impl Host {
    fn boot() -> Option<Self> {
        let root = clean_debian::root()?;
        if let Err(missing) = SystemdLab::possible() {
            skip(&missing.to_string());
            return None;
        }
        let systemd = SystemdLab::boot_over(&root).expect("a clean Debian boots");
        let program = systemd.install(&Victim::program()).expect("the victim is installed");
        let unit = format!("[Service]\nExecStart={program} --port {}\n", free_port());
        systemd.write_unit("web.service", &unit).expect("the unit is written");
        systemd.systemctl(&["start", "web.service"]).expect("the unit starts");
        Some(Self { systemd })
    }

    #[track_caller]
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = self.systemd.command(program);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        words(&command.args(arguments).output().expect("nsenter runs"))
    }

    #[track_caller]
    fn apt(&self, arguments: &[&str]) -> String {
        self.run("/usr/bin/apt-get", &[&["--yes"], arguments].concat())
    }

    /// Installs a package as an operator does who has downloaded it.
    #[track_caller]
    fn install(&self, packages: &Packages) {
        let name = packages.deb().file_name().expect("it has a name").to_owned();
        let name = name.to_str().expect("a plain name");
        fs::copy(packages.deb(), self.systemd.path("/root").join(name)).expect("it is copied");
        println!("{}", self.apt(&["install", &format!("/root/{name}")]));
    }

    fn hostprobe(&self, arguments: &[&str]) -> Output {
        self.systemd.command("/usr/bin/hostprobe").args(arguments).output().expect("nsenter runs")
    }

    /// Waits for a status of the daemon.
    #[track_caller]
    fn status(&self, what: &str, such: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + MINUTE;
        loop {
            let output = self.hostprobe(&["status", "--json"]);
            if let Some(status) = serde_json::from_slice(&output.stdout).ok().filter(&such) {
                return status;
            }
            let unit = || self.systemd.systemctl(&["show", UNIT]).unwrap_or_default();
            assert!(Instant::now() < end, "no {what}: {output:?}\n{}", unit());
            thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn show(&self, unit: &str, property: &str) -> String {
        self.systemd.show(unit, property).expect("systemd answers")
    }

    fn exists(&self, inside: &str) -> bool {
        self.systemd.path(inside).symlink_metadata().is_ok()
    }

    /// All files of the host whose names are hostprobe's, but what the test itself has put there.
    fn files_of_hostprobe(&self) -> Vec<String> {
        let found = self.run("/usr/bin/find", &["/", "-xdev", "-name", "*hostprobe*"]);
        found.lines().filter(|path| !path.starts_with("/root/")).map(str::to_owned).collect()
    }
}

fn service<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["services"].as_array()?.iter().find(|service| service["name"] == name)
}

fn is_healthy(status: &Value) -> bool {
    status["ready"] == true && service(status, "web").is_some_and(|web| web["state"] == "healthy")
}

#[test]
fn the_debian_package_watches_at_once_heals_when_told_to_and_leaves_nothing_behind() {
    let Some([first, second]) = Packages::both() else { return };
    let Some(host) = Host::boot() else { return };
    assert_eq!(host.files_of_hostprobe(), [""; 0], "the Debian is clean");

    // From the package to a status that is true.
    let begun = Instant::now();
    host.install(&first);
    let status = host.status("status of a healthy service", is_healthy);
    let watched = begun.elapsed();
    assert!(watched < MINUTE, "{watched:?}");
    assert_eq!(status["observes"], true);
    assert_eq!(service(&status, "web").and_then(|web| web["unit"].as_str()), Some("web.service"));
    assert!(
        status["coverage"].as_array().is_some_and(|hooks| hooks.iter().any(|hook| hook["attached"] == true))
    );
    assert_eq!(host.show(UNIT, "UnitFileState"), "enabled");
    assert_eq!(host.show(UNIT, "User"), "hostprobe");
    assert!(host.run("/usr/bin/hostprobe", &["--version"]).starts_with("hostprobe "));
    let text = host.run("/usr/bin/hostprobe", &["status"]);
    assert!(text.contains("only observes"), "{text}");
    for file in
        ["/usr/share/man/man8/hostprobe-status.8.gz", "/usr/share/bash-completion/completions/hostprobe"]
    {
        assert!(host.exists(file), "{file}");
    }
    assert_eq!(host.run("/usr/bin/dpkg", &["--verify", "hostprobe"]), "");

    // Until an operator says so, a fault is reported and not mended.
    let pid = host.systemd.host_main_pid("web.service").expect("it runs");
    kill(pid);
    let status = host.status("status of a failed service", |status| {
        service(status, "web").is_some_and(|web| web["verdict"] == "killed")
    });
    assert_eq!(status["counters"]["restarts"], 0);
    host.systemd.systemctl(&["start", "web.service"]).expect("the unit starts");
    host.status("status of a healthy service", is_healthy);

    heals_when_told_to(&host, begun, watched);

    // An upgrade restarts the daemon and nothing else.
    let web = host.systemd.host_main_pid("web.service").expect("it runs");
    let (daemon, options) =
        (host.show(UNIT, "MainPID"), fs::read(host.systemd.path(OPTIONS)).expect("a file"));
    host.install(&second);
    assert_eq!(host.run("/usr/bin/dpkg-query", &["--show", "--showformat=${Version}", "hostprobe"]), SECOND);
    host.status("status of a healthy service", is_healthy);
    assert_ne!(host.show(UNIT, "MainPID"), daemon);
    assert_eq!(host.systemd.host_main_pid("web.service").expect("it runs"), web);
    assert_eq!(fs::read(host.systemd.path(OPTIONS)).expect("a file"), options, "an operator's change stays");

    // A daemon that an operator has stopped is not started by an upgrade.
    host.systemd.systemctl(&["stop", UNIT]).expect("it stops");
    println!("{}", host.apt(&["install", "--allow-downgrades", &format!("/root/{}", name(&first.deb()))]));
    assert_eq!(host.show(UNIT, "ActiveState"), "inactive");
    host.systemd.systemctl(&["start", UNIT]).expect("it starts");
    host.status("status of a healthy service", is_healthy);

    // A removed package keeps what was configured and recorded.
    println!("{}", host.apt(&["remove", "hostprobe"]));
    assert_eq!(host.show(UNIT, "ActiveState"), "inactive");
    for (file, stays) in [
        (CONFIG, true),
        (OPTIONS, true),
        ("/var/lib/hostprobe/state.db", true),
        ("/usr/bin/hostprobe", false),
    ] {
        assert_eq!(host.exists(file), stays, "{file}");
    }
    println!("{}", host.apt(&["purge", "hostprobe"]));
    assert_eq!(host.files_of_hostprobe(), [""; 0]);
    let user = host.systemd.command("/usr/bin/getent").args(["passwd", "hostprobe"]).status();
    assert!(!user.expect("nsenter runs").success(), "its user is gone");
    assert_eq!(host.systemd.host_main_pid("web.service").expect("it runs"), web, "the service goes on");
}

/// The way to the first fault that is healed, as docs/installation.md has it.
#[track_caller]
fn heals_when_told_to(host: &Host, begun: Instant, watched: Duration) {
    let doctor = |words: &str| {
        let said = host.hostprobe(&["doctor"]);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let last = said.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("next: ") && last.contains(words), "{words}: {said}");
    };
    doctor("hostprobe discover --write");
    let written = words(&host.hostprobe(&["discover", "--write", CONFIG]));
    assert!(written.contains("written, 1 service") && written.contains("next: "), "{written}");
    let again = host.hostprobe(&["discover", "--write", CONFIG]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("exists already"), "{again:?}");
    let checked = host.hostprobe(&["check"]);
    assert_eq!(words(&checked), format!("{CONFIG}: valid, 1 service\n"));
    assert_eq!(String::from_utf8_lossy(&checked.stderr), "");
    doctor("enabled = true");

    let file = host.systemd.path(CONFIG);
    let config = fs::read_to_string(&file).expect("it is written");
    assert!(config.contains("unit = \"web.service\"") && config.contains("# [[alert]]"), "{config}");
    fs::write(&file, config.replace("enabled = false", "enabled = true")).expect("it is ours");
    doctor("remove --observe from /etc/default/hostprobe");
    let options = host.systemd.path(OPTIONS);
    let text = fs::read_to_string(&options).expect("it is installed");
    fs::write(&options, text.replace("\"--observe\"", "\"\"")).expect("it is ours");
    host.systemd.systemctl(&["restart", UNIT]).expect("it restarts");
    host.status("daemon that acts", |status| is_healthy(status) && status["observes"] == false);
    doctor("[[alert]]");

    let pid = host.systemd.host_main_pid("web.service").expect("it runs");
    let killed = Instant::now();
    kill(pid);
    let healed = |status: &Value| is_healthy(status) && status["counters"]["restarts"] == 1;
    let status = host.status("healed fault", healed);
    assert_ne!(service(&status, "web").expect("it is watched")["main_pid"], json!(pid));
    println!(
        "times: a true status {:.1} s after the start of the installation; the first healed fault after {:.1} s, {:.1} s after \
         it was caused",
        watched.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        killed.elapsed().as_secs_f64()
    );
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("a plain name")
}

#[test]
fn the_image_runs_and_watches_under_podman() {
    let Some([first, _]) = Packages::both() else { return };
    let Some(podman) = Podman::new() else { return };
    let image = podman.load(&first.image());
    let limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];
    let version =
        words(&podman.output_of(&image, &[&limits[..], &["--network=none"]].concat(), &["--version"]));
    assert_eq!(version.trim(), format!("hostprobe {}", env!("CARGO_PKG_VERSION")));

    let of_the_host = ["--privileged", "--pid=host", "--network=host"];
    // What the image does by itself, but for a port that other tests have.
    let mount = format!("--volume={}:/etc/hostprobe:ro", podman.folder().join("etc").display());
    fs::create_dir_all(podman.folder().join("etc")).expect("a folder is made");
    fs::write(podman.folder().join("etc/hostprobe.toml"), "[http]\nlisten = \"\"\n").expect("it is written");
    let daemon = podman.start_image(&image, &[&limits[..], &of_the_host, &[&mount]].concat(), &[]);
    let status = until("a status", MINUTE, || {
        let output = podman.execute(&daemon, &["/usr/bin/hostprobe", "status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        (status["ready"] == true).then_some(status)
    });
    assert_eq!(status["observes"], true);
    let attached =
        status["coverage"].as_array().expect("a list").iter().filter(|hook| hook["attached"] == true);
    assert_eq!(attached.count(), hostprobe_tests::kernel_hooks::possible().len(), "{status:#}");
}

#[test]
fn the_rpm_has_its_files_and_scripts_and_installs() {
    let Some([first, _]) = Packages::both() else { return };
    let package = first.rpm();
    let package = package.to_str().expect("a plain path");
    let query = |what: &[&str]| printed("/usr/bin/rpm", &[what, &[package]].concat());
    let files = query(&["-qpl"]);
    for file in [
        "/etc/hostprobe",
        "/etc/sysconfig/hostprobe",
        "/usr/bin/hostprobe",
        "/usr/lib/systemd/system/hostprobe.service",
        "/usr/lib/sysusers.d/hostprobe.conf",
        "/usr/share/man/man8/hostprobe.8.gz",
        "/usr/share/polkit-1/rules.d/50-hostprobe.rules",
        "/usr/share/zsh/site-functions/_hostprobe",
    ] {
        assert!(files.lines().any(|line| line == file), "{file}: {files}");
    }
    // They belong to packages of the distribution.
    assert!(!files.lines().any(|line| ["/usr/bin", "/usr/share/man", "/etc"].contains(&line)), "{files}");
    assert_eq!(query(&["-qp", "--configfiles"]).trim(), "/etc/sysconfig/hostprobe");
    let scripts = query(&["-qp", "--scripts"]);
    for words in [
        "systemd-sysusers hostprobe.conf",
        "disable --now hostprobe.service",
        "try-restart hostprobe.service",
    ] {
        assert!(scripts.contains(words), "{words}: {scripts}");
    }
    let header = query(&["-qp", "--queryformat", "%{NAME} %{VERSION} %{ARCH} %{LICENSE}"]);
    assert_eq!(header, format!("hostprobe {FIRST} {} MIT OR Apache-2.0", std::env::consts::ARCH));

    let root = tempfile::tempdir().expect("a temporary folder");
    let root = root.path().to_str().expect("a plain path");
    printed("/usr/bin/rpm", &["--root", root, "--install", "--nodeps", "--noscripts", package]);
    printed("/usr/bin/rpm", &["--root", root, "--verify", "--nodeps", "--noscripts", "hostprobe"]);
    let version = printed(&format!("{root}/usr/bin/hostprobe"), &["--version"]);
    assert!(version.starts_with("hostprobe "), "{version}");
    let unit =
        fs::read_to_string(format!("{root}/usr/lib/systemd/system/hostprobe.service")).expect("a file");
    assert!(unit.contains("ExecStart=/usr/bin/hostprobe run $HOSTPROBE_OPTIONS"), "{unit}");
    assert!(unit.contains("EnvironmentFile=-/etc/sysconfig/hostprobe"), "{unit}");
}

#[test]
fn checksums_match_and_the_list_of_contents_names_what_is_in_the_program() {
    let Some([first, _]) = Packages::both() else { return };
    let mut check = Command::new("/usr/bin/sha256sum");
    let said =
        words(&check.args(["--check", "SHA256SUMS"]).current_dir(first.folder()).output().expect("it runs"));
    for file in [first.deb(), first.rpm(), first.image(), first.program(), first.contents()] {
        assert!(said.contains(&format!("{}: OK", name(&file))), "{said}");
    }
    let list: Value = serde_json::from_slice(&fs::read(first.contents()).expect("a file")).expect("JSON");
    assert_eq!((&list["bomFormat"], &list["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    let components = list["components"].as_array().expect("a list");
    let named = |name: &str| components.iter().find(|component| component["name"] == name);
    for name in ["aya", "libsqlite3-sys", "ring", "rustls", "tokio"] {
        let component = named(name).unwrap_or_else(|| panic!("{name} is not named"));
        assert!(
            component["purl"].as_str().is_some_and(|purl| purl.starts_with(&format!("pkg:cargo/{name}@")))
        );
        assert!(
            component["hashes"][0]["content"].as_str().is_some_and(|digest| digest.len() == 64),
            "{component}"
        );
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
    assert!(
        named("proptest").is_none() && named("plotters").is_none(),
        "what only tests use is not in the program"
    );
}

#[test]
fn the_same_program_gives_the_same_packages() {
    let Some([first, _]) = Packages::both() else { return };
    let program = first.program().display().to_string();
    let again =
        Packages::dist(FIRST, "again", &["--program", &program]).unwrap_or_else(|error| panic!("{error:#}"));
    let sums = |of: &Packages| fs::read_to_string(of.folder().join("SHA256SUMS")).expect("a file");
    assert_eq!(sums(&first), sums(&again));
}
