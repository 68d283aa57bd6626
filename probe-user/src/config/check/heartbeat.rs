//! A job that is to report in.

use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

use super::value::{absolute, time};
use crate::config::{
    error::Findings,
    file,
    heartbeat::Heartbeat,
    protocol::ProbeKeys,
    read,
    secret::Secret,
    served::{NO_TOKEN, is_token},
    spanned::Spanned,
    values::{At, Table, quote},
};

const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
const EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=LONGEST;

/// The heartbeat of a probe, if it is right.
pub(super) fn heartbeat(written: &ProbeKeys, found: &mut Findings) -> Option<Heartbeat> {
    let name = written.heartbeat.as_ref()?;
    let text = name.get_ref();
    let right = (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !right {
        let message = format!(
            "found {}; expected a name of 1 to 64 letters (A-Z, a-z), digits, dots, hyphens and underscores",
            quote(text)
        );
        found.error(name.span(), message);
    }
    if written.every.is_none() {
        found
            .error(name.span(), "a heartbeat without `every`; expected the longest time between two reports");
    }
    let every = time(&written.every, "every", EVERY, found);
    let grace = time(&written.grace, "grace", Duration::ZERO..=LONGEST, found);
    let token = token(&written.token_file, found);
    Some(Heartbeat { name: text.clone(), every: every?, grace: grace.unwrap_or_default(), token })
}

fn token(file: &At<String>, found: &mut Findings) -> Option<Secret> {
    let file = file.as_ref()?;
    let path = absolute(file, "the absolute path of a file that holds a token alone", found)?;
    let content = match read::password(&path) {
        Ok(content) => content,
        Err(message) => {
            found.error(file.span(), message);
            return None;
        }
    };
    if !is_token(&content.text) {
        found.error(file.span(), format!("the token in {} {NO_TOKEN}", path.display()));
    }
    if content.readable_by_others {
        let warning = format!("the token file {} may be read by others (chmod 600)", path.display());
        found.warn(file.span(), warning);
    }
    Some(Secret::shown_as(content.text.clone(), "***", vec![content.text]))
}

/// Complains about heartbeats with one name.
pub(super) fn names_differ(services: &[Spanned<Table<file::Service>>], found: &mut Findings) {
    let probes = services.iter().flat_map(|service| &service.get_ref().0.probe);
    let names = probes.filter_map(|probe| probe.get_ref().0.heartbeat.as_ref());
    let mut first: HashMap<&str, usize> = HashMap::new();
    for name in names {
        match first.get(name.get_ref().as_str()) {
            Some(other) => {
                let message = format!(
                    "another heartbeat is named {} already; expected a name of its own",
                    quote(name.get_ref())
                );
                found.error_of_two(name.span(), *other, message);
            }
            None => _ = first.insert(name.get_ref(), name.span().start),
        }
    }
}
