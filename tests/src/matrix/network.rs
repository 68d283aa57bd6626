//! Another host is no longer heard.

use super::{
    Expected, Measured, Row,
    scene::{Scene, Service},
};
use crate::{
    network::{self, Peer},
    parts::require_root,
};

const REMOTE: &str = "remote";

pub(super) const ROWS: &[Row] = &[Row {
    number: "18",
    fault: "peer in another network namespace blackholed",
    verdicts: &["network"],
    action: "alert",
    run: blackholed,
}];

fn blackholed(row: &Row) -> Option<Measured> {
    if !require_root() || !network::enter() {
        return None;
    }
    let peer = Peer::connect();
    let probe = format!("http = \"http://{}:{}/health\"", Peer::ADDRESS, peer.port);
    let scene = Scene::start(&[Service::new(REMOTE, "", peer.port).probe(&probe).restart("")]);
    peer.vanish();
    let found = scene.verdict(REMOTE, "network");
    scene.more_probes();
    peer.come_back();
    if found.is_some() {
        scene.healed(REMOTE);
    }
    scene.more_probes();
    let alerts = Some(&[REMOTE][..]);
    let expected = Expected { service: REMOTE, alerts, resolved: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}
