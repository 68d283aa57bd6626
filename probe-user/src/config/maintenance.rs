//! Maintenance windows of a service, such as `Sun 02:00-04:00 Europe/Berlin`.

use std::fmt;

use jiff::{
    Timestamp,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};

use schemars::Schema;

use super::values::{Written, pattern, quote};

/// A time of some days of the week, in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// As the configuration has it.
    text: String,
    days: Vec<Weekday>,
    begins: Time,
    /// If it is not after the beginning, it is on the next day.
    ends: Time,
    zone: TimeZone,
}

const WEEK: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

impl Window {
    /// Reads a window as the configuration has it; None if it has another form.
    pub fn of(text: &str) -> Option<Self> {
        Self::read(text)
    }

    /// When the window ends that is open at this moment.
    pub fn end(&self, now: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(now).date();
        // A window over midnight began yesterday.
        let days = [today.yesterday().ok(), Some(today)];
        days.into_iter().flatten().filter(|day| self.days.contains(&day.weekday())).find_map(|day| {
            let last = if self.ends > self.begins { day } else { day.tomorrow().ok()? };
            let (begin, end) = (self.moment(day, self.begins).0, self.moment(last, self.ends).1);
            (begin? <= now && now < end?).then_some(end?)
        })
    }

    /// The first and the last moment at which the clocks of the zone show this time. Where they skip it, it is as much
    /// after the change.
    fn moment(&self, day: Date, time: Time) -> (Option<Timestamp>, Option<Timestamp>) {
        let local = || self.zone.to_ambiguous_timestamp(day.to_datetime(time));
        (local().compatible().ok(), local().later().ok())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Written for Window {
    const EXPECTED: &'static str = "days, times and a time zone such as \"Sun 02:00-04:00 Europe/Berlin\", \"Mon,Wed \
         22:00-01:00 UTC\" or \"daily 03:00-03:15\", which is in the zone of this host";

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (days, times, zone) = (words.next()?, words.next()?, words.next());
        if words.next().is_some() {
            return None;
        }
        let day = |name: &str| WEEK.iter().find(|(known, _)| *known == name).map(|(_, day)| *day);
        let days = match days {
            "daily" => WEEK.map(|(_, day)| day).to_vec(),
            days => days.split(',').map(day).collect::<Option<_>>()?,
        };
        let (begins, end) = times.split_once('-')?;
        // The end of a day is the beginning of the next one.
        let to_midnight = end == "24:00";
        let (begins, ends) = (time(begins)?, if to_midnight { Time::midnight() } else { time(end)? });
        let zone = match zone {
            Some(name) => TimeZone::get(name).ok()?,
            None => TimeZone::system(),
        };
        (begins != ends || to_midnight).then(|| Self { text: text.to_owned(), days, begins, ends, zone })
    }

    fn fault(text: &str) -> Option<String> {
        let (window, zone) = text.trim_end().rsplit_once(|c: char| c.is_ascii_whitespace())?;
        // Without the zone, the rest must have its two words, and they must be right.
        (window.split_ascii_whitespace().count() == 2 && Self::read(window).is_some())
            .then(|| format!("the unknown time zone {}", quote(zone)))
    }

    fn schema() -> Schema {
        let day = format!("(?:{})", WEEK.map(|(name, _)| name).join("|"));
        let time = "[0-9]{2}:[0-9]{2}";
        pattern(&format!(r"\s*(?:daily|{day}(?:,{day})*)\s+{time}-{time}(?:\s+\S+)?\s*"))
    }
}

/// Such as `02:00`.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| {
        let is_right = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_right.then(|| digits.parse::<i8>().ok()).flatten()
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// When the window ends that is open at this moment, in words.
    fn end(window: &str, now: &str) -> String {
        Window::read(window).unwrap().end(at(now)).map_or_else(String::new, |end| end.to_string())
    }

