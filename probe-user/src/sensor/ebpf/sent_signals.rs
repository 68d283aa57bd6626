//! The last signals that processes were sent, which the eBPF programs keep for the record of an exit.

use aya::maps::{HashMap, MapData};
use probe_abi::SentSignal;

use crate::{clock::Timestamp, fact::ProcessKey};

/// The layout of the key: the receiver's tgid, and the number of a signal. 0 stands for the last request to end.
type Target = [u32; 2];
const ANY_REQUEST: u32 = 0;

/// The layout of [`SentSignal`] in words of eight bytes; the first is the time.
type Sent = [u64; size_of::<SentSignal>() / 8];

/// The numbers of two signals share a word with others of four bytes each.
const SIGNAL_AT: usize = std::mem::offset_of!(SentSignal, signal) / 4;
const SENDER_AT: usize = std::mem::offset_of!(SentSignal, sender_tgid) / 4;

/// The signals that ask a process to end, and not to read its configuration again: INT, QUIT, TERM.
const ENDS: [u32; 3] = [2, 3, 15];

pub struct SentSignals(HashMap<MapData, Target, Sent>);

impl SentSignals {
    pub fn new(signals: HashMap<MapData, Target, Sent>) -> Self {
        Self(signals)
    }

    /// When another process last asked this one to end, if one did.
    pub fn request_to_end(&self, process: ProcessKey) -> Option<Timestamp> {
        let sent = self.0.get(&[process.pid, ANY_REQUEST], 0).ok()?;
        let half = |at: usize| (sent[at / 2] >> (32 * (at % 2))) as u32;
        let at = Timestamp::from_nanos(sent[0]);
        // An earlier process had this pid.
        let is_its_own = at >= process.start && half(SENDER_AT) != process.pid;
        (is_its_own && ENDS.contains(&half(SIGNAL_AT))).then_some(at)
    }
}
