//! The way from a file to a [`Config`]: read, parse, check, and give every finding its place.

use std::path::Path;

use super::{
    check::{self, Outside},
    daemon::Config,
    error::ConfigErrors,
    file::File,
    left_out::LeftOut,
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
    let (mut whole, mut errors, mut left_out) = (File::default(), Vec::new(), LeftOut::default());
    for (at, source) in sources.iter().enumerate() {
        let parsed = parse::parse(&source.padded(), at > 0);
        errors.extend(parsed.errors);
        left_out.add(parsed.left_out);
        if at == 0 {
            whole = parsed.file;
        } else {
            whole.alert.extend(parsed.file.alert);
            whole.hook.extend(parsed.file.hook);
            whole.service.extend(parsed.file.service);
        }
    }
    // What is left can be wrong as well. But where something was taken out, an error may be for what is missing.
    if !errors.is_empty() && left_out.is_too_much() {
        return Err(sources.refuse(errors));
    }
    let (mut config, mut found) = check::check(&whole, outside);
    found.errors.retain(|finding| !left_out.concerns(finding));
    errors.append(&mut found.errors);
    if !errors.is_empty() {
        return Err(sources.refuse(errors));
    }
    config.warnings = sources.locate(found.take_warnings()).iter().map(ToString::to_string).collect();
    Ok(config)
}

#[cfg(test)]
mod tests;
