//! The recorded decisions and those of the replay, side by side.

use serde::Serialize;

use super::ledger::TimedDecision;

/// A larger table is not filled: after the first difference, rows are compared one by one. This one takes 16 MB.
const MOST_CELLS: usize = 4_000_000;

/// One decision, then and now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// When: RFC 3339, UTC.
    pub timestamp: String,
    /// The service it is about.
    pub service: String,
    /// What was decided then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<String>,
    /// What is decided now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<String>,
    /// Whether that is the same.
    pub same: bool,
}

/// Lays one service's decisions side by side, both in the order of time.
pub(super) fn side_by_side(recorded: &[TimedDecision], replayed: &[TimedDecision]) -> Vec<Row> {
    let same = |(a, b): &(&TimedDecision, &TimedDecision)| is_same(a, b);
    let head = recorded.iter().zip(replayed).take_while(same).count();
    let (a, b) = (&recorded[head..], &replayed[head..]);
    let mut rows: Vec<Row> = recorded[..head].iter().map(|both| row(Some(both), Some(both))).collect();
    let (mut at_a, mut at_b) = (0, 0);
    let lengths = common_lengths(a, b);
    while let (Some(then), Some(now)) = (a.get(at_a), b.get(at_b)) {
        let length = |x: usize, y: usize| lengths.as_ref().map_or(0, |table| table[x * (b.len() + 1) + y]);
        let is_common = is_same(then, now) && length(at_a, at_b) == length(at_a + 1, at_b + 1) + 1;
        let differ_only = length(at_a + 1, at_b + 1) == length(at_a, at_b);
        let equal = is_same(then, now) && (lengths.is_none() || is_common);
        let (left, right) = if equal || (differ_only && then.decision.is_like(&now.decision)) {
            (Some(then), Some(now))
        } else if length(at_a + 1, at_b) >= length(at_a, at_b + 1) {
            (Some(then), None)
        } else {
            (None, Some(now))
        };
        at_a += usize::from(left.is_some());
        at_b += usize::from(right.is_some());
        rows.push(row(left, right));
    }
    rows.extend(a[at_a..].iter().map(|then| row(Some(then), None)));
    rows.extend(b[at_b..].iter().map(|now| row(None, Some(now))));
    rows
}

/// The lengths of the longest common subsequences of all tails; None if there were too many.
fn common_lengths(a: &[TimedDecision], b: &[TimedDecision]) -> Option<Vec<u32>> {
    let width = b.len() + 1;
    let cells = (a.len() + 1).checked_mul(width).filter(|&cells| cells <= MOST_CELLS)?;
    let mut table = vec![0_u32; cells];
    for x in (0..a.len()).rev() {
        for y in (0..b.len()).rev() {
            table[x * width + y] = if is_same(&a[x], &b[y]) {
                table[(x + 1) * width + y + 1] + 1
            } else {
                table[(x + 1) * width + y].max(table[x * width + y + 1])
            };
        }
    }
    Some(table)
}

/// Whether the engine decided the same; an incident's number may differ.
fn is_same(then: &TimedDecision, now: &TimedDecision) -> bool {
    then.decision.decided == now.decision.decided
}

fn row(recorded: Option<&TimedDecision>, replayed: Option<&TimedDecision>) -> Row {
    let any = recorded.or(replayed);
    let what = |timed: Option<&TimedDecision>| timed.map(|timed| timed.decision.words());
    let (recorded, replayed) = (what(recorded), what(replayed));
    Row {
        timestamp: any.map(|timed| timed.timestamp.clone()).unwrap_or_default(),
        service: any.map(|timed| timed.decision.service.clone()).unwrap_or_default(),
        same: recorded == replayed,
        recorded,
        replayed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::recording::{Decided, Decision};

    /// `restart`, `hold:WHY`; any other word is the verdict of an incident that opens.
    fn decisions(words: &str) -> Vec<TimedDecision> {
        let decision = |word: &str| {
            let decided = match word.split_once(':') {
                Some(("hold", why)) => Decided::Hold(why.to_owned()),
                Some(_) | None if word == "restart" => Decided::Restart {},
                Some(_) | None => Decided::Open(word.to_owned()),
            };
            let decision = Decision { service: "api".to_owned(), incident: None, decided };
            TimedDecision { timestamp: String::new(), decision }
        };
        words.split_whitespace().map(decision).collect()
    }

    fn shown(recorded: &str, replayed: &str) -> Vec<String> {
        let rows = side_by_side(&decisions(recorded), &decisions(replayed));
        let word = |words: &Option<String>| {
            let words = words.as_deref().unwrap_or("-");
            words.trim_start_matches("incident opened: ").trim_start_matches("no restart: ").to_owned()
        };
        rows.iter().map(|row| format!("{}|{}", word(&row.recorded), word(&row.replayed))).collect()
    }

    #[test]
    fn what_is_missing_on_one_side_does_not_shift_the_rest() {
        assert_eq!(shown("a b c", "a b c"), ["a|a", "b|b", "c|c"]);
        assert_eq!(shown("restart b c", "restart c"), ["restart|restart", "b|-", "c|c"]);
        assert_eq!(shown("restart c", "restart b c"), ["restart|restart", "-|b", "c|c"]);
        assert_eq!(shown("", "a"), ["-|a"]);
    }

    #[test]
    fn decisions_of_one_kind_share_a_row() {
        assert_eq!(shown("hold:x c", "hold:y c"), ["x|y", "c|c"]);
        assert_eq!(shown("hold:x c", "restart c"), ["x|restart", "c|c"]);
        assert_eq!(shown("killed restart", "exited restart")[0], "killed|exited");
    }
}
