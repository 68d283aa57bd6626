//! The host's pressure, read once a second while it matters.

use std::time::Duration;

use tokio::time::Instant;

use super::control_probe::ControlProbe;
use crate::{
    config::Config,
    fact::Pressure,
    host::{
        ProcReader,
        pressure::{Shares, Stalls},
    },
};

/// Below all of these limits the host is at ease, and nothing is reported: the engine's own limits are higher.
const CPU_LOW: f64 = 0.2;
const MEMORY_LOW: f64 = 0.1;
const IO_LOW: f64 = 0.1;
const LATE_LOW: Duration = Duration::from_millis(100);

pub struct PressureMonitor {
    reader: ProcReader,
    last: Stalls,
    /// The last reading was reported, so the next one is too, even if it is low again.
    reported_last: bool,
    /// None if no service has a probe: then the pressure would hold nothing.
    control: Option<ControlProbe>,
}

impl PressureMonitor {
    /// Begins to watch if a service has probes, whose runs are counted from `epoch`. Needs a Tokio runtime.
    pub(crate) fn new(reader: ProcReader, config: &Config, epoch: Instant) -> Self {
        let probes = config.services.iter().any(|service| !service.probes.is_empty());
        let last = if probes { reader.stalls() } else { Stalls::default() };
        Self { reader, last, reported_last: false, control: probes.then(|| ControlProbe::start(epoch)) }
    }

    /// Begins to watch after a reload, if a service has probes now.
    pub(crate) fn configure(&mut self, config: &Config, epoch: Instant) {
        if self.control.is_none() {
            *self = Self::new(self.reader.clone(), config, epoch);
        }
    }

    /// The pressure since the last call, if it is worth a report. Meant for one call a second; it reads three small
    /// files.
    pub(crate) fn read(&mut self) -> Option<Pressure> {
        let late = self.control.as_ref()?.take();
        let stalls = self.reader.stalls();
        let shares = stalls.since(&self.last);
        self.last = stalls;
        let Shares { cpu, memory, io } = shares;
        self.report_if_changed(Pressure { at: stalls.at, cpu, memory, io, late })
    }

    fn report_if_changed(&mut self, pressure: Pressure) -> Option<Pressure> {
        let above = is_above_low(&pressure);
        let before = std::mem::replace(&mut self.reported_last, above);
        (above || before).then_some(pressure)
    }
}

fn is_above_low(pressure: &Pressure) -> bool {
    let above = |share: Option<f64>, low: f64| share.is_some_and(|share| share >= low);
    above(pressure.cpu, CPU_LOW)
        || above(pressure.memory, MEMORY_LOW)
        || above(pressure.io, IO_LOW)
        || pressure.late >= LATE_LOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_above_a_limit_and_the_next_low_one_are_reported() {
        let reader = ProcReader::new("/").unwrap();
        let mut monitor = PressureMonitor::new(reader, &Config::default(), Instant::now());
        assert!(monitor.read().is_none(), "no service has a probe");
        let calm = Pressure { cpu: Some(0.19), memory: Some(0.0), ..Pressure::default() };
        assert_eq!(monitor.report_if_changed(calm), None);
        for pressed in [
            Pressure { cpu: Some(0.2), ..calm },
            Pressure { memory: Some(0.1), ..calm },
            Pressure { io: Some(0.5), ..calm },
            Pressure { late: Duration::from_millis(100), ..calm },
        ] {
            assert_eq!(monitor.report_if_changed(pressed), Some(pressed));
            assert_eq!(monitor.report_if_changed(calm), Some(calm));
            assert_eq!(monitor.report_if_changed(calm), None);
        }
    }
}
