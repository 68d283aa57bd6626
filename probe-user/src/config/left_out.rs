//! What a file with errors of its shape is read without, and what can still be judged then.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::error::Finding;

/// The lists of tables. The tables of one stand on their own, but for their names and the defaults.
const LISTS: [&str; 3] = ["alert", "hook", "service"];

/// Tables on which others depend: the defaults of all services, and the page that jobs report to.
const NEEDED: [&str; 2] = ["defaults", "http"];

/// What was left out.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// The tables that lack something, by their places.
    tables: Vec<Range<usize>>,
    /// Others may depend on what is missing.
    is_needed: bool,
}

impl LeftOut {
    /// A whole file could not be read.
    pub(super) fn file() -> Self {
        Self { tables: Vec::new(), is_needed: true }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.tables.extend(other.tables);
        self.is_needed |= other.is_needed;
    }

    /// Whether nothing else can be judged.
    pub(super) fn is_too_much(&self) -> bool {
        self.is_needed
    }

    /// Whether an error of meaning may be for what is missing.
    pub(super) fn concerns(&self, finding: &Finding) -> bool {
        let is_in = |at: usize| self.tables.iter().any(|table| table.contains(&at));
        is_in(finding.at) || finding.other.is_some_and(is_in)
    }
}

/// The tables of a document, before anything is taken out of it.
#[derive(Debug)]
pub(super) struct Tables {
    lists: Vec<OfList>,
    others: Vec<(String, Range<usize>)>,
}

#[derive(Debug)]
struct OfList {
    place: Range<usize>,
    /// Its own place, and those of its name.
    names: Vec<Range<usize>>,
}

impl Tables {
    pub(super) fn of(document: &DeTable<'_>) -> Self {
        let mut tables = Self { lists: Vec::new(), others: Vec::new() };
        for (key, value) in document {
            let name: &str = key.get_ref();
            if let (DeValue::Array(list), true) = (value.get_ref(), LISTS.contains(&name)) {
                let of_list = list.iter().map(|table| OfList { place: hull(table), names: names(table) });
                tables.lists.extend(of_list);
            } else {
                let whole = hull(value);
                tables.others.push((name.to_owned(), key.span().start.min(whole.start)..whole.end));
            }
        }
        tables
    }

    /// Notes that what has this place was taken out.
    pub(super) fn take_out(&self, place: &Range<usize>, left_out: &mut LeftOut) {
        if let Some(table) = self.lists.iter().find(|table| table.place.contains(&place.start)) {
            left_out.tables.push(table.place.clone());
            left_out.is_needed |= table.names.contains(place);
        } else if let Some((name, whole)) = self.others.iter().find(|(_, it)| it.contains(&place.start)) {
            left_out.tables.push(whole.clone());
            left_out.is_needed |= NEEDED.contains(&name.as_str()) || LISTS.contains(&name.as_str());
        } else {
            left_out.is_needed = true;
        }
    }
}

/// The places at which a table of a list loses its name.
fn names(table: &Spanned<DeValue<'_>>) -> Vec<Range<usize>> {
    let mut places = vec![table.span()];
    if let DeValue::Table(keys) = table.get_ref() {
        let name = keys.iter().filter(|(key, _)| **key.get_ref() == *"name");
        places.extend(name.flat_map(|(key, value)| [key.span(), value.span()]));
    }
    places
}

/// From the first to the last place of a value and all that is in it. Those of a table follow one another in the file.
fn hull(value: &Spanned<DeValue<'_>>) -> Range<usize> {
    let mut whole = value.span();
    let mut add = |place: Range<usize>| whole = whole.start.min(place.start)..whole.end.max(place.end);
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                add(key.span());
                add(hull(value));
            }
        }
        DeValue::Array(list) => list.iter().for_each(|value| add(hull(value))),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
    whole
}
