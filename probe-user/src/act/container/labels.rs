//! Containers that ask by their labels to be services.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{
    Containers,
    model::{Description, TEXT_MAX, bounded},
};
use crate::{
    config::{Config, ContainerOptions},
    fact::{LABEL_PREFIX, LabelledContainer},
    host::ProcReader,
};

/// The label without which the others say nothing. Its value is "true".
const ENABLE: &str = "hostprobe.enable";

/// The most containers that are looked at, and the most labels of one.
const CONTAINERS_MAX: usize = 256;
const LABELS_MAX: usize = 32;

/// All engines together.
const PATIENCE: Duration = Duration::from_secs(10);

/// Adds the services that containers ask for, if the configuration has them discovered, and returns those containers. What
/// is wrong with labels is logged.
pub async fn add_labelled(
    config: &mut Config,
    running: Option<&Config>,
    reader: &ProcReader,
) -> Vec<LabelledContainer> {
    if !config.containers.discover {
        return Vec::new();
    }
    let found = labelled(&config.containers, reader).await;
    for wrong in config.add_labelled(&found, running) {
        tracing::warn!("{wrong}");
    }
    found
}

/// The containers that ask to be services, in the order of their names.
pub async fn labelled(options: &ContainerOptions, reader: &ProcReader) -> Vec<LabelledContainer> {
    let containers = Containers::new(options, reader);
    tokio::time::timeout(PATIENCE, containers.labelled()).await.unwrap_or_default()
}

impl Containers {
    async fn labelled(&self) -> Vec<LabelledContainer> {
        let mut found = BTreeMap::new();
        for engine in &self.engines {
            if engine.identify().await.is_err() {
                continue;
            }
            let names = engine.labelled(ENABLE).await.unwrap_or_default();
            let names = names.into_iter().filter(|name| is_name(name)).take(CONTAINERS_MAX);
            for name in names {
                if let Ok(described) = engine.describe(&name).await
                    && let Some(labels) = labels(&described)
                {
                    let address = address(&described);
                    let (engine, runs) = (engine.kind(), described.state.status == "running");
                    let labelled = LabelledContainer { engine, name, labels, runs, address };
                    found.entry(labelled.name.clone()).or_insert(labelled);
                }
            }
        }
        found.into_values().collect()
    }
}

/// Whether it is a name, which becomes a part of a path.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= TEXT_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn labels(described: &Description) -> Option<BTreeMap<String, String>> {
    let all = &described.config.labels;
    if all.get(ENABLE).is_none_or(|value| value != "true") {
        return None;
    }
    let own = all.iter().filter_map(|(label, value)| Some((label.strip_prefix(LABEL_PREFIX)?, value)));
    let own = own.take(LABELS_MAX);
    Some(own.map(|(key, value)| (bounded(key, 64), bounded(value, 2 * TEXT_MAX))).collect())
}

fn address(described: &Description) -> Option<IpAddr> {
    let settings = &described.network_settings;
    let networks = settings.networks.values().map(|network| network.ip_address.as_str());
    std::iter::once(settings.ip_address.as_str()).chain(networks).find_map(|text| text.parse().ok())
}
