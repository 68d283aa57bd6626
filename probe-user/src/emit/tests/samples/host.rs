//! Samples about the host itself.

use std::time::Duration;

use super::START;
use crate::fact::{Fact, HostCheck, HostFault, HostReading, HostState, HostSubject, HostTask, Source};

pub fn host_state(is_well: bool) -> Fact {
    let reading = HostReading {
        at: START,
        subject: HostSubject { check: HostCheck::Space, target: "/var".to_owned() },
        source: Source::Proc,
        value: 93.26,
        limit: 90.0,
        time_left: Some(Duration::from_secs(5400)),
        root_has_room: false,
        exhausted: false,
        device: Some("254:0".to_owned()),
        words: "/var (/dev/vda) is 93 % full: 1.2 GiB of 17.8 GiB are left".to_owned(),
        fault: None,
    };
    Fact::HostState(HostState { reading, is_well })
}

/// One with all that a hook may see of a fault, though no fault has it all.
pub fn host_fault() -> Fact {
    let fault = HostFault {
        task: Some(HostTask { pid: 4711, tid: Some(4712), name: "postgres".to_owned() }),
        operation: Some("write".to_owned()),
        sector: Some(2048),
        bytes: Some(4096),
        error: Some("critical medium error".to_owned()),
        address: Some(0x1234_5000),
        place: Some("ext4_find_entry:1455".to_owned()),
    };
    let reading = HostReading {
        at: START,
        subject: HostSubject { check: HostCheck::BlockErrors, target: "sda".to_owned() },
        source: Source::Ebpf,
        value: 1.0,
        limit: 1.0,
        time_left: None,
        root_has_room: false,
        exhausted: false,
        device: None,
        words: "sda: a write of 4096 bytes at sector 2048 failed: critical medium error".to_owned(),
        fault: Some(Box::new(fault)),
    };
    Fact::HostState(HostState { reading, is_well: false })
}
