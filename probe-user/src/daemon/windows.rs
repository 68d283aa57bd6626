//! Which windows of maintenance are open, by the wall clock that the caller gives.

use std::collections::BTreeMap;

use crate::{config::Service, fact::ServiceId};

/// The windows that the engine knows to be open.
#[derive(Debug, Default)]
pub(super) struct OpenWindows {
    /// When that of a service ends, if one is open. An operator may have ended it for the engine.
    ends: BTreeMap<ServiceId, jiff::Timestamp>,
}

impl OpenWindows {
    /// A reload removed a service.
    pub(super) fn remove(&mut self, service: ServiceId) {
        self.ends.remove(&service);
    }

    /// The services whose window opens or closes by this moment of the wall clock, with the one that is open then.
    pub(super) fn changes(
        &mut self,
        services: &[Service],
        now: jiff::Timestamp,
    ) -> Vec<(ServiceId, Option<String>)> {
        let mut changes = Vec::new();
        for service in services {
            let open = service.maintenance.iter().filter_map(|window| Some((window.end(now)?, window)));
            // Of several that are open, the last to close counts.
            let (end, window) = open.max_by_key(|(end, _)| *end).unzip();
            let known = match end {
                Some(end) => self.ends.insert(service.id, end),
                None => self.ends.remove(&service.id),
            };
            if end != known {
                changes.push((service.id, window.map(ToString::to_string)));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::config::{Identity, Window};

    fn service(windows: &[&str]) -> Service {
        Service {
            id: ServiceId(0),
            name: "api".to_owned(),
            identity: Identity::Remote,
            depends_on: Vec::new(),
            start_after: Vec::new(),
            critical: true,
            maintenance: windows.iter().map(|text| Window::of(text).expect("a window")).collect(),
            probes: Vec::new(),
            restart: Default::default(),
            limits: Default::default(),
            policy: Default::default(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// What changes from one moment to another, by a clock that the daemon reads every second.
    fn changes(windows: &[&str], from: &str, to: &str) -> Vec<String> {
        let (services, mut open) = ([service(windows)], OpenWindows::default());
        let (mut now, mut seen) = (at(from), Vec::new());
        while now < at(to) {
            for (id, window) in open.changes(&services, now) {
                assert_eq!(id, ServiceId(0));
                seen.push(format!("{now} {}", window.unwrap_or_default()));
            }
            now += SignedDuration::from_secs(1);
        }
        seen
    }

    #[test]
    fn a_window_opens_and_closes_once_each_time() {
        let window = "Sat,Sun 02:00-04:00 Europe/Berlin";
        assert_eq!(
            changes(&[window], "2026-11-27T12:00:00Z", "2026-11-30T12:00:00Z"),
            [
                &format!("2026-11-28T01:00:00Z {window}"),
                "2026-11-28T03:00:00Z ",
                &format!("2026-11-29T01:00:00Z {window}"),
                "2026-11-29T03:00:00Z ",
            ]
        );
    }

    #[test]
    fn the_clocks_of_the_zone_change_within_a_window_and_it_closes_once() {
        // Back at 01:00 UTC: the window is an hour longer. Forward at 01:00 UTC: an hour shorter.
        let window = "Sun 01:30-03:30 Europe/Berlin";
        for (day, open, close) in [
            ("2026-10-25", "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z"),
            ("2026-03-29", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
        ] {
            let seen = changes(&[window], open, &format!("{day}T12:00:00Z"));
            assert_eq!(seen, [format!("{open} {window}"), format!("{close} ")]);
        }
    }

    #[test]
    fn of_windows_that_overlap_the_last_to_close_counts() {
        let (short, long) = ("daily 03:00-03:15 UTC", "Sun 03:10-04:00 UTC");
        assert_eq!(
            changes(&[short, long], "2026-11-29T02:00:00Z", "2026-11-29T12:00:00Z"),
            [
                &format!("2026-11-29T03:00:00Z {short}"),
                &format!("2026-11-29T03:10:00Z {long}"),
                "2026-11-29T04:00:00Z ",
            ]
        );
        // Without a gap between two, nothing is alerted or restarted between them.
        let next = "daily 03:15-03:20 UTC";
        assert_eq!(
            changes(&[short, next], "2026-11-30T02:00:00Z", "2026-11-30T12:00:00Z"),
            [
                &format!("2026-11-30T03:00:00Z {short}"),
                &format!("2026-11-30T03:15:00Z {next}"),
                "2026-11-30T03:20:00Z ",
            ]
        );
    }

    #[test]
    fn a_step_of_the_wall_clock_opens_and_closes_a_window_at_once() {
        let (services, mut open) = ([service(&["daily 03:00-03:15 UTC"])], OpenWindows::default());
        let mut is_open = |now| open.changes(&services, at(now)).pop().map(|(_, window)| window.is_some());
        assert_eq!(is_open("2026-11-29T02:00:00Z"), None);
        assert_eq!(is_open("2026-11-29T03:10:00Z"), Some(true));
        assert_eq!(is_open("2026-11-29T02:50:00Z"), Some(false));
        assert_eq!(is_open("2026-11-29T03:14:59Z"), Some(true));
        assert_eq!(is_open("2026-11-29T08:00:00Z"), Some(false));
        // A daemon that slept over a night finds the next window.
        assert_eq!(is_open("2026-12-03T03:01:00Z"), Some(true));
        assert_eq!(is_open("2026-12-04T03:01:00Z"), Some(true));
    }
}
