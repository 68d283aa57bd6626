//! What a service uses of the resources whose growth is watched: the lowest and the highest of many samples.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Timestamp,
    fact::{ProcessKey, Resource, ResourceLevel, Share},
    host::Ceiling,
};

/// Another limit takes the place of the one that was the tightest if its share is this many times as large: a growth is
/// measured against one limit.
const TIGHTER: f64 = 1.1;

#[derive(Default)]
pub(super) struct Levels {
    current: BTreeMap<Resource, ResourceLevel>,
    /// The limit of each resource in the samples before.
    limits: BTreeMap<Resource, String>,
    /// The process, and when its samples were taken the last time.
    taken: Option<(ProcessKey, Timestamp)>,
}

impl Levels {
    /// Adds a sample of memory, descriptors and threads, each with all of its limits.
    pub(super) fn add(&mut self, [memory, fds, threads]: [Vec<Ceiling>; 3]) {
        for (resource, ceilings) in
            [(Resource::Memory, memory), (Resource::Fds, fds), (Resource::Threads, threads)]
        {
            let limit = self.limits.get(&resource).map(String::as_str);
            if let Some(Ceiling { limit, used, most }) = tightest(&ceilings, limit).cloned() {
                self.add_one(resource, limit, used, most);
            }
        }
    }

    pub(super) fn on_connections(&mut self, Share { used, most }: Share) {
        self.add_one(Resource::Connections, "the server's own limit".to_owned(), used, most);
    }

    fn add_one(&mut self, resource: Resource, limit: String, used: u64, ceiling: u64) {
        if self.limits.get(&resource) != Some(&limit) {
            self.current.remove(&resource);
            self.limits.insert(resource, limit.clone());
        }
        let begin = || ResourceLevel { resource, lowest: used, highest: used, ceiling, limit };
        let level = self.current.entry(resource).or_insert_with(begin);
        level.lowest = level.lowest.min(used);
        level.highest = level.highest.max(used);
        level.ceiling = ceiling;
    }

    /// The levels since the last call, if that was `every` ago. Those of an earlier process are dropped.
    pub(super) fn take(
        &mut self,
        main: ProcessKey,
        every: Duration,
        now: Timestamp,
    ) -> Option<Vec<ResourceLevel>> {
        match self.taken {
            Some((process, at)) if process == main => {
                if now.since(at) < every {
                    return None;
                }
                self.taken = Some((main, now));
                let levels = std::mem::take(&mut self.current);
                (!levels.is_empty()).then(|| levels.into_values().collect())
            }
            Some(_) | None => {
                self.current.clear();
                self.taken = Some((main, now));
                None
            }
        }
    }
}

/// The limit of which the largest share is used. The one that was it stays it unless another one is much tighter.
pub(super) fn tightest<'c>(ceilings: &'c [Ceiling], before: Option<&str>) -> Option<&'c Ceiling> {
    let largest = |ceilings: &mut dyn Iterator<Item = &'c Ceiling>| {
        ceilings.max_by(|a, b| a.percent().total_cmp(&b.percent()))
    };
    let most = largest(&mut ceilings.iter())?;
    let known = largest(&mut ceilings.iter().filter(|ceiling| Some(ceiling.limit.as_str()) == before));
    known.filter(|known| most.percent() < TIGHTER * known.percent()).or(Some(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(limit: &str, used: u64, most: u64) -> Ceiling {
        Ceiling { limit: limit.to_owned(), used, most }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn many_samples_are_one_level_and_another_process_begins_again() {
        let (mut levels, every) = (Levels::default(), Duration::from_secs(60));
        let key = |pid| ProcessKey { pid, start: at(1) };
        let add =
            |levels: &mut Levels, fds| levels.add([Vec::new(), vec![ceiling("fd", fds, 100)], Vec::new()]);
        add(&mut levels, 1);
        assert_eq!(levels.take(key(5), every, at(100)), None, "it has just begun");
        for fds in [7, 3, 9] {
            add(&mut levels, fds);
            assert_eq!(levels.take(key(5), every, at(130)), None);
        }
        levels.on_connections(Share { used: 4, most: 50 });
        let taken = levels.take(key(5), every, at(160)).unwrap();
        let words: Vec<_> = taken.iter().map(|it| (it.resource, it.lowest, it.highest, it.ceiling)).collect();
        assert_eq!(words, [(Resource::Fds, 3, 9, 100), (Resource::Connections, 4, 4, 50)]);
        add(&mut levels, 50);
        assert_eq!(levels.take(key(6), every, at(300)), None);
        assert_eq!(levels.take(key(6), every, at(400)), None, "nothing was sampled of it");
    }

    #[test]
    fn the_tightest_limit_stays_it_until_another_one_is_much_tighter() {
        let near = [ceiling("a", 50, 100), ceiling("b", 52, 100)];
        assert_eq!(tightest(&near, None).unwrap().limit, "b");
        assert_eq!(tightest(&near, Some("a")).unwrap().limit, "a");
        let far = [ceiling("a", 50, 100), ceiling("b", 90, 100)];
        assert_eq!(tightest(&far, Some("a")).unwrap().limit, "b");
        assert_eq!(tightest(&[], Some("a")), None);
    }
}
