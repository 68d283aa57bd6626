//! Reads the two ring buffers.

use std::{collections::HashSet, io, os::fd::AsFd};

use aya::maps::{MapData, RingBuf};

use super::decode::decode;
use crate::sensor::{
    record::{Exit, Record, Signal},
    wake::Wake,
};

/// Most records of one ring in one drain, so that a flood cannot hold the daemon here.
const BATCH: usize = 4096;

pub struct Rings {
    urgent: RingBuf<MapData>,
    bulk: RingBuf<MapData>,
    /// Of the urgent ring.
    wake: Wake,
    /// The last batch was full. The kernel sends no wake-up while the reader is behind.
    behind: bool,
    undecodable: u64,
}

impl Rings {
    pub fn new(urgent: RingBuf<MapData>, bulk: RingBuf<MapData>) -> Self {
        Self { urgent, bulk, wake: Wake::default(), behind: false, undecodable: 0 }
    }

    pub async fn readable(&mut self) -> io::Result<()> {
        if self.behind {
            return Ok(());
        }
        self.wake.readable(self.urgent.as_fd()).await
    }

    pub fn drain(&mut self, out: &mut Vec<Record>) {
        let Self { urgent, bulk, wake, behind, undecodable } = self;
        let start = out.len();
        *behind = !wake.empty(|| take(urgent, out, undecodable));
        let urgent_end = out.len();
        take(bulk, out, undecodable);
        put_senders_first(&mut out[start..], urgent_end - start);
    }

    pub fn take_undecodable(&mut self) -> u64 {
        std::mem::take(&mut self.undecodable)
    }
}

/// Moves what the senders of deadly signals, and those that started them, had executed before the other records: an exit then
/// finds the command line that its sender had as it sent. The first `urgent` records are of the urgent ring.
fn put_senders_first(records: &mut [Record], urgent: usize) {
    let mut latest = 0;
    let mut senders = HashSet::new();
    for record in &records[..urgent] {
        if let Record::Exit(Exit { signal: Some(Signal { sender: Some(sender), at_ns, .. }), .. }) = record {
            senders.insert(sender.pid);
            latest = latest.max(*at_ns);
        }
    }
    if senders.is_empty() {
        return;
    }
    // A process executes after the one that started it.
    for record in records[urgent..].iter().rev() {
        if let Record::Exec(exec) = record
            && senders.contains(&exec.pid)
            && let Some(image) = &exec.image
        {
            senders.insert(image.parent_pid);
        }
    }
    let goes_first = |record: &Record| matches!(record, Record::Exec(exec) if senders.contains(&exec.pid) && exec.at_ns <= latest);
    if records[urgent..].iter().any(goes_first) {
        records.sort_by_key(|record| !goes_first(record));
    }
}

/// Moves records out of a ring; true if it is empty now.
fn take(ring: &mut RingBuf<MapData>, out: &mut Vec<Record>, undecodable: &mut u64) -> bool {
    for _ in 0..BATCH {
        let Some(item) = ring.next() else { return true };
        match decode(&item) {
            Ok(record) => out.push(record),
            Err(error) => {
                tracing::warn!(%error, "cannot decode a record of the eBPF programs; it is counted as lost");
                *undecodable += 1;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::ebpf::decode::tests::wire::{exec_bytes, exit_bytes};

    /// A program that `pid`, a child of `parent`, executed.
    fn exec(at_ns: u64, pid: u32, parent: u32) -> Record {
        let Ok(Record::Exec(mut exec)) = decode(&exec_bytes()) else { panic!("not an exec") };
        exec.at_ns = at_ns;
        exec.pid = pid;
        exec.image.as_mut().unwrap().parent_pid = parent;
        Record::Exec(exec)
    }

    /// The end of a process, which `sender` caused.
    fn killed(at_ns: u64, sender: u32) -> Record {
        let Ok(Record::Exit(mut exit)) = decode(&exit_bytes()) else { panic!("not an exit") };
        exit.at_ns = at_ns;
        let signal = exit.signal.as_mut().unwrap();
        signal.at_ns = at_ns;
        signal.sender.as_mut().unwrap().pid = sender;
        Record::Exit(exit)
    }

    #[test]
    fn what_a_sender_and_its_parent_had_executed_comes_before_the_end_they_caused() {
        let (script, other, kill, next) = (exec(1, 9, 8), exec(2, 20, 1), exec(3, 10, 9), exec(5, 10, 9));
        let end = killed(4, 10);
        let mut records = vec![end.clone(), script.clone(), other.clone(), kill.clone(), next.clone()];
        put_senders_first(&mut records, 1);
        assert_eq!(records, [script, kill, end, other, next]);
    }

    #[test]
    fn records_of_others_stay_behind_the_urgent_ones() {
        let records = [killed(4, 10), exec(1, 20, 1), exec(2, 21, 20)];
        let mut ordered = records.to_vec();
        put_senders_first(&mut ordered, 1);
        assert_eq!(ordered, records);
    }
}
