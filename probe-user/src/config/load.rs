//! The way from a file to a [`Config`]: read, parse, check, and give every finding its place.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

use super::{
    check::{self, Outside},
    daemon::Config,
    error::{ConfigErrors, locate, refuse},
    parse, read,
    service::Service,
};
use crate::redact;

impl Config {
    /// Reads and checks a configuration file; on failure says everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let content = read::config(path).map_err(|message| ConfigErrors::whole(path, message))?;
        let variable = |name: &str| std::env::var(name).ok();
        let outside = Outside {
            variable: &variable,
            account: &read::account,
            readable_by_others: content.readable_by_others,
        };
        let mut config = from_text(path, &content.text, &outside)?;
        let secrets = config.secrets();
        let mut hasher = DefaultHasher::new();
        (&content.text, &secrets).hash(&mut hasher);
        for (name, value) in config.services.iter().flat_map(Service::environment) {
            (name, value.expose()).hash(&mut hasher);
        }
        config.fingerprint = hasher.finish();
        redact::remember(secrets);
        Ok(config)
    }
}

pub(super) fn from_text(path: &Path, text: &str, outside: &Outside<'_>) -> Result<Config, ConfigErrors> {
    let file = match parse::parse(text) {
        Ok(file) => file,
        Err(errors) => return Err(refuse(path, text, errors)),
    };
    let (mut config, found) = check::check(&file, outside);
    if !found.errors.is_empty() {
        return Err(refuse(path, text, found.errors));
    }
    config.warnings = locate(path, text, found.warnings).iter().map(ToString::to_string).collect();
    Ok(config)
}

#[cfg(test)]
mod tests;
