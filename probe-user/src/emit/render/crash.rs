//! Where a process crashed.

use super::{Renderer, room};
use crate::{
    emit::wire,
    fact::{CrashSite, MemoryAccess},
};

impl Renderer<'_> {
    pub(super) fn crash(&self, site: &CrashSite) -> wire::Crash {
        let place = site.place();
        let hexadecimal = |value: u64| format!("{value:#x}");
        let instruction = place.and_then(|place| place.offset.or(place.address)).map(hexadecimal);
        let lines = site.lines().take(self.fit(room::ITEMS)).map(|line| self.text(&line, room::MESSAGE));
        wire::Crash {
            summary: self.text(&site.words(), room::MESSAGE),
            address: site.address.map(hexadecimal),
            access: site.access.map(|access| match access {
                MemoryAccess::Read => wire::MemoryAccess::Read,
                MemoryAccess::Write => wire::MemoryAccess::Write,
                MemoryAccess::Execute => wire::MemoryAccess::Execute,
            }),
            instruction,
            module: place.and_then(|it| it.module.as_ref()).map(|path| self.text(path, room::PATH)),
            build_id: place.and_then(|it| it.build_id.as_ref()).map(|id| self.foreign_name(id)),
            symbol: place.and_then(|it| it.symbol.as_ref()).map(|name| self.text(name, room::MESSAGE)),
            line: place.and_then(|it| it.line.as_ref()).map(|line| self.text(line, room::MESSAGE)),
            runtime: site.runtime.as_ref().map(|name| self.foreign_name(name)),
            core: site.core.as_ref().map(|file| self.text(file, room::PATH)),
            stack: (!site.stack.is_empty()).then(|| lines.collect()),
        }
    }
}
