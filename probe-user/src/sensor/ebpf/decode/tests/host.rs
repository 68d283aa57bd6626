//! Faults of the host.

use super::{
    super::decode,
    wire::{
        block_error_bytes, file_system_error_bytes, hung_task_bytes, machine_check_bytes, memory_error_bytes,
    },
};
use crate::{
    fact::{HostCheck, HostFault, HostTask, Source},
    sensor::record::{HostReport, Record},
};

fn host(bytes: &[u8]) -> HostReport {
    let Ok(Record::Host(report)) = decode(bytes) else { panic!("{:?}", decode(bytes)) };
    assert_eq!(
        (report.at_ns, report.source, report.count, report.exhausted),
        (9_000, Source::Ebpf, 1, false)
    );
    report
}

/// Check and target of a report.
fn subject(report: &HostReport) -> (HostCheck, &str) {
    (report.subject.check, &report.subject.target)
}

#[test]
fn a_hung_task_is_named_with_its_process() {
    let report = host(&hung_task_bytes(4242));
    assert_eq!(subject(&report), (HostCheck::HungTask, "worker"));
    assert!(report.words.starts_with("worker (pid 4242) waits in the kernel"), "{}", report.words);
    let report = host(&hung_task_bytes(4243));
    assert!(report.words.starts_with("worker (thread 4243 of server, pid 4242) "), "{}", report.words);
    let task = HostTask { pid: 4242, tid: Some(4243), name: "server".to_owned() };
    assert_eq!(report.fault, Some(HostFault { task: Some(task), ..HostFault::default() }));
}

#[test]
fn a_failed_request_is_named_with_its_disk_sector_operation_and_error() {
    let report = host(&block_error_bytes());
    assert_eq!(subject(&report), (HostCheck::BlockErrors, "nvme0n1"));
    let words = "nvme0n1: a write of 4096 bytes at sector 2048 failed: critical medium error";
    assert_eq!(report.words, words);
    let fault = report.fault.unwrap();
    assert_eq!(
        (fault.operation.as_deref(), fault.sector, fault.bytes),
        (Some("write"), Some(2048), Some(4096))
    );
    assert_eq!(fault.error.as_deref(), Some("critical medium error"));
}

#[test]
fn an_error_of_a_file_system_says_where_the_kernel_found_it_and_for_which_process() {
    let report = host(&file_system_error_bytes(3, 0));
    assert_eq!(subject(&report), (HostCheck::FsErrors, "sda1"));
    assert_eq!(report.device.as_deref(), Some("8:1"));
    let words = "sda1: ext4 finds an error in the file system (at ext4_find_entry:1455, in ls (pid 4242))";
    assert_eq!(report.words, words);
    let report = host(&file_system_error_bytes(4, 2 | 32));
    let why = "an I/O error of its log, its device is gone";
    assert!(report.words.contains(&format!("XFS shuts the file system down: {why}")), "{}", report.words);
    assert_eq!(report.fault.unwrap().error.as_deref(), Some(why));
}

#[test]
fn an_error_of_memory_has_the_address_if_that_is_valid() {
    let report = host(&machine_check_bytes(1 << 61));
    assert_eq!(subject(&report), (HostCheck::MemoryErrors, ""));
    assert_eq!(report.fault.unwrap().address, None);
    let report = host(&machine_check_bytes(1 << 61 | 1 << 58));
    assert!(
        report.words.ends_with("bank 4, status 0x2400000000000000, address 0x12345000"),
        "{}",
        report.words
    );
    assert_eq!(report.fault.unwrap().address, Some(0x1234_5000));

    let report = host(&memory_error_bytes());
    assert_eq!(subject(&report), (HostCheck::MemoryErrors, "MC1"));
    let words = "MC1: 2 uncorrected memory errors of DIMM_A1: memory read error, address 0x12345000";
    assert_eq!(report.words, words);
}

#[test]
fn faults_of_one_kind_have_one_key() {
    let kind = |bytes: &[u8]| host(bytes).kind;
    assert_eq!(kind(&hung_task_bytes(1)), kind(&hung_task_bytes(2)));
    assert_ne!(kind(&file_system_error_bytes(3, 0)), kind(&file_system_error_bytes(4, 0)));
}
