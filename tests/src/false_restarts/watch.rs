//! Counts the processes of each service from outside, whatever started them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Between two looks at all processes: far less than a service lives.
const LOOK: Duration = Duration::from_millis(250);

type Seen = Arc<Mutex<BTreeMap<u16, BTreeSet<u32>>>>;

/// It looks until it is dropped.
pub(super) struct Watch {
    seen: Seen,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches for processes with the arguments `--port` and one of these.
    pub(super) fn start(ports: BTreeSet<u16>) -> Self {
        let (seen, ends) = (Seen::default(), Arc::new(AtomicBool::new(false)));
        let (filled, over) = (Arc::clone(&seen), Arc::clone(&ends));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                look(&ports, &filled);
                thread::sleep(LOOK);
            }
        });
        Self { seen, ends, thread: Some(thread) }
    }

    /// How many processes have had this port.
    pub(super) fn processes(&self, port: u16) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&port).map_or(0, BTreeSet::len)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn look(ports: &BTreeSet<u16>, seen: &Seen) {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        // One that has ended meanwhile has no arguments.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if let Some(port) = port_of(&arguments).filter(|port| ports.contains(port)) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).entry(port).or_default().insert(pid);
        }
    }
}

/// What follows the argument `--port`.
fn port_of(arguments: &[u8]) -> Option<u16> {
    let mut words = arguments.split(|&byte| byte == 0);
    words.find(|word| *word == b"--port")?;
    std::str::from_utf8(words.next()?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_an_argument_of_its_own() {
        assert_eq!(port_of(b"/bin/victim\0--port\x004711\0--start-delay-ms\x001\0"), Some(4711));
        assert_eq!(port_of(b"/bin/sh\0-c\0victim --port 4711\0"), None);
        assert_eq!(port_of(b""), None);
    }
}
