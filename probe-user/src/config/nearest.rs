//! The known name that a misspelled one probably means.

/// The candidate nearest to a name, if any is near enough to be a slip of the hand.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A swap of two letters counts as two changes, so even a short name may be off by two.
    let tolerance = (name.chars().count() / 3).max(if name.len() > 3 { 2 } else { 1 });
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|&(distance, _)| distance <= tolerance)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be put in, left out or changed to get from one to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, have) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, want) in to.iter().enumerate() {
            let change = diagonal + usize::from(have != *want);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_differs_from_another_name() {
        assert_eq!(distance("kitten", "sitting"), 3);
        let known = ["cache", "orders-db"];
        assert_eq!(nearest("cahce", known.into_iter()), Some("cache"));
        assert_eq!(nearest("cach", known.into_iter()), Some("cache"));
        assert_eq!(nearest("order-db", known.into_iter()), Some("orders-db"));
        assert_eq!(nearest("web", known.into_iter()), None);
    }
}
