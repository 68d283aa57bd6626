//! What a command under `exec` is given: user, groups, limits, environment; and how it is asked to end.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    incident_events::{is, text},
    parts::{require, require_root},
    process::{until, with_argument},
    supervised::Supervised,
    victim::Victim,
};
use rustix::{
    mount::{MountPropagationFlags, mount_bind, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// Ids that no other test uses.
const UID: u32 = 54_331;
const GID: u32 = 54_332;

fn config(service: &str) -> String {
    format!("[http]\nlisten = \"\"\n{service}")
}

/// A name for the command, which its arguments have and no other process's.
fn marked(service: &Supervised) -> String {
    format!("{}.options", service.name)
}

fn sleeper(service: &Supervised) -> String {
    service.service(&["/bin/sh", "-c", "echo up; while :; do sleep 1; done", &marked(service)])
}

/// Its shell, once it has written its first line.
fn pid_of(service: &Supervised) -> u32 {
    until("its process", LONG, || {
        let pids = with_argument(&marked(service));
        pids.first().copied().filter(|_| service.output().contains("up\n"))
    })
}

/// Has the daemon see these files instead of the host's users and groups.
fn with_accounts<'c>(command: &'c mut Command, folder: &Path) -> &'c mut Command {
    let files = ["passwd", "group"].map(|name| (folder.join(name), Path::new("/etc").join(name)));
    let bind = move || {
        // SAFETY: the process is about to execute the daemon, and has one thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        files.iter().try_for_each(|(own, shown)| Ok::<(), io::Error>(mount_bind(own, shown)?))
    };
    // SAFETY: between fork and exec it makes system calls on paths; the test has no other thread that holds a lock.
    unsafe { command.pre_exec(bind) }
}

#[test]
fn a_process_has_the_user_groups_umask_limits_and_environment_of_its_service() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let folder = service.folder();
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("it is its owner's");
    let accounts = [
        (
            "passwd",
            format!("root:x:0:0:root:/root:/bin/sh\nprobed:x:{UID}:{GID}:Probed:/srv/probed:/bin/dash\n"),
        ),
        (
            "group",
            format!(
                "root:x:0:\nprobed:x:{GID}:\nreaders:x:{0}:root,probed\nothers:x:{1}:root\n",
                GID + 1,
                GID + 2
            ),
        ),
        ("web.env", "# of the host\nFROM_FILE='one two'\nBOTH=file\nHOME=/elsewhere\n".to_owned()),
    ];
    for (name, content) in accounts {
        fs::write(folder.join(name), content).expect("it is written");
    }
    let keys = format!(
        "user = \"probed\"\nenvironment_file = {:?}\nenvironment = {{ BOTH = \"service\" }}\numask = \"0137\"\n\
         rlimits = {{ nofile = \"123:456\", core = 0, memlock = \"32KiB:64KiB\" }}\ndirectory = {:?}\n",
        folder.join("web.env").display().to_string(),
        folder.display().to_string(),
    );
    let config = config(&(sleeper(&service) + &keys));
    let daemon = Daemon::start_with(&config, &[], |command| with_accounts(command, folder));
    daemon.ready();
    let pid = pid_of(&service);

    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).expect("it lives");
    let status = String::from_utf8(read("status")).expect("text");
    let line = |name: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.expect("the kernel says so").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let four = |id: u32| vec![id.to_string(); 4].join(" ");
    assert_eq!((line("Uid"), line("Gid")), (four(UID), four(GID)));
    assert_eq!(line("Groups"), format!("{GID} {}", GID + 1));
    assert_eq!(
        (line("Umask"), line("CapPrm"), line("CapEff")),
        ("0137".into(), "0".repeat(16), "0".repeat(16))
    );
    let limits = String::from_utf8(read("limits")).expect("text");
    for (name, soft, hard) in [
        ("Max open files", "123", "456"),
        ("Max core file size", "0", "0"),
        ("Max locked memory", "32768", "65536"),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel lists it");
        assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), [soft, hard], "{name}");
    }
    let environment = String::from_utf8(read("environ")).expect("text");
    let mut variables: Vec<&str> = environment.split_terminator('\0').collect();
    variables.retain(|variable| {
        !["PATH=", "LANG", "LC_", "TZ=", "HOSTPROBE_SERVICE="].iter().any(|kept| variable.starts_with(kept))
    });
    variables.sort_unstable();
    let expected = [
        "BOTH=service",
        "FROM_FILE=one two",
        "HOME=/elsewhere",
        "LOGNAME=probed",
        "SHELL=/bin/dash",
        "USER=probed",
    ];
    assert_eq!(variables, expected);
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("it lives"), folder);
}

