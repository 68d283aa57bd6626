//! What is probed, as the configuration of each subject has it, and how many probes have come.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    http::{self, free_port},
    parts::{dnsmasq, grpc_server, nginx, require},
    process::{Running, until},
};

/// Longest wait for a server.
const START: Duration = Duration::from_secs(30);

const BUSYBOX: &str = "/bin/busybox";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Http,
    Tcp,
    Grpc,
    Dns,
    Icmp,
    Exec,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Http, Self::Tcp, Self::Grpc, Self::Dns, Self::Icmp, Self::Exec];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Tcp => "TCP",
            Self::Grpc => "gRPC",
            Self::Dns => "DNS",
            Self::Icmp => "ICMP",
            Self::Exec => "exec",
        }
    }

    /// The prober of blackbox_exporter, and its options.
    pub fn module(self) -> String {
        let (prober, options) = match self {
            Self::Http => ("http", ""),
            Self::Tcp | Self::Exec => ("tcp", ""),
            Self::Grpc => ("grpc", ""),
            Self::Dns => ("dns", ", query_name: host.test, query_type: A"),
            Self::Icmp => ("icmp", ""),
        };
        format!("{{ prober: {prober}, timeout: 1s, {prober}: {{ preferred_ip_protocol: ip4{options} }} }}")
    }
}

/// What is probed; it ends when it is dropped.
#[derive(Debug)]
pub struct Targets {
    kind: Kind,
    /// Of the server, if it has one.
    port: u16,
    folder: TempDir,
    _server: Option<Running>,
}

impl Targets {
    /// Starts what answers in the calling thread's network namespace; None where a package is missing.
    pub fn start(kind: Kind) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("hostprobe-bench-").tempdir().ok()?;
        let port = free_port();
        let server = match kind {
            Kind::Http | Kind::Tcp => Some(web_server(&folder, port)?),
            Kind::Grpc => Some(grpc_server(port, true, None)?),
            Kind::Dns => Some(dnsmasq(port)?),
            Kind::Icmp => None,
            Kind::Exec => {
                require("busybox-static", BUSYBOX).then_some(())?;
                None
            }
        };
        Some(Self { kind, port, folder, _server: server })
    }

    /// The key of hostprobe's probe of the target with this number.
    pub fn hostprobe(&self, number: usize) -> String {
        let Self { port, .. } = self;
        match self.kind {
            Kind::Http => format!("http = \"{}\"", self.address(number)),
            Kind::Tcp => format!("tcp = \"{}\"", self.address(number)),
            Kind::Grpc => format!("grpc = \"grpc://{}\"", self.address(number)),
            Kind::Dns => format!("dns = \"dns://127.0.0.1:{port}/host.test\""),
            Kind::Icmp => format!("icmp = \"{}\"", self.address(number)),
            Kind::Exec => format!("exec = {:?}", self.command()),
        }
    }

    /// The address that blackbox_exporter is given for the target with this number.
    pub fn address(&self, number: usize) -> String {
        let Self { port, .. } = self;
        match self.kind {
            Kind::Http => format!("http://127.0.0.1:{port}/{number}"),
            Kind::Tcp | Kind::Grpc | Kind::Dns | Kind::Exec => format!("127.0.0.1:{port}"),
            Kind::Icmp => format!("127.0.0.{}", number + 1),
        }
    }

    pub fn module(&self) -> String {
        self.kind.module()
    }

    /// The command of a program that leaves a byte for each of its runs.
    pub fn command(&self) -> Vec<String> {
        let file = format!("of={}", self.runs().display());
        let words = [
            BUSYBOX,
            "dd",
            "if=/dev/zero",
            &file,
            "bs=1",
            "count=1",
            "oflag=append",
            "conv=notrunc",
            "status=none",
        ];
        words.map(str::to_owned).to_vec()
    }

    fn runs(&self) -> PathBuf {
        self.folder.path().join("runs")
    }

    /// How many probes have come so far.
    pub fn probes(&self) -> Result<u64> {
        match self.kind {
            Kind::Http | Kind::Tcp | Kind::Grpc => counted("Tcp:", "PassiveOpens"),
            // The question and its answer.
            Kind::Dns => Ok(counted("Udp:", "InDatagrams")? / 2),
            Kind::Icmp => counted("Icmp:", "InEchos"),
            Kind::Exec => Ok(fs::metadata(self.runs()).map_or(0, |runs| runs.len())),
        }
    }
}

fn web_server(folder: &TempDir, port: u16) -> Option<Running> {
    let command = nginx(folder.path(), "web", "daemon off; master_process off;", &nginx::ok(port))?;
    let (program, arguments) = command.split_first()?;
    let server = Running::start(Command::new(program).args(arguments), Signal::KILL);
    until("nginx answers", START, || http::get(port, "/").ok().filter(|(status, _)| *status == 200));
    Some(server)
}

/// A counter of the calling thread's network namespace.
fn counted(protocol: &str, name: &str) -> Result<u64> {
    let text =
        fs::read_to_string("/proc/thread-self/net/snmp").context("cannot read the kernel's counters")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let value = pairs.find_map(|(each, value)| (each == name).then_some(value)?.parse().ok());
    value.with_context(|| format!("the kernel does not count {protocol} {name}"))
}
