//! Figures of a report, for people.

/// The digits after the point of an availability: as many as it takes to show that it is less than 100 %, and at most the latter.
const DIGITS: u32 = 2;
const MOST_DIGITS: u32 = 6;

/// A part of a whole in percent, never rounded up: 100 % means all of it. None of nothing.
pub(super) fn percent(part: i64, whole: i64) -> Option<String> {
    let missing = whole.checked_sub(part).filter(|missing| *missing >= 0 && whole > 0)?;
    if missing == 0 {
        return Some("100 %".to_owned());
    }
    let scaled = |amount: i64, digits: u32| i128::from(amount) * 100 * 10_i128.pow(digits);
    let shows = |digits: &u32| scaled(missing, *digits) >= i128::from(whole);
    let digits = (DIGITS..MOST_DIGITS).find(shows).unwrap_or(MOST_DIGITS);
    let (shown, unit) = (scaled(part, digits) / i128::from(whole), 10_i128.pow(digits));
    Some(format!("{}.{:0width$} %", shown / unit, shown % unit, width = digits as usize))
}

/// Milliseconds as a span in one unit; `-` for none.
pub(super) fn span(ms: f64) -> String {
    const SECOND: f64 = 1000.0;
    const MINUTE: f64 = 60.0 * SECOND;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    match ms {
        none if none <= 0.0 => "-".to_owned(),
        small if small < 0.1 => format!("{:.0} us", small * 1000.0),
        small if small < 9.95 => format!("{small:.1} ms"),
        small if small < 999.5 => format!("{small:.0} ms"),
        seconds if seconds < 2.0 * MINUTE => format!("{:.1} s", seconds / SECOND),
        minutes if minutes < 2.0 * HOUR => format!("{:.1} min", minutes / MINUTE),
        hours if hours < 2.0 * DAY => format!("{:.1} h", hours / HOUR),
        days => format!("{:.1} d", days / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_never_rounded_up() {
        let day = 86_400_000_000;
        let shown = |missing: i64| percent(day - missing, day).unwrap();
        assert_eq!(shown(0), "100 %");
        assert_eq!(shown(17_300_000), "99.97 %");
        assert_eq!(shown(8_640_000), "99.99 %");
        assert_eq!(shown(2_000_000), "99.997 %");
        assert_eq!(shown(2_060), "99.999997 %");
        assert_eq!(shown(1), "99.999999 %");
        assert_eq!(shown(day / 2), "50.00 %");
        assert_eq!(shown(day), "0.00 %");
        assert_eq!(percent(i64::MAX - 1, i64::MAX).as_deref(), Some("99.999999 %"));
        assert_eq!(percent(0, 0), None);
        assert_eq!(percent(2, 1), None);
    }

    #[test]
    fn a_span_has_one_unit() {
        let shown = [
            (0.0, "-"),
            (0.004, "4 us"),
            (0.14, "0.1 ms"),
            (2.06, "2.1 ms"),
            (12.9, "13 ms"),
            (999.4, "999 ms"),
            (999.9, "1.0 s"),
            (119_999.0, "120.0 s"),
            (120_000.0, "2.0 min"),
            (7_199_999.0, "120.0 min"),
            (7_200_000.0, "2.0 h"),
            (86_400_000.0, "24.0 h"),
            (172_800_000.0, "2.0 d"),
        ];
        for (ms, text) in shown {
            assert_eq!(span(ms), text, "{ms}");
        }
    }
}