    #[test]
    fn a_window_is_open_on_its_days_and_in_its_zone() {
        let window = "Sun 02:00-04:00 Europe/Berlin";
        // 2026-11-29 is a Sunday; Berlin is an hour ahead of UTC in winter.
        for (now, expected) in [
            ("2026-11-29T00:59:59Z", ""),
            ("2026-11-29T01:00:00Z", "2026-11-29T03:00:00Z"),
            ("2026-11-29T02:59:59Z", "2026-11-29T03:00:00Z"),
            ("2026-11-29T03:00:00Z", ""),
            ("2026-11-30T02:00:00Z", ""),
        ] {
            assert_eq!(end(window, now), expected, "{now}");
        }
        assert_eq!(end("Mon,Tue 10:00-11:00 UTC", "2026-12-01T10:30:00Z"), "2026-12-01T11:00:00Z");
        assert_eq!(end("daily 03:00-03:15 UTC", "2026-12-02T03:14:59Z"), "2026-12-02T03:15:00Z");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let window = "Sat 23:00-01:00 UTC";
        assert_eq!(end(window, "2026-11-28T23:30:00Z"), "2026-11-29T01:00:00Z");
        assert_eq!(end(window, "2026-11-29T00:30:00Z"), "2026-11-29T01:00:00Z");
        assert_eq!(end(window, "2026-11-28T00:30:00Z"), "", "that is the night before");
    }

    #[test]
    fn a_window_may_last_to_the_end_of_the_day() {
        assert_eq!(end("Sat 22:00-24:00 UTC", "2026-11-28T23:59:59Z"), "2026-11-29T00:00:00Z");
        let day = "Sun 00:00-24:00 UTC";
        assert_eq!(end(day, "2026-11-28T23:59:59Z"), "");
        assert_eq!(end(day, "2026-11-29T00:00:00Z"), "2026-11-30T00:00:00Z");
        assert_eq!(end(day, "2026-11-30T00:00:00Z"), "");
    }

    #[test]
    fn a_window_covers_the_hour_that_the_clocks_repeat_and_follows_the_hour_that_they_skip() {
        // On 2026-10-25 the clocks of Berlin go from 03:00 back to 02:00: at 01:00 UTC.
        let window = "Sun 02:00-03:00 Europe/Berlin";
        for (now, expected) in [
            ("2026-10-24T23:59:59Z", ""),
            ("2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"),
            ("2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"),
            ("2026-10-25T02:00:00Z", ""),
        ] {
            assert_eq!(end(window, now), expected, "{now}");
        }
        // On 2026-03-29 they go from 02:00 to 03:00: at 01:00 UTC.
        for (now, expected) in [
            ("2026-03-29T00:59:59Z", ""),
            ("2026-03-29T01:10:00Z", ""),
            ("2026-03-29T01:15:00Z", "2026-03-29T01:45:00Z"),
            ("2026-03-29T01:45:00Z", ""),
        ] {
            assert_eq!(end("Sun 02:15-02:45 Europe/Berlin", now), expected, "{now}");
        }
        assert_eq!(end("Sun 01:30-04:00 Europe/Berlin", "2026-03-29T00:30:00Z"), "2026-03-29T02:00:00Z");
    }

    #[test]
    fn an_unknown_time_zone_is_named() {
        let fault = |text: &str| Window::fault(text);
        assert_eq!(fault("Sun 02:00-04:00 Europe/Berln").unwrap(), "the unknown time zone \"Europe/Berln\"");
        assert_eq!(fault("daily 02:00-04:00  MESZ ").unwrap(), "the unknown time zone \"MESZ\"");
        for other in ["Sun 02:00-04:00", "Sun 2:00-4:00 Europe/Berln", "Sun 02:00-04:00 UTC again", "", "UTC"]
        {
            assert_eq!(fault(other), None, "{other}");
        }
    }

    #[test]
    fn another_form_is_refused() {
        for text in [
            "",
            "Sun",
            "Sunday 02:00-04:00",
            "Sun 2:00-4:00",
            "Sun 02:00-25:00",
            "Sun 24:00-02:00",
            "Sun 02:00-24:01",
            "Sun 02:00-02:00",
            "Sun 02:00–04:00",
            "Sun 02:00-04:00 Mars/Olympus",
            "Sun 02:00-04:00 UTC again",
            "Sun,,Mon 02:00-04:00",
            "Sun 02:00-+4:00",
        ] {
            assert!(Window::read(text).is_none(), "{text}");
        }
    }
}
