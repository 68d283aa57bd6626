//! Finds the files that the frames of a stack are in.

use std::time::Instant;

use super::{
    image::{Image, is_build_id},
    names::Place,
    symbolizer::{self, Subject},
};
use crate::{
    fact::{CrashFrame, CrashSite},
    host::mapping::CodeMapping,
};

/// Programs that run the code of a language, by the beginning of their file name.
const RUNTIMES: [(&str, &str); 8] = [
    ("python", "Python"),
    ("node", "Node.js"),
    ("java", "Java"),
    ("ruby", "Ruby"),
    ("php", "PHP"),
    ("perl", "Perl"),
    ("beam.smp", "Erlang"),
    ("dotnet", ".NET"),
];

/// Fills in what an image and the files say about a stack. It blocks until then at most.
pub fn name(site: &mut CrashSite, image: &Image, until: Instant) {
    let mut files = Files { image, found: Vec::new(), until };
    let mut places = Vec::new();
    for (depth, frame) in site.stack.iter_mut().enumerate() {
        if let (Some(file), Some(offset)) = (files.locate(frame), frame.offset) {
            // The others are places that calls return to.
            places.push((depth, Place { file, offset, is_return: depth > 0 }));
        }
    }
    // Where the code keeps no frame pointers, what the kernel follows ends in data.
    if !image.mappings.is_empty() {
        let is_code = |frame: &CrashFrame| frame.module.is_some() || frame.build_id.is_some();
        let last = site.stack.iter().rposition(is_code).unwrap_or_default();
        site.stack.truncate(last + 1);
    }
    let program = image.program_path().and_then(|path| path.rsplit('/').next());
    let runtime = RUNTIMES.iter().find(|(prefix, _)| program.is_some_and(|it| it.starts_with(prefix)));
    site.runtime = runtime.map(|(_, runtime)| (*runtime).to_owned());
    if places.is_empty() {
        return;
    }
    let subjects: Vec<_> = files.found.into_iter().map(|found| found.subject).collect();
    let (depths, places): (Vec<_>, Vec<_>) = places.into_iter().unzip();
    let reply = symbolizer::names(&subjects, places, until);
    if reply.is_go {
        site.runtime = Some("Go".to_owned());
    }
    for (depth, name) in depths.into_iter().zip(reply.names) {
        if let Some(frame) = site.stack.get_mut(depth) {
            (frame.symbol, frame.line) = (name.symbol, name.line);
        }
    }
}

/// The files that were opened so far.
struct Files<'a> {
    image: &'a Image,
    found: Vec<Found>,
    until: Instant,
}

struct Found {
    path: String,
    build_id: Option<String>,
    subject: Subject,
}

impl Files<'_> {
    /// Finds the file of a frame, and completes the frame. The index of the file, if it could be opened.
    fn locate(&mut self, frame: &mut CrashFrame) -> Option<usize> {
        match (&frame.build_id, frame.offset, frame.address) {
            (Some(build_id), Some(offset), _) => {
                let index = self.with_build_id(build_id, offset)?;
                let found = self.found.get(index)?;
                frame.module = Some(found.path.clone());
                frame.build_id.clone_from(&found.build_id);
                Some(index)
            }
            (None, _, Some(address)) => {
                let mapping = self.image.at(address)?;
                frame.module = Some(mapping.path.clone());
                frame.offset = (address - mapping.range.start).checked_add(mapping.offset);
                let index = self.open(mapping, None)?;
                frame.build_id.clone_from(&self.found.get(index)?.build_id);
                Some(index)
            }
            (Some(_), None, _) | (None, _, None) => None,
        }
    }

    fn with_build_id(&mut self, build_id: &str, offset: u64) -> Option<usize> {
        let has_it = |found: &Found| found.build_id.as_deref().is_some_and(|it| is_build_id(it, build_id));
        if let Some(index) = self.found.iter().position(has_it) {
            return Some(index);
        }
        let covering = self.image.mappings.iter().filter(|mapping| mapping.covers(offset));
        for mapping in covering {
            if Instant::now() >= self.until {
                return None;
            }
            if let Some(index) = self.open(mapping, Some(build_id)) {
                return Some(index);
            }
        }
        None
    }

    fn open(&mut self, mapping: &CodeMapping, wanted: Option<&str>) -> Option<usize> {
        let is_same = |found: &Found| {
            let fits = |wanted| found.build_id.as_deref().is_some_and(|it| is_build_id(it, wanted));
            found.path == mapping.path && wanted.is_none_or(fits)
        };
        if let Some(index) = self.found.iter().position(is_same) {
            return Some(index);
        }
        let (file, build_id) = self.image.open(mapping, wanted)?;
        let debug = build_id.as_deref().and_then(|build_id| self.image.open_debug(build_id));
        let subject = Subject { file, debug };
        self.found.push(Found { path: mapping.path.clone(), build_id, subject });
        Some(self.found.len() - 1)
    }
}
