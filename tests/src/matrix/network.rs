//! Another host is no longer heard.

use super::{
    judge::Expected,
    row::{Measured, Row},
    scene::{Scene, Service},
};
use crate::{
    http::free_port,
    network::{self, Peer},
    parts::{Redis, built, require, require_root},
};

const REMOTE: &str = "remote";

const APP: &str = "app";

pub(super) const ROWS: &[Row] = &[
    Row {
        number: "18a",
        fault: "peer in another network namespace blackholed",
        verdicts: &["network"],
        action: "alert",
        run: blackholed,
    },
    Row {
        number: "18b",
        fault: "the same under a local app",
        verdicts: &["network"],
        action: "alert",
        run: blackholed_under_an_app,
    },
];

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

fn blackholed_under_an_app(row: &Row) -> Option<Measured> {
    if !require_root() || !require("redis-server", Redis::PROGRAM) || !network::enter() {
        return None;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let redis = |port: u16| {
        let mut redis = Redis::command(port, folder.path());
        redis.extend(["--bind", "0.0.0.0", "--protected-mode", "no"].map(str::to_owned));
        redis
    };
    let peer = Peer::connect_to(redis, "Ready to accept connections");
    let port = free_port();
    let mut command = vec![built("app").display().to_string()];
    command.extend(["--port", &port.to_string(), "--redis", &peer.port.to_string()].map(str::to_owned));
    command.extend(["--at", Peer::ADDRESS].map(str::to_owned));
    // As often as is usual: the kernel needs a second or two to retransmit unacknowledged data.
    let times = "interval = \"1s\"\ntimeout = \"900ms\"\nfailures = 4";
    let scene = Scene::start(&[Service::exec(APP, &command, port).times(times)]);
    peer.vanish();
    let found = scene.verdict(APP, "network");
    scene.more_probes();
    peer.come_back();
    if found.is_some() {
        scene.healed(APP);
    }
    scene.more_probes();
    let named = vec![Peer::ADDRESS.to_owned()];
    let alerts = Some(&[APP][..]);
    let expected = Expected { service: APP, alerts, named, resolved: true, ..Expected::default() };
    Some(scene.judge(row, &expected))
}
