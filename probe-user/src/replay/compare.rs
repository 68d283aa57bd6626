//! What was decided then beside what is decided now.

use serde::Serialize;

use super::Decision;

/// Tables of more cells than this are not filled: what comes after the first difference is compared row by row.
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
pub(super) fn side_by_side(recorded: &[Decision], replayed: &[Decision]) -> Vec<Row> {
    let same = |(a, b): &(&Decision, &Decision)| a.what == b.what;
    let head = recorded.iter().zip(replayed).take_while(same).count();
    let (a, b) = (&recorded[head..], &replayed[head..]);
    let mut rows: Vec<Row> = recorded[..head].iter().map(|both| row(Some(both), Some(both))).collect();
    let (mut at_a, mut at_b) = (0, 0);
    let lengths = common_lengths(a, b);
    while let (Some(then), Some(now)) = (a.get(at_a), b.get(at_b)) {
        let length = |x: usize, y: usize| lengths.as_ref().map_or(0, |table| table[x * (b.len() + 1) + y]);
        let is_common = then.what == now.what && length(at_a, at_b) == length(at_a + 1, at_b + 1) + 1;
        let differ_only = length(at_a + 1, at_b + 1) == length(at_a, at_b);
        let equal = then.what == now.what && (lengths.is_none() || is_common);
        let (left, right) = if equal || (differ_only && then.kind() == now.kind()) {
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
fn common_lengths(a: &[Decision], b: &[Decision]) -> Option<Vec<u32>> {
    let width = b.len() + 1;
    let cells = (a.len() + 1).checked_mul(width).filter(|&cells| cells <= MOST_CELLS)?;
    let mut table = vec![0_u32; cells];
    for x in (0..a.len()).rev() {
        for y in (0..b.len()).rev() {
            table[x * width + y] = if a[x].what == b[y].what {
                table[(x + 1) * width + y + 1] + 1
            } else {
                table[(x + 1) * width + y].max(table[x * width + y + 1])
            };
        }
    }
    Some(table)
}

fn row(recorded: Option<&Decision>, replayed: Option<&Decision>) -> Row {
    let any = recorded.or(replayed);
    let what = |decision: Option<&Decision>| decision.map(|decision| decision.what.clone());
    let (recorded, replayed) = (what(recorded), what(replayed));
    Row {
        timestamp: any.map(|decision| decision.timestamp.clone()).unwrap_or_default(),
        service: any.map(|decision| decision.service.clone()).unwrap_or_default(),
        same: recorded == replayed,
        recorded,
        replayed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decisions(words: &str) -> Vec<Decision> {
        let decision = |what: &str| Decision {
            timestamp: String::new(),
            service: "api".to_owned(),
            what: what.replace('_', " "),
        };
        words.split_whitespace().map(decision).collect()
    }

    fn shown(recorded: &str, replayed: &str) -> Vec<String> {
        let rows = side_by_side(&decisions(recorded), &decisions(replayed));
        let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
        rows.iter().map(|row| format!("{}|{}", word(&row.recorded), word(&row.replayed))).collect()
    }

    #[test]
    fn what_is_missing_on_one_side_does_not_shift_the_rest() {
        assert_eq!(shown("a b c", "a b c"), ["a|a", "b|b", "c|c"]);
        assert_eq!(shown("a b c", "a c"), ["a|a", "b|-", "c|c"]);
        assert_eq!(shown("a c", "a b c"), ["a|a", "-|b", "c|c"]);
        assert_eq!(shown("", "a"), ["-|a"]);
    }

    #[test]
    fn decisions_of_one_kind_share_a_row() {
        assert_eq!(shown("hold:_x c", "hold:_y c"), ["hold: x|hold: y", "c|c"]);
        assert_eq!(shown("open:_killed restart", "open:_exited restart")[0], "open: killed|open: exited");
    }
}