#[test]
fn a_start_that_lacks_a_right_says_which_and_what_to_install() {
    if !require_root() || !require("util-linux", "/usr/bin/setpriv") {
        return;
    }
    let (user, limit) = (Supervised::new(), Supervised::new());
    let services =
        [sleeper(&user) + "user = \"nobody\"\n", sleeper(&limit) + "rlimits = { nofile = \"unlimited\" }\n"];
    let under = ["/usr/bin/setpriv", "--bounding-set=-setuid,-setgid,-sys_resource"];
    let daemon = Daemon::start_under(&under, &config(&services.concat()), &[]);
    for (service, refused) in [
        (
            &user,
            "cannot run as the user nobody: Operation not permitted (os error 1); hostprobe needs CAP_SETUID",
        ),
        (
            &limit,
            "cannot set its limit nofile: Operation not permitted (os error 1); hostprobe needs CAP_SYS_RESOURCE",
        ),
    ] {
        let opened = daemon.wait_for(|event| is(event, "incident.open", &service.name), LONG);
        let summary = text(&opened, "incident.summary");
        assert!(summary.contains(refused) && summary.contains("install its drop-in exec.conf"), "{summary}");
    }
}

/// A service that writes the signals it gets to its output; with `ignores`, it does not end by them.
fn trap(service: &Supervised, ignores: bool) -> String {
    let end = if ignores { "" } else { "; exit 0" };
    let trap = |signal: &str| format!("trap 'echo {signal}{end}' {signal}");
    let script = format!("{}; {}; echo up; while :; do sleep 0.05; done", trap("TERM"), trap("USR1"));
    service.service(&["/bin/sh", "-c", &script, &marked(service)])
}

#[test]
fn a_service_is_asked_to_end_by_its_signal_and_killed_after_its_time() {
    if !require_root() {
        return;
    }
    let [polite, deaf, default] = [Supervised::new(), Supervised::new(), Supervised::new()];
    let services = [
        trap(&polite, false) + "stop_signal = \"SIGUSR1\"\nstop_timeout = \"20s\"\n",
        trap(&deaf, true) + "stop_signal = \"USR1\"\nstop_timeout = \"700ms\"\n",
        trap(&default, false),
    ];
    let mut daemon = Daemon::start(&config(&services.concat()), &[]);
    let pids = [&polite, &deaf, &default].map(pid_of);
    let began = Instant::now();
    daemon.stop();
    let took = began.elapsed();
    assert!((Duration::from_millis(700)..Duration::from_secs(8)).contains(&took), "{took:?}");
    // The shell has words of its own for the end of its child.
    let said = [&polite, &deaf, &default].map(|service| {
        let output = service.output();
        let own = output.lines().filter(|line| ["up", "USR1", "TERM"].contains(line));
        own.collect::<Vec<_>>().join(" ")
    });
    assert_eq!(said, ["up USR1", "up USR1", "up TERM"]);
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} has ended");
    }
}

#[test]
fn a_command_starts_after_the_service_that_it_names_is_healthy() {
    if !require_root() {
        return;
    }
    let (api, db) = (Supervised::new(), Supervised::new());
    let victim = Victim::program().display().to_string();
    let probe = |port: u16| format!("[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\n");
    let served = |service: &Supervised| {
        service.service(&[&victim, "--port", &service.port.to_string()])
            + &format!("start_after = [{:?}]\n", db.name)
            + &probe(service.port)
    };
    let slow = format!("sleep 1.5; exec {victim} --port {}", db.port);
    let services = served(&api) + &db.service(&["/bin/sh", "-c", &slow]) + &probe(db.port);
    let daemon = Daemon::start(&config(&services), &[]);
    api.until_healthy(&daemon);
    let events = daemon.events();
    let at = |what: &str, such: &dyn Fn(&Value) -> bool| {
        events.iter().position(such).unwrap_or_else(|| panic!("no {what} in {events:#?}"))
    };
    let healthy =
        |event: &Value| is(event, "service.state", &db.name) && text(event, "service.state") == "healthy";
    let order = [
        at("wait", &|event| is(event, "restart.hold", &api.name)),
        at("listener of the database", &|event| db.listens(db.port, event)),
        at("healthy database", &healthy),
        at("start", &|event| is(event, "restart.request", &api.name)),
        at("listener", &|event| api.listens(api.port, event)),
    ];
    assert!(order.is_sorted(), "{order:?}");
    let why = text(&events[order[0]], "event.reason");
    assert_eq!(why, format!("its first start waits for {}, for 5m at most", db.name));
    daemon.wait_for_log(&format!("{}: {why}", api.name));
    assert_eq!(daemon.count(|event| event_action(event) == "incident.open"), 0);
}
