//! Dependencies between services, and the order of their starts: names become ids, and cycles are refused.

use std::ops::Range;

use crate::{
    config::{
        error::Findings,
        file,
        nearest::nearest,
        service::Service,
        spanned::Spanned,
        values::{Table, quote},
    },
    fact::ServiceId,
};

/// Resolves the names in `depends_on` and `start_after`; `written` and `services` are in the same order.
pub(super) fn resolve(
    written: &[Spanned<Table<file::Service>>],
    services: &mut [Service],
    found: &mut Findings,
) {
    let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
    for (service, written) in services.iter_mut().zip(written) {
        let written = &written.get_ref().0;
        service.depends_on = ids(&written.depends_on, &service.name, &names, found);
        service.start_after = ids(starts_after(written), &service.name, &names, found);
    }
    refuse_cycles(
        written,
        services,
        |service| &service.depends_on,
        |keys| &keys.depends_on,
        |path| {
            let expected = "expected no service to depend on itself, even through others";
            found.error(path.place, format!("a dependency cycle: {}; {expected}", path.names));
        },
    );
    refuse_cycles(
        written,
        services,
        |service| &service.start_after,
        starts_after,
        |path| {
            let expected = "expected no service to wait for itself, even through others";
            found.error(path.place, format!("a cycle of starts: {}; {expected}", path.names));
        },
    );
}

fn starts_after(keys: &file::Service) -> &[Spanned<String>] {
    keys.start_after.as_ref().map_or(&[], |names| names.get_ref())
}

/// The ids of the services with these names.
fn ids(written: &[Spanned<String>], own: &str, names: &[String], found: &mut Findings) -> Vec<ServiceId> {
    let mut ids = Vec::new();
    for dependency in written {
        let name = dependency.get_ref();
        let Some(index) = names.iter().position(|known| known == name) else {
            let near = nearest(name, names.iter().map(String::as_str).filter(|known| *known != own));
            let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let name = quote(name);
            let message =
                format!("unknown service {name}{hint}; expected the name of a service in this file");
            found.error(dependency.span(), message);
            continue;
        };
        let id = ServiceId(index as u32);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// A cycle: the place that closes it, and the services in it.
struct Cycle {
    place: Range<usize>,
    names: String,
}

fn refuse_cycles(
    written: &[Spanned<Table<file::Service>>],
    services: &[Service],
    next: impl Fn(&Service) -> &[ServiceId],
    keys: impl Fn(&file::Service) -> &[Spanned<String>],
    mut refuse: impl FnMut(Cycle),
) {
    for cycle in cycles(services, next) {
        let Some(&last) = cycle.last() else { continue };
        let first = &services[cycle[0]].name;
        let closing = keys(&written[last].get_ref().0).iter().find(|name| name.get_ref() == first);
        let path: Vec<&str> = cycle.iter().map(|&index| services[index].name.as_str()).collect();
        let names = format!("{} → {first}", path.join(" → "));
        refuse(Cycle { place: closing.map_or(0..0, Spanned::span), names });
    }
}

/// Services that follow one another in a ring, each ring once; no recursion, so that a long chain of services cannot
/// exhaust the stack.
fn cycles(services: &[Service], next: impl Fn(&Service) -> &[ServiceId]) -> Vec<Vec<usize>> {
    let mut done = vec![false; services.len()];
    let mut cycles = Vec::new();
    for start in 0..services.len() {
        // The way from `start`, each with the number of the next ones that were followed already.
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((at, followed)) = way.last_mut() {
            let at = *at;
            let next = next(&services[at]).get(*followed).map(|id| id.0 as usize);
            *followed += 1;
            match next {
                _ if done[at] => {
                    way.pop();
                }
                None => {
                    done[at] = true;
                    way.pop();
                }
                Some(next) => match way.iter().position(|&(index, _)| index == next) {
                    Some(begin) => cycles.push(way[begin..].iter().map(|&(index, _)| index).collect()),
                    None => way.push((next, 0)),
                },
            }
        }
    }
    cycles
}
