//! Records that do not fit in a ring are counted: delivered and lost ones add up to all events.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use hostprobe::sensor::{ebpf::Options, loss::LossClass, record::Record};
use rustix::process::Signal;

use crate::{
    check::{Check, TRIES},
    fixture::Fixture,
    report::Outcome,
    workload::Workload,
};

pub const CHECKS: &[Check] = &[("loss counted, urgent ring", urgent), ("loss counted, bulk ring", bulk)];

/// Events of a check: more records than the smallest ring can hold.
const EVENTS: u16 = 1_000;

fn tiny() -> Result<Fixture> {
    Fixture::with(Options { urgent_ring_bytes: 1, bulk_ring_bytes: 1, ..Options::default() })
}

/// Stops of a watched process, because no other process can cause records of that class.
fn urgent() -> Result<Outcome> {
    let mut fixture = tiny()?;
    let victim = Workload::start(&["exit", "0"])?;
    fixture.sensor.watch_process(victim.pid(), 1)?;
    for _ in 0..EVENTS {
        victim.signal(Signal::STOP)?;
        victim.signal(Signal::CONT)?;
    }
    account(
        &mut fixture,
        LossClass::Signal,
        |record| matches!(record, Record::Stop(stop) if stop.pid == victim.pid()),
    )?
    .context("no record was delivered")
}

/// Connections of this process, the only watched one. Each goes to another address, because each peer is reported once.
///
/// Execs of other processes may have filled the ring; then the check starts again.
fn bulk() -> Result<Outcome> {
    for _ in 0..TRIES {
        if let Some(outcome) = bulk_once()? {
            return Ok(outcome);
        }
    }
    bail!("no record was delivered in {TRIES} attempts")
}

fn bulk_once() -> Result<Option<Outcome>> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let mut fixture = tiny()?;
    fixture.sensor.watch_process(std::process::id(), 1)?;
    for number in 0..EVENTS {
        let [high, low] = number.to_be_bytes();
        TcpStream::connect(SocketAddr::from(([127, 1, high, low], port)))?;
        listener.accept()?;
    }
    account(
        &mut fixture,
        LossClass::Connect,
        |record| matches!(record, Record::Connect(it) if it.remote.port() == port),
    )
}

/// Compares delivered and lost records with the events; none if no record was delivered.
fn account(
    fixture: &mut Fixture,
    class: LossClass,
    ours: impl Fn(&Record) -> bool,
) -> Result<Option<Outcome>> {
    let mut records = Vec::new();
    fixture.sensor.drain(&mut records);
    let delivered = records.iter().filter(|it| ours(it)).count() as u64;
    let lost: u64 = fixture.sensor.losses().iter().filter(|it| it.class == class).map(|it| it.count).sum();
    ensure!(lost > 0, "{delivered} delivered, none lost");
    ensure!(delivered + lost == u64::from(EVENTS), "{delivered} delivered and {lost} lost are not {EVENTS}");
    Ok((delivered > 0).then(|| Outcome::Passed(format!("delivered + lost = {EVENTS}"))))
}
