//! Who took the memory, and who asked for an end.

use std::time::Duration;

use super::START;
use crate::fact::{Account, Actor, Ancestor, Culprit, GrownGroup, GrownProcess, MemoryHolder, MemoryLimit};

pub fn culprit() -> Culprit {
    let holder = |pid, name: &str, mib: u64| MemoryHolder { pid, name: name.to_owned(), bytes: mib << 20 };
    Culprit {
        killer: "the OOM killer".to_owned(),
        victim: holder(4242, "python3", 480),
        limit: Some(MemoryLimit {
            cgroup: Some("/system.slice/api.service".to_owned()),
            file: "memory.max".to_owned(),
            bytes: 512 << 20,
        }),
        process: Some(GrownProcess {
            holder: holder(4711, "python3", 310),
            role: Some("worker".to_owned()),
            grown: 300 << 20,
            at_least: false,
        }),
        group: Some(GrownGroup {
            path: "/system.slice/api.service/jobs".to_owned(),
            grown: 300 << 20,
            bytes: 310 << 20,
        }),
        over: Duration::from_secs(60),
        largest: vec![holder(4242, "python3", 480), holder(4711, "python3", 310)],
        reclaim: Some(
            "its tasks waited for memory 63 % of the last 10 s and 20 % of the last minute (PSI)".to_owned(),
        ),
    }
}

pub fn actor() -> Actor {
    let alice = Account { id: 1000, name: Some("alice".to_owned()) };
    let ancestor = |pid, line: &str| Ancestor {
        pid,
        name: line.split(' ').next().unwrap_or_default().to_owned(),
        command_line: Some(line.to_owned()),
    };
    Actor {
        at: START,
        pid: 5000,
        name: "kill".to_owned(),
        command_line: Some("kill -9 4242".to_owned()),
        user: Account { id: 0, name: Some("root".to_owned()) },
        login: Some(alice),
        terminal: Some("pts/3".to_owned()),
        unit: Some("session-3.scope".to_owned()),
        ancestors: vec![ancestor(4990, "bash"), ancestor(4980, "sudo -i")],
        fingerprint: 0,
    }
    .with_fingerprint()
}
