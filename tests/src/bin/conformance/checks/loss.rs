//! What does not fit in a ring is counted: written and lost together are all there was.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use hostprobe::sensor::ebpf::{Options, Record};
use rustix::process::Signal;

use crate::{bench::Bench, process::Doer, report::Outcome};

/// A check with rings of its own.
type Check = (&'static str, fn() -> Result<Outcome>);

pub const CHECKS: &[Check] = &[("loss counted, urgent ring", urgent), ("loss counted, bulk ring", bulk)];

/// More than the smallest ring there is can hold, of the shortest record.
const MADE: u16 = 1_000;

fn tiny() -> Result<Bench> {
    Bench::with(Options { urgent_ring_bytes: 1, bulk_ring_bytes: 1, ..Options::default() })
}

/// Stops of a watched process: no other process can cause one of them.
fn urgent() -> Result<Outcome> {
    let mut bench = tiny()?;
    let victim = Doer::start(&["exit", "0"])?;
    bench.kernel.watch_process(victim.pid(), 1)?;
    for _ in 0..MADE {
        victim.signal(Signal::STOP)?;
        victim.signal(Signal::CONT)?;
    }
    account(&mut bench, "stop", |record| matches!(record, Record::Stop(stop) if stop.pid == victim.pid()))?
        .context("nothing was written")
}

/// Connections of this process, the only one that is watched: each to another place, as each place is told once.
///
/// Others may have filled the ring with what they execute, and leave no room at all: then once more.
fn bulk() -> Result<Outcome> {
    for _ in 0..5 {
        if let Some(outcome) = bulk_once()? {
            return Ok(outcome);
        }
    }
    bail!("nothing was written, five times")
}

fn bulk_once() -> Result<Option<Outcome>> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let mut bench = tiny()?;
    bench.kernel.watch_process(std::process::id(), 1)?;
    for number in 0..MADE {
        let [high, low] = number.to_be_bytes();
        TcpStream::connect(SocketAddr::from(([127, 1, high, low], port)))?;
        listener.accept()?;
    }
    account(&mut bench, "connect", |record| matches!(record, Record::Connect(it) if it.remote.port() == port))
}

/// Holds what was written and what was counted as lost against what there was; none if nothing was written.
fn account(bench: &mut Bench, class: &str, ours: impl Fn(&Record) -> bool) -> Result<Option<Outcome>> {
    let mut records = Vec::new();
    bench.kernel.drain(&mut records);
    let written = records.iter().filter(|it| ours(it)).count() as u64;
    let lost: u64 = bench.kernel.losses().iter().filter(|it| it.class == class).map(|it| it.count).sum();
    ensure!(lost > 0, "{written} written, nothing lost");
    ensure!(written + lost == u64::from(MADE), "{written} written and {lost} lost are not {MADE}");
    Ok((written > 0).then(|| Outcome::Kept(format!("written + lost = {MADE}"))))
}
