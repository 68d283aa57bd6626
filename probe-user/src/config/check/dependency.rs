//! Dependencies between services: names become ids, and cycles are refused.

use toml::Spanned;

use crate::{
    config::{
        error::Findings,
        file,
        nearest::nearest,
        service::Service,
        values::{Table, quote},
    },
    fact::ServiceId,
};

/// Resolves the names in `depends_on`; `written` and `services` are in the same order.
pub(super) fn resolve(
    written: &[Spanned<Table<file::Service>>],
    services: &mut [Service],
    found: &mut Findings,
) {
    let names: Vec<String> = services.iter().map(|service| service.name.clone()).collect();
    for (service, written) in services.iter_mut().zip(written) {
        for dependency in &written.get_ref().0.depends_on {
            let name = dependency.get_ref();
            let Some(index) = names.iter().position(|known| known == name) else {
                let near =
                    nearest(name, names.iter().map(String::as_str).filter(|known| *known != service.name));
                let hint = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
                let name = quote(name);
                let message =
                    format!("unknown service {name}{hint}; expected the name of a service in this file");
                found.error(dependency.span(), message);
                continue;
            };
            let id = ServiceId(index as u32);
            if !service.depends_on.contains(&id) {
                service.depends_on.push(id);
            }
        }
    }
    for cycle in cycles(services) {
        let Some(&last) = cycle.last() else { continue };
        let first = &services[cycle[0]].name;
        let place = written[last]
            .get_ref()
            .0
            .depends_on
            .iter()
            .find(|dependency| dependency.get_ref() == first)
            .map_or(0..0, Spanned::span);
        let path: Vec<&str> = cycle.iter().map(|&index| services[index].name.as_str()).collect();
        let message = format!(
            "a dependency cycle: {} → {first}; expected no service to depend on itself, even through others",
            path.join(" → ")
        );
        found.error(place, message);
    }
}

/// Services that depend on one another in a ring, each ring once; no recursion, so that a long chain of
/// services cannot exhaust the stack.
fn cycles(services: &[Service]) -> Vec<Vec<usize>> {
    let mut done = vec![false; services.len()];
    let mut cycles = Vec::new();
    for start in 0..services.len() {
        // The way from `start`, each with the number of its dependencies that were followed already.
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((at, followed)) = way.last_mut() {
            let at = *at;
            let next = services[at].depends_on.get(*followed).map(|id| id.0 as usize);
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
