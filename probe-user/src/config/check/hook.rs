//! The hooks: their events, verdicts and services, and their programs.

use std::time::Duration;

use super::value::{command, time};
use crate::{
    config::{
        error::Findings,
        file,
        hook::{Hook, matches},
        nearest::nearest,
        spanned::Spanned,
        values::{Table, quote},
    },
    fact::{HookEvent, Verdict},
};

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(600);

/// A restart waits for the program. systemd and the supervisor need the rest of the time that a restart has.
const LONGEST_BEFORE: Duration = Duration::from_secs(60);

const DEFAULT: Duration = Duration::from_secs(30);

pub(super) fn hook(
    written: &Spanned<Table<file::Hook>>,
    services: &[Spanned<Table<file::Service>>],
    found: &mut Findings,
) -> Option<Hook> {
    let place = written.span();
    let Table(written) = written.get_ref();
    let on: Vec<HookEvent> =
        written.on.iter().flat_map(|on| on.get_ref()).map(|event| event.get_ref().0).collect();
    if on.is_empty() {
        let at = written.on.as_ref().map_or(place.clone(), Spanned::span);
        found.error(at, "a hook without an event; expected `on = [\"incident.open\"]` or the like");
    }
    let longest = if on.contains(&HookEvent::RestartBefore) { LONGEST_BEFORE } else { LONGEST };
    let timeout = time(&written.timeout, "timeout", SHORTEST..=longest, found);
    let verdicts = written.verdicts.iter().filter_map(|word| verdict(word, found)).collect();
    for pattern in &written.services {
        if !services.is_empty() && !services.iter().any(|service| is_meant(pattern.get_ref(), service)) {
            let pattern_text = quote(pattern.get_ref());
            found.warn(pattern.span(), format!("{pattern_text}: no [[service]] has such a name"));
        }
    }
    let services = written.services.iter().map(|name| name.get_ref().clone()).collect();
    let Some(words) = &written.command else {
        found.error(place, "a hook without a program; expected `command = [\"/…\"]`");
        return None;
    };
    let command = command(words, "command", found)?;
    Some(Hook { on, verdicts, services, command, timeout: timeout.unwrap_or(DEFAULT) })
}

fn is_meant(pattern: &str, service: &Spanned<Table<file::Service>>) -> bool {
    service.get_ref().0.name.as_ref().is_some_and(|name| matches(pattern, name.get_ref()))
}

fn verdict(word: &Spanned<String>, found: &mut Findings) -> Option<Verdict> {
    let known = Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == word.get_ref());
    if known.is_none() {
        let near = nearest(word.get_ref(), Verdict::ALL.into_iter().map(Verdict::as_str));
        let expected = near.map_or("a verdict such as \"crashed\"".to_owned(), |near| format!("{near:?}"));
        found.error(word.span(), format!("found {}; expected {expected}", quote(word.get_ref())));
    }
    known
}
