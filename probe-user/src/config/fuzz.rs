//! The way of the fuzzers to a configuration's text, without a file and without what a load keeps for good.

use std::path::Path;

use super::{Config, ConfigErrors, check::Outside, environment_file, load::from_text};

/// Checks a text, in an environment in which every variable has this value.
pub fn check(text: &str, variable: &str) -> Result<Config, ConfigErrors> {
    let variable = |_: &str| Some(variable.to_owned());
    let outside = Outside { variable: &variable, account: &|_, _| Ok(()), readable_by_others: true };
    from_text(Path::new("hostprobe.toml"), text, &outside)
}

/// Reads the text of a file of variables; the errors are lines.
pub fn environment(text: &str) -> Result<Vec<(String, String)>, Vec<usize>> {
    environment_file::parse(text).map_err(|wrong| wrong.into_iter().map(|(line, _)| line).collect())
}
