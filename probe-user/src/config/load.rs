//! The way from a file to a [`Config`]: read, parse, check, and give every finding its place.

use std::path::Path;

use super::{
    check::{self, Outside},
    daemon::Config,
    error::ConfigErrors,
    file::File,
    parse, read,
    source::Sources,
};
use crate::redact;

impl Config {
    /// Reads and checks a configuration file with those of `conf.d` beside it; on failure says everything that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let (sources, readable_by_others) = read::all(path)?;
        let variable = |name: &str| std::env::var(name).ok();
        let outside = Outside { variable: &variable, account: &read::account, readable_by_others };
        let config = from_sources(&sources, &outside)?;
        redact::remember(config.secrets());
        Ok(config)
    }
}

#[cfg(any(test, fuzzing))]
pub(super) fn from_text(path: &Path, text: &str, outside: &Outside<'_>) -> Result<Config, ConfigErrors> {
    from_sources(&Sources::one(path, text), outside)
}

fn from_sources(sources: &Sources, outside: &Outside<'_>) -> Result<Config, ConfigErrors> {
    let (mut whole, mut errors) = (File::default(), Vec::new());
    for (at, source) in sources.iter().enumerate() {
        match parse::parse(&source.padded(), at > 0) {
            Ok(file) if at == 0 => whole = file,
            Ok(part) => {
                whole.alert.extend(part.alert);
                whole.hook.extend(part.hook);
                whole.service.extend(part.service);
            }
            Err(found) => errors.extend(found),
        }
    }
    if !errors.is_empty() {
        return Err(sources.refuse(errors));
    }
    let (mut config, found) = check::check(&whole, outside);
    if !found.errors.is_empty() {
        return Err(sources.refuse(found.errors));
    }
    config.warnings = sources.locate(found.warnings).iter().map(ToString::to_string).collect();
    Ok(config)
}

#[cfg(test)]
mod tests;
