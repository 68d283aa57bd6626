//! Where the event stream goes, and how its files rotate.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    exec::least_output_max,
    value::{time, whole},
};
use crate::{
    config::{daemon::Config, error::Findings, file::Events, output::EventOutput, spanned::Spanned},
    rotated_file::Rotation,
};

const AGE: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(3650 * 24 * 3600);

pub(super) fn outputs(events: &Events, found: &mut Findings) -> Vec<EventOutput> {
    let Some(given) = &events.output else { return Config::default().events };
    let outputs = &given.get_ref().0;
    if outputs.is_empty() {
        found.error(given.span(), "`output` is empty; expected at least one output".to_owned());
    }
    let twice = outputs.iter().enumerate().find(|(nth, output)| outputs[..*nth].contains(output));
    if let Some((_, twice)) = twice {
        found.error(given.span(), format!("`output` has {twice} twice; expected each output once"));
    }
    outputs.clone()
}

pub(super) fn rotation(events: &Events, found: &mut Findings) -> Rotation {
    let defaults = Config::default().event_files;
    let keep = whole(&events.output_keep, "output_keep", 0..=1000, found).unwrap_or(defaults.keep);
    let compress = events.output_compress.as_ref();
    if let Some(compress) = compress.filter(|compress| *compress.get_ref() && keep < 2) {
        found.warn(
            compress.span(),
            "the newest old file is never compressed, so this needs an `output_keep` of 2 or more",
        );
    }
    Rotation {
        max_bytes: events.output_max.as_ref().map_or(defaults.max_bytes, |max| least_output_max(max, found)),
        max_age: time(&events.output_age, "output_age", AGE, found),
        keep,
        compress: compress.map(Spanned::get_ref).is_some_and(|compress| *compress),
    }
}
