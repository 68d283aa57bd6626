//! Values that several tables have: numbers and times with a range, absolute paths, commands.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use crate::config::{
    error::Findings,
    spanned::Spanned,
    values::{At, Text, Whole, notation, quote},
};

/// The number, if it is there and in its range.
pub(super) fn whole<T: TryFrom<i64>>(
    number: &At<Whole>,
    key: &str,
    range: RangeInclusive<i64>,
    found: &mut Findings,
) -> Option<T> {
    let number = number.as_ref()?;
    let Whole(value) = *number.get_ref();
    if range.contains(&value) {
        return T::try_from(value).ok();
    }
    let (low, high) = range.into_inner();
    found.error(number.span(), format!("`{key}` is {value}; expected a whole number from {low} to {high}"));
    None
}

/// The time, if it is there and in its range.
pub(super) fn time(
    written: &At<Text<Duration>>,
    key: &str,
    range: RangeInclusive<Duration>,
    found: &mut Findings,
) -> Option<Duration> {
    let written = written.as_ref()?;
    let Text(value) = *written.get_ref();
    if range.contains(&value) {
        return Some(value);
    }
    let (low, high) = range.into_inner();
    let (value, low, high) = (notation(value), notation(low), notation(high));
    found.error(written.span(), format!("`{key}` is {value}; expected from {low} to {high}"));
    None
}

/// The path, if it is absolute.
pub(super) fn absolute(path: &Spanned<String>, expected: &str, found: &mut Findings) -> Option<PathBuf> {
    let text = path.get_ref();
    if text.starts_with('/') && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    found.error(path.span(), format!("found {}; expected {expected}", quote(text)));
    None
}

/// The command, if it is not empty and its program is named by an absolute path.
pub(super) fn command(
    command: &Spanned<Vec<Spanned<String>>>,
    key: &str,
    found: &mut Findings,
) -> Option<Vec<String>> {
    let words = command.get_ref();
    let Some(program) = words.first() else {
        found.error(command.span(), format!("`{key}` is empty; expected a program and its arguments"));
        return None;
    };
    absolute(program, "the absolute path of a program, which is not looked up in PATH", found)?;
    if let Some(word) = words.iter().find(|word| word.get_ref().contains('\0')) {
        found.error(word.span(), "an argument holds a zero byte; expected text without one");
        return None;
    }
    Some(words.iter().map(|word| word.get_ref().clone()).collect())
}
