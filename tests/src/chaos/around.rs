//! What is wrong around the services and the daemon.

use std::{
    any::Any,
    fs,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;

use super::{
    lab::{LONG, Lab},
    plan::Surroundings,
};
use crate::{
    attack, descriptors,
    incident_events::{is, number, text},
    parts::built,
    process::Running,
    storm::{Manner, Storm},
};

/// How many processes die while the daemon is stopped: far more than the ring has room for.
const DEATHS: u64 = 3000;

/// What lasts until the surroundings are as before.
pub(super) struct Around {
    held: Vec<Box<dyn Any>>,
    /// The process whose children died unseen, and their number.
    storm: Option<(u32, u64)>,
}

/// Begins it.
pub(super) fn begin(lab: &mut Lab, surroundings: Surroundings) -> Result<Around> {
    let mut around = Around { held: Vec::new(), storm: None };
    let begin = |lab: &Lab, name: &str| -> Result<Vec<Box<dyn Any>>> {
        let folder = lab.place("around");
        fs::create_dir_all(&folder)?;
        attack::begin(name, lab.page, &folder, &lab.daemon)
    };
    match surroundings {
        Surroundings::Calm | Surroundings::RingsOverrun => {}
        Surroundings::DiskFull => lab.disk.fill(),
        Surroundings::NoDescriptors => descriptors::take_all_from(&lab.daemon),
        Surroundings::PageFlooded => around.held = begin(lab, "half-sent requests")?,
        Surroundings::MuteClients => {
            around.held = attack::mute(lab.page, &lab.place("control.sock"))?;
        }
        Surroundings::SocketsFlooded => around.held = begin(lab, "listeners")?,
        Surroundings::Forks => around.held = begin(lab, "forks")?,
        Surroundings::ReceiversFail => {
            lab.to_alertmanager.refuse(true);
            lab.webhook.refuse(true);
        }
        Surroundings::NatsDown => lab.nats.kill(),
        Surroundings::Starved => {
            let mut busy = Command::new(built("busy_loop"));
            around.held.push(Box::new(Running::start(busy.args(["--threads", "8"]), Signal::KILL)));
        }
    }
    Ok(around)
}

impl Around {
    /// While the faults of the round are caused: the daemon stands still, and processes die.
    pub(super) fn overrun(&mut self, lab: &Lab) -> Result<()> {
        lab.daemon.signal(Signal::STOP);
        let mut storm = Storm::of(Manner::Signals, DEATHS);
        storm.begin();
        let status = storm.process.wait(LONG);
        lab.daemon.signal(Signal::CONT);
        ensure!(status.success(), "the storm ended with {status}");
        self.storm = Some((storm.process.pid(), storm.made()));
        Ok(())
    }

    /// Waits until hostprobe has found what it has to find, and ends it.
    pub(super) fn end(mut self, lab: &mut Lab, surroundings: Surroundings) -> Result<()> {
        self.held.clear();
        let expect = |lab: &Lab, service: &str, verdict: &str| -> Result<()> {
            let such = |event: &serde_json::Value| {
                is(event, "incident.open", service) && text(event, "incident.verdict") == verdict
            };
            match lab.wait_for(such, LONG) {
                Some(_) => Ok(()),
                None => bail!("{}: no incident {verdict}", surroundings.name()),
            }
        };
        match surroundings {
            Surroundings::DiskFull => {
                let found = expect(lab, "host", "host_disk_full");
                lab.disk.make_room();
                found?;
            }
            Surroundings::NoDescriptors => {
                let found = expect(lab, "hostprobe", "agent_impaired");
                descriptors::give_back(&lab.daemon);
                found?;
            }
            Surroundings::ReceiversFail => {
                lab.to_alertmanager.refuse(false);
                lab.webhook.refuse(false);
            }
            Surroundings::NatsDown => lab.nats.run_again(),
            Surroundings::RingsOverrun => self.account(lab)?,
            Surroundings::Calm
            | Surroundings::PageFlooded
            | Surroundings::MuteClients
            | Surroundings::SocketsFlooded
            | Surroundings::Forks
            | Surroundings::Starved => {}
        }
        Ok(())
    }

    /// Each death of the storm is reported or counted as lost.
    fn account(&self, lab: &Lab) -> Result<()> {
        let Some((parent, made)) = self.storm else { return Ok(()) };
        let deadline = Instant::now() + LONG;
        loop {
            let events = lab.round_events();
            let reported = events.iter().filter(|event| {
                text(event, "event.action") == "process.exit"
                    && number(event, "process.parent.pid") == Some(parent.into())
            });
            let reported = reported.count() as u64;
            let losses = events.iter().filter(|event| {
                text(event, "event.action") == "stream.loss" && text(event, "loss.class").starts_with("exit")
            });
            let lost: u64 = losses
                .filter_map(|event| number(event, "loss.count").and_then(|count| u64::try_from(count).ok()))
                .sum();
            if reported + lost >= made {
                println!("  {made} processes died: {reported} are reported, {lost} counted as lost");
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{made} processes died; {reported} are reported, and {lost} counted as lost");
            }
            sleep(Duration::from_millis(500));
        }
    }
}
