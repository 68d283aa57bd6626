//! How available one service was, hour by hour or day by day.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Period, Times, availability, wall};
use crate::store::rollup::{DAY, HOUR, Totals};

/// A period of up to so many seconds is shown in hours, a longer one in days. A day may have begun in the middle of an hour.
const IN_HOURS: i64 = 2 * DAY;

/// The sums of a span of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// In seconds since 1970, a whole number of spans.
    pub start: i64,
    /// Its length in seconds. It is longer than was asked for where only longer sums are kept.
    pub seconds: i64,
    pub totals: Totals,
}

/// How available one service was in a period, part by part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Uptime {
    pub service: String,
    /// The period: RFC 3339, UTC.
    pub from: String,
    pub to: String,
    /// The length of the parts in seconds: an hour or a day.
    pub span_s: i64,
    /// In the order of time. A part without records is left out.
    pub spans: Vec<Part>,
}

/// A part of the period: a whole hour or day of UTC, or several where no shorter sums are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// RFC 3339, UTC.
    pub start: String,
    /// Its length in seconds.
    pub span_s: i64,
    /// As in the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability: Option<f64>,
    /// As in the report, except that the time which is still to come counts as not observed.
    pub time_ms: Times,
}

/// The length in seconds of the parts of a period.
pub const fn span_of(period: Period) -> i64 {
    if period.to.saturating_sub(period.from) <= IN_HOURS { HOUR } else { DAY }
}

impl Uptime {
    /// From its sums in spans of `span_s`.
    pub fn of(service: &str, period: Period, span_s: i64, spans: &[Span]) -> Self {
        Self {
            service: service.to_owned(),
            from: wall(period.from.saturating_mul(1_000_000)),
            to: wall(period.to.saturating_mul(1_000_000)),
            span_s,
            spans: spans.iter().map(Part::of).collect(),
        }
    }
}

impl Part {
    fn of(span: &Span) -> Self {
        let totals = span.totals.within(span.seconds);
        Self {
            start: wall(span.start.saturating_mul(1_000_000)),
            span_s: span.seconds,
            availability: availability(&totals),
            time_ms: Times::of_whole(span.seconds, &totals),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rollup::Class;

    #[test]
    fn a_part_says_what_share_of_it_the_service_worked() {
        let mut totals = Totals::default();
        totals.add_time(Class::Healthy, 2700 * 1_000_000);
        totals.add_time(Class::Down, 300 * 1_000_000);
        let period = Period { from: 0, to: DAY };
        let spans = [
            Span { start: HOUR, seconds: HOUR, totals },
            Span { start: DAY, seconds: DAY, totals: Totals::default() },
        ];
        let uptime = Uptime::of("web", period, span_of(period), &spans);
        assert_eq!((uptime.span_s, uptime.to.as_str()), (HOUR, "1970-01-02T00:00:00.000Z"));
        let [hour, nothing] = &uptime.spans[..] else { panic!("{uptime:?}") };
        assert_eq!((hour.start.as_str(), hour.availability), ("1970-01-01T01:00:00.000Z", Some(0.9)));
        assert_eq!((hour.time_ms.down, hour.time_ms.not_observed), (300_000.0, 600_000.0));
        assert_eq!((nothing.availability, nothing.span_s), (None, DAY));
        assert_eq!(span_of(Period { from: 0, to: 30 * DAY }), DAY);
    }
}
