//! The checks of the host under the shipped unit: those that its sandbox turns off are named in the log, and the drop-in
//! `host-checks.conf` turns them on. `host_clock.rs` has an incident of the clock under it.

use std::{fs, process::Command};

use hostprobe_tests::{
    daemon::event_action,
    incident_events::{is, text},
    installed::{Installed, UNIT, shipped},
    loop_disk::{FailingDisk, run},
    rights::of_all_threads,
    systemd::SystemdLab,
};
use serde_json::Value;

/// What `systemd-analyze security` may say of the unit with the drop-in, at most.
const EXPOSURE: f64 = 2.5;

const CLOCK: &str = "host: the state of the clock cannot be read";
const LOG: &str = "host: the kernel's log cannot be read";

/// hostprobe, installed and not started, where `/dev` has the kernel's log as that of a host has.
fn installed() -> Option<Installed> {
    let systemd = SystemdLab::for_test()?;
    let made = systemd.command("/usr/bin/mknod").args(["-m", "644", "/dev/kmsg", "c", "1", "11"]).output();
    let made = made.expect("mknod can be run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(Installed::new(systemd, "[host]\nfilesystems = false\n").expect("hostprobe is installed"))
}

fn start(installed: &Installed) {
    let started = installed.systemd.systemctl(&["start", UNIT]);
    started.unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(0, "agent.ready", |event| event_action(event) == "agent.ready");
}

#[test]
fn the_shipped_unit_names_the_checks_of_the_host_that_its_sandbox_turns_off() {
    let Some(installed) = installed() else { return };
    start(&installed);
    let status = installed.status();
    for off in [CLOCK, LOG] {
        let line = status.lines().find(|line| line.contains(off)).unwrap_or_else(|| panic!("{status}"));
        assert!(line.contains("not reported") && line.contains("host-checks.conf"), "{line}");
    }
}

#[test]
fn with_its_drop_in_the_unit_may_check_the_clock_and_reads_the_kernels_log() {
    let Some(installed) = installed() else { return };
    let drop_in = fs::read_to_string(shipped("host-checks.conf")).expect("a file");
    installed.drop_in("host-checks.conf", &drop_in).expect("a drop-in");
    start(&installed);
    let status = installed.status();
    assert!(!status.contains(CLOCK) && !status.contains(LOG), "{status}");
    let exposure = installed.exposure().expect("systemd-analyze says so");
    println!("systemd-analyze security with host-checks.conf: {exposure}");
    assert!(exposure <= EXPOSURE, "{exposure}");
    let main = installed.systemd.host_main_pid(UNIT).expect("it runs");
    let syslog = 1 << 34;
    assert!(
        of_all_threads(main).iter().all(|(_, rights)| rights.permitted & syslog == 0),
        "it keeps CAP_SYSLOG"
    );

    let Some(disk) = FailingDisk::new() else { return };
    disk.fail();
    let opened = |event: &Value| {
        is(event, "incident.open", "host") && text(event, "incident.verdict") == "host_block_errors"
    };
    let open = installed.wait_for_after(0, "incident", opened);
    assert!(text(&open, "incident.summary").contains(disk.name()), "{open:#}");
    // The other devices of the host stay out of its reach.
    let devices = format!("/proc/{main}/root/dev");
    let listed = run(Command::new("/bin/ls").arg(devices));
    assert!(listed.contains("kmsg") && !listed.contains("loop"), "{listed}");
}
