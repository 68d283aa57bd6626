//! Sums of what services do, on their way from what the daemon publishes to the state file.

use std::collections::BTreeSet;

use crate::{
    clock::{self, Timestamp},
    emit::Names,
    engine::ServiceView,
    fact::{Fact, ProbeReport, ServiceId},
    store::{
        rollup::{Collector, Rollup},
        state::StateStore,
    },
};

/// Collects the sums of each minute, and keeps them.
#[derive(Debug)]
pub(super) struct Rollups {
    collector: Collector,
    store: StateStore,
}

impl Rollups {
    pub(super) fn new(store: StateStore) -> Self {
        Self { collector: Collector::new(Timestamp::now(), clock::wall_ahead_of_boot()), store }
    }

    pub(super) fn on_fact(&mut self, fact: &Fact, at: Timestamp) {
        self.collector.on_fact(fact, at);
    }

    pub(super) fn on_probe(&mut self, report: &ProbeReport) {
        self.collector.on_probe(report);
    }

    pub(super) fn on_view(&mut self, view: &ServiceView, now: Timestamp) {
        self.collector.on_view(view, now);
    }

    /// Forgets the services that a reload removed.
    pub(super) fn retain(&mut self, kept: &BTreeSet<ServiceId>) {
        self.collector.retain(kept, Timestamp::now());
    }

    /// Has the sums written once a minute is over.
    pub(super) fn every_second(&mut self, now: Timestamp, names: &Names) {
        if self.collector.tick(now, clock::wall_ahead_of_boot()) {
            self.keep(now, names);
            self.store.flush();
        }
    }

    /// Keeps the sums up to this moment. They are written with the next flush.
    pub(super) fn keep(&mut self, now: Timestamp, names: &Names) {
        let rollup =
            |(service, start, totals)| Rollup { service: names.service(service).to_owned(), start, totals };
        self.store.keep_rollups(self.collector.take(now).map(rollup).collect());
    }
}
