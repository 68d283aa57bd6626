//! The events from which the engine's decisions can be replayed.

use super::{Renderer, clipped, redact, room};
use crate::{
    clock::Timestamp,
    emit::wire::{self, Record},
    fact::Observation,
    replay::portable,
};

impl Renderer<'_> {
    pub(super) fn observed(&self, record: &mut Record, seen: Option<&Observation>, at: Timestamp) {
        let mut observation =
            wire::Observation { at_ns: at.as_nanos(), services: Vec::new(), seen: None, clipped: false };
        match seen {
            None => record.message = "the engine does what is due".to_owned(),
            Some(seen) => {
                let about = seen.service();
                let whose = about.map_or("the host", |id| self.names.service(id));
                record.message = format!("the engine takes in of {whose}: {}", portable::words(seen));
                record.service = about.map(|id| self.service(id));
                let (mut seen, names) = portable::named(seen.clone(), |id| self.names.service(id).to_owned());
                let room = self.fit(room::COMMAND_LINE);
                let cut = portable::shorten(&mut seen, self.fit(room::ITEMS), |text| {
                    *text = clipped(&redact(text), room);
                });
                observation.services = names;
                observation.clipped = cut || self.halvings > 0;
                // It has no maps but those of its own fields, so it cannot fail; a replay would say so.
                observation.seen = Some(serde_json::to_value(seen).unwrap_or_default());
            }
        }
        record.observation = Some(observation);
    }
}
