//! The shape of the configuration file: every key there is, with its place, before anything is checked.
//!
//! The comments at the keys are what editors show, with units, ranges and defaults.
//! Every key is optional here, so that a missing one is reported by the checks, which know what it means.

use std::{collections::BTreeMap, time::Duration};

use super::{
    alert::AlertKeys,
    container::ContainerKeys,
    daemon::OnExit,
    exec::{SoftAndHard, Umask, resource_names},
    fleet::FleetKeys,
    maintenance::Window,
    output::EventOutput,
    protocol::ProbeKeys,
    served::ServedTlsKeys,
    spanned::Spanned,
    switch::{ByPattern, OrOff, Percent, Time},
    template::Template,
    values::{At, Backoff, Budget, OneOrSeveral, Size, Table, Text, Whole},
};
use crate::fact::{ContainerEngine, HookEvent, OnCleanExit, Response, Verdict};
use rustix::process::Signal;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The event stream.
    pub(super) events: Option<Table<Events>>,
    /// Health, metrics and the API over HTTP.
    pub(super) http: Option<Table<Http>>,
    /// The Unix socket of `hostprobe status`, `stop`, `pause`, `reload` and the like.
    pub(super) control: Option<Table<Control>>,
    /// The kernel side's buffers.
    pub(super) kernel: Option<Table<Kernel>>,
    /// What is written down of a service that hangs, before its restart.
    pub(super) snapshots: Option<Table<Snapshots>>,
    /// What outlives the daemon.
    pub(super) state: Option<Table<State>>,
    /// The services under `exec` when the daemon ends.
    pub(super) supervisor: Option<Table<Supervisor>>,
    /// What holds for the restarts of all services together.
    pub(super) restart: Option<Table<AllRestarts>>,
    /// The checks of the host itself.
    pub(super) host: Option<Table<Host>>,
    /// The container engines.
    pub(super) containers: Option<Table<ContainerKeys>>,
    /// What holds for all services that do not say otherwise.
    pub(super) defaults: Option<Table<Defaults>>,
    /// What says elsewhere that this daemon lives.
    pub(super) heartbeat: At<Table<OutwardHeartbeat>>,
    /// What hosts tell each other over NATS.
    pub(super) fleet: At<Table<FleetKeys>>,
    /// The receivers of alerts.
    #[serde(default)]
    pub(super) alert: Vec<Spanned<Table<AlertKeys>>>,
    /// The user's own programs that run at events.
    #[serde(default)]
    pub(super) hook: Vec<Spanned<Table<Hook>>>,
    /// The services.
    #[serde(default)]
    pub(super) service: Vec<Spanned<Table<Service>>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    /// Where the event stream goes, once or as a list: "-" for standard output, the absolute path of a file, which is rotated,
    /// "unix:/path" for a Unix socket, "tcp:host:port", or "journald"; "-" if not given.
    pub(super) output: At<OneOrSeveral<EventOutput>>,
    /// Size at which a file is rotated, at least 64KiB; "100MiB" if not given.
    pub(super) output_max: At<Text<Size>>,
    /// Age at which a file is rotated, with the first event after it: 1m to 3650d; no limit if not given.
    pub(super) output_age: At<Text<Duration>>,
    /// How many old files are kept: 0 to 1000; 3 if not given.
    #[schemars(range(min = 0, max = 1000))]
    pub(super) output_keep: At<Whole>,
    /// Whether old files are compressed as zstd does it, but for the newest; false if not given.
    pub(super) output_compress: At<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    /// IP address and port; "" turns HTTP off; "127.0.0.1:9464" if not given.
    pub(super) listen: At<String>,
    /// The http or https address at which people reach it, for links in alerts; that of `listen` if not given.
    #[schemars(regex(pattern = "^https?://"))]
    pub(super) public_url: At<String>,
    /// The certificate that is shown to clients, which then ask over https; plain http if not given. Beyond loopback it is
    /// needed. The files are read again when they change.
    pub(super) tls: At<Table<ServedTlsKeys>>,
    /// A file of the token that clients have to bring along, of at least 16 characters; every client is answered if not given.
    /// Beyond loopback it is needed. The file is read again when it changes.
    #[schemars(regex(pattern = "^/"))]
    pub(super) token_file: At<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    /// Absolute path of the socket, at most 107 bytes; "" turns it off; "/run/hostprobe/control.sock" if not given.
    #[schemars(regex(pattern = "^(?:$|/)"), length(max = 107))]
    pub(super) socket: At<String>,
    /// A group whose members may use the socket too; none if not given.
    #[schemars(length(min = 1))]
    pub(super) group: At<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    /// Size of the ring buffer that wakes the daemon at once: a power of two from 64KiB to 256MiB; "256KiB" if not given.
    pub(super) urgent_ring: At<Text<Size>>,
    /// Size of the ring buffer that is read about once a second: a power of two from 64KiB to 256MiB; "1MiB" if not given.
    pub(super) bulk_ring: At<Text<Size>>,
    /// Deaths outside of all services that are reported a second, per cgroup: 0 to 1000000; 50 if not given.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(super) unwatched_exits_per_second: At<Whole>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshots {
    /// The folder they are written to; "/var/lib/hostprobe/snapshots" if not given.
    #[schemars(regex(pattern = "^/"))]
    pub(super) directory: At<String>,
    /// How many are kept, the newest: 1 to 10000; 32 if not given.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) keep: At<Whole>,
    /// Whether the calls of all threads are shown, for which some are stopped for a moment; true if not given.
    pub(super) stacks: At<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The folder of the state; "/var/lib/hostprobe" if not given.
    #[schemars(regex(pattern = "^/"))]
    pub(super) directory: At<String>,
    /// Size of the recording for `hostprobe replay`, at least 1MiB; "" or "0" for none; "64MiB" if not given.
    pub(super) recording: At<String>,
    /// How long incidents are kept after their end, and what services did: 1h to 3650d; "90d" if not given.
    pub(super) keep: At<Text<Duration>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Supervisor {
    /// What services under `exec` do when the daemon ends: "leave" has them run on for the next daemon, "stop" ends them;
    /// "leave" under a service manager and "stop" otherwise if not given.
    pub(super) on_exit: Option<Text<OnExit>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AllRestarts {
    /// Restarts of all services together that are allowed within a time; further ones wait; "20 per 10m" if not given.
    pub(super) budget: Option<Text<Budget>>,
}

/// The checks of the host itself. `false` turns a check off.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Host {
    /// File systems by the pattern of their mount points, with `*` for any characters; the longest that matches counts. "*"
    /// stands for all others on disks and servers.
    pub(super) filesystems: Option<OrOff<ByPattern<FileSystem>>>,
    /// Percent of the memory that is not available, for a minute; 95 if not given.
    pub(super) memory_percent: Option<OrOff<Percent>>,
    /// Percent of the time that all tasks wait for memory (PSI), for a minute; 20 if not given.
    pub(super) memory_pressure_percent: Option<OrOff<Percent>>,
    /// Percent of the time that some task waits for a CPU (PSI), for five minutes; false if not given.
    pub(super) cpu_pressure_percent: Option<OrOff<Percent>>,
    /// Percent of the time that all tasks wait for a disk (PSI), for five minutes; false if not given.
    pub(super) io_pressure_percent: Option<OrOff<Percent>>,
    /// Percent of the CPU time that the hypervisor gives to others, for five minutes; 30 if not given.
    pub(super) cpu_steal_percent: Option<OrOff<Percent>>,
    /// Percent of the processes and threads that there can be; 85 if not given.
    pub(super) pids_percent: Option<OrOff<Percent>>,
    /// Percent of the files that can be open; 85 if not given.
    pub(super) files_percent: Option<OrOff<Percent>>,
    /// Percent of the connections that can be tracked; 85 if not given.
    pub(super) conntrack_percent: Option<OrOff<Percent>>,
    /// Percent of the local ports that connections to one address can use; 85 if not given.
    pub(super) ports_percent: Option<OrOff<Percent>>,
    /// Percent of the entries that the neighbour table can have; 90 if not given.
    pub(super) neighbours_percent: Option<OrOff<Percent>>,
    /// Percent of the time that a CPU is slowed down by heat, for five minutes; 30 if not given.
    pub(super) thermal_percent: Option<OrOff<Percent>>,
    /// The error of a clock that is kept right, by its own estimate, and by how much it may be set; "500ms" if not given.
    pub(super) clock_offset: Option<OrOff<Time>>,
    /// Whether it is an incident that a clock that was kept right is not any more; true if not given.
    pub(super) clock_sync: Option<bool>,
    /// Whether a start of the host without a shutdown before it is an incident; true if not given.
    pub(super) reboot: Option<bool>,
    /// Whether tasks that have not run for minutes are, by the kernel's word; true if not given.
    pub(super) hung_tasks: Option<bool>,
    /// Whether failed reads and writes of disks are; true if not given.
    pub(super) block_errors: Option<bool>,
    /// Whether errors that file systems find in themselves are; true if not given.
    pub(super) fs_errors: Option<bool>,
    /// Whether memory errors of the hardware are; true if not given.
    pub(super) memory_errors: Option<bool>,
}

/// The limits of a file system. `false` turns one off.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FileSystem {
    /// Percent of its space that is used, as df shows it; 90 if not given.
    pub(super) percent: Option<OrOff<Percent>>,
    /// Percent of its inodes that are used; 95 if not given.
    pub(super) inodes_percent: Option<OrOff<Percent>>,
    /// It is to be full no sooner than this at its steady rate of an hour; "4h" if not given.
    pub(super) time_to_full: Option<OrOff<Time>>,
    /// Whether it is an incident that it becomes read-only; true if not given.
    pub(super) read_only: Option<bool>,
}

/// What holds for all services that do not say otherwise.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    /// For all probes.
    pub(super) probe: Option<Table<ProbeDefaults>>,
    /// For all restarts.
    pub(super) restart: Option<Table<RestartDefaults>>,
    /// For all services on this host.
    pub(super) limits: At<Table<Limits>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeDefaults {
    /// From the start of one run to the start of the next: 100ms to 24h; "10s" if not given.
    pub(super) interval: At<Text<Duration>>,
    /// A run that takes longer has failed: 1ms to 1h; "5s" if not given.
    pub(super) timeout: At<Text<Duration>>,
    /// Failures in a row before probes alone count as a fault: 1 to 1000; 3 if not given.
    #[schemars(range(min = 1, max = 1000))]
    pub(super) failures: At<Whole>,
    /// An answer that takes longer makes the service slow: 1ms to 1h; no limit if not given.
    pub(super) slow: At<Text<Duration>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestartDefaults {
    /// Whether hostprobe may restart the service; true with `exec`, else false, if not given.
    pub(super) enabled: At<bool>,
    /// Whether a main process that ends with code 0, or because another process asked it to, is restarted ("always") or counts
    /// as stopped ("never"); "always" if not given.
    pub(super) on_clean_exit: Option<Text<OnCleanExit>>,
    /// Restarts that are allowed within a time; "5 per 10m" if not given.
    pub(super) budget: Option<Text<Budget>>,
    /// The wait before the second restart in a row, which doubles each time, and the longest wait; "1s..5m" if not given.
    pub(super) backoff: Option<Text<Backoff>>,
    /// After a start, failed probes do not count for this long; "30s" if not given.
    pub(super) grace: Option<Text<Duration>>,
}

/// A dead man's switch elsewhere, which notices the silence of this daemon.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OutwardHeartbeat {
    /// The http or https address that is asked while the daemon's loop works. `${NAME}` stands for a variable of the environment.
    #[schemars(required)]
    pub(super) url: At<Text<Template>>,
    /// A file that holds the password of the user in `url`.
    #[schemars(regex(pattern = "^/"))]
    pub(super) password_file: At<String>,
    /// How often: 1s to 24h; "60s" if not given.
    pub(super) interval: At<Text<Duration>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Hook {
    /// What it runs at: "incident.open", "incident.resolve", "restart.before" or "restart.after", one or several.
    #[schemars(required, length(min = 1))]
    pub(super) on: At<Vec<Spanned<Text<HookEvent>>>>,
    /// Only for incidents with one of these verdicts; all if not given.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "enum": Verdict::ALL.map(Verdict::as_str).to_vec()}))]
    pub(super) verdicts: Vec<Spanned<String>>,
    /// Only for these services, with `*` for any characters; all if not given.
    #[serde(default)]
    pub(super) services: Vec<Spanned<String>>,
    /// The program: an absolute path and its arguments; no shell, no PATH. It reads the event as JSON from its standard input.
    #[schemars(required, length(min = 1), extend("prefixItems" = [{"pattern": "^/"}]))]
    pub(super) command: At<Vec<Spanned<String>>>,
    /// A run that takes longer is killed: 100ms to 10m, with "restart.before" to 60s; "30s" if not given.
    pub(super) timeout: At<Text<Duration>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = {
    "output": ["exec"],
    "output_max": ["exec"],
    "output_keep": ["exec", "output_max"],
    "output_stamp": ["exec"],
    "directory": ["exec"],
    "environment": ["exec"],
    "environment_file": ["exec"],
    "user": ["exec"],
    "group": ["exec"],
    "umask": ["exec"],
    "rlimits": ["exec"],
    "stop_signal": ["exec"],
    "stop_timeout": ["exec"],
    "start_after": ["exec"],
    "engine": ["container"]
}, "not" = {"anyOf": [
    {"required": ["unit", "exec"]},
    {"required": ["unit", "match"]},
    {"required": ["exec", "match"]},
    {"required": ["unit", "container"]},
    {"required": ["exec", "container"]},
    {"required": ["match", "container"]}
]}, "anyOf" = [
    {"required": ["unit"]},
    {"required": ["exec"]},
    {"required": ["match"]},
    {"required": ["container"]},
    {"required": ["probe"]}
]))]
pub(super) struct Service {
    /// Its name: 1 to 64 letters, digits, dots, hyphens and underscores, once, and not "host".
    #[schemars(required, regex(pattern = "^(?!host$)[A-Za-z0-9._-]{1,64}$"))]
    pub(super) name: At<String>,
    /// The systemd unit, in full, such as "nginx.service".
    #[schemars(regex(pattern = r"^[^/]+\.service$"))]
    pub(super) unit: At<String>,
    /// A command that hostprobe starts, restarts and ends itself: an absolute path and its arguments; no shell, no PATH.
    #[schemars(length(min = 1), extend("prefixItems" = [{"pattern": "^/"}]))]
    pub(super) exec: At<Vec<Spanned<String>>>,
    /// A container by its name, which its engine's API restarts.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$"))]
    pub(super) container: At<String>,
    /// With `container`: "docker" or "podman"; the one that has it if not given.
    pub(super) engine: At<Text<ContainerEngine>>,
    /// A process that something else starts: each key that is given holds.
    #[serde(rename = "match")]
    pub(super) matcher: At<Table<Matcher>>,
    /// With `exec`: the file its output is appended to; "/var/log/hostprobe/NAME.log" if not given.
    #[schemars(regex(pattern = "^/"))]
    pub(super) output: At<String>,
    /// With `exec`: the size at which that file is rotated, at least 64KiB; never if not given.
    pub(super) output_max: At<Text<Size>>,
    /// With `output_max`: how many old files are kept: 0 to 1000; 3 if not given.
    #[schemars(range(min = 0, max = 1000))]
    pub(super) output_keep: At<Whole>,
    /// With `exec`: whether each line begins with its time; false if not given.
    pub(super) output_stamp: At<bool>,
    /// With `exec`: the folder it runs in; "/" if not given.
    #[schemars(regex(pattern = "^/"))]
    pub(super) directory: At<String>,
    /// With `exec`: variables of its environment. `${NAME}` stands for a variable of the daemon's.
    pub(super) environment: At<BTreeMap<String, Spanned<String>>>,
    /// With `exec`: a file of further variables, a `NAME=value` a line.
    #[schemars(regex(pattern = "^/"))]
    pub(super) environment_file: At<String>,
    /// With `exec`: the name or number of the user it runs as; the daemon's if not given.
    #[schemars(length(min = 1))]
    pub(super) user: At<String>,
    /// With `exec`: the name or number of its group; the user's if not given.
    #[schemars(length(min = 1))]
    pub(super) group: At<String>,
    /// With `exec`: the permissions that its new files do not have, in octal digits; "022" if not given.
    pub(super) umask: At<Text<Umask>>,
    /// With `exec`: the limits of the kernel by the names of prlimit(1), each a number, a size, "unlimited", or a soft and a
    /// hard limit such as "1024:65536". Those in `limits` are of hostprobe.
    #[schemars(extend("propertyNames" = {"enum": resource_names()}))]
    pub(super) rlimits: At<BTreeMap<String, Spanned<SoftAndHard>>>,
    /// With `exec`: the signal that asks it to end; "SIGTERM" if not given.
    pub(super) stop_signal: At<Text<Signal>>,
    /// With `exec`: the time from that signal to SIGKILL, at most 10m; "10s" if not given.
    pub(super) stop_timeout: At<Text<Duration>>,
    /// Names of services without which this one cannot work.
    #[serde(default)]
    pub(super) depends_on: Vec<Spanned<String>>,
    /// With `exec`: names of services that are to be healthy before its first start, for which it waits 5m at most.
    pub(super) start_after: At<Vec<Spanned<String>>>,
    /// Whether its failure makes /health answer 503; true if not given.
    pub(super) critical: Option<bool>,
    /// Times in which restarts and alerts are held, such as "Sun 02:00-04:00 Europe/Berlin" or "daily 03:00-03:15".
    #[serde(default)]
    pub(super) maintenance: Vec<Spanned<Text<Window>>>,
    /// Its probes.
    #[serde(default)]
    pub(super) probe: Vec<Spanned<Table<ProbeKeys>>>,
    /// Whether and how it is restarted.
    pub(super) restart: Option<Table<Restart>>,
    /// Above a limit it is degraded.
    pub(super) limits: At<Table<Limits>>,
    /// What to do where a restart may not help.
    pub(super) policy: Option<Table<Policy>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(super) struct Matcher {
    /// Absolute path of the executable.
    #[schemars(regex(pattern = "^/"))]
    pub(super) exe: At<String>,
    /// A file that holds its pid.
    #[schemars(regex(pattern = "^/"))]
    pub(super) pidfile: At<String>,
    /// A TCP port that it listens on: 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub(super) port: At<Whole>,
    /// Its cgroup, such as "/system.slice/app.service".
    #[schemars(regex(pattern = "^/"))]
    pub(super) cgroup: At<String>,
    /// Id of its container, 12 digits or more, or the name of an LXC or systemd-nspawn container.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]{1,64}$"))]
    pub(super) container: At<String>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Restart {
    /// Whether hostprobe may restart the service; true with `exec`, else false, if not given.
    pub(super) enabled: At<bool>,
    /// Whether a main process that ends with code 0, or because another process asked it to, is restarted ("always") or counts
    /// as stopped ("never"); "always" if not given.
    pub(super) on_clean_exit: Option<Text<OnCleanExit>>,
    /// Restarts that are allowed within a time; "5 per 10m" if not given.
    pub(super) budget: Option<Text<Budget>>,
    /// The wait before the second restart in a row, which doubles each time, and the longest wait; "1s..5m" if not given.
    pub(super) backoff: Option<Text<Backoff>>,
    /// After a start, failed probes do not count for this long; "30s" if not given.
    pub(super) grace: Option<Text<Duration>>,
    /// With `match`: the command that restarts it, an absolute path and its arguments; it has 60s.
    #[schemars(length(min = 1), extend("prefixItems" = [{"pattern": "^/"}]))]
    pub(super) command: At<Vec<Spanned<String>>>,
    /// A command that runs before each restart, an absolute path and its arguments; it has 30s, and the restart follows whatever
    /// its outcome.
    #[schemars(length(min = 1), extend("prefixItems" = [{"pattern": "^/"}]))]
    pub(super) before: At<Vec<Spanned<String>>>,
}

/// What to do about failures: "ignore" (an event only), "alert" or "restart".
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    /// A process of the service died and its main process lives; "alert" if not given.
    pub(super) worker_died: Option<Text<Response>>,
    /// A Redis server is full and refuses writes; "alert" if not given.
    pub(super) memory_full: Option<Text<Response>>,
    /// A database has no connections left; "alert" if not given. "restart" restarts the service that holds most of them.
    pub(super) pool_exhausted: Option<Text<Response>>,
    /// A listener has had no room for more connections for 10s; "alert" if not given.
    pub(super) backlog_full: Option<Text<Response>>,
    /// A resource reaches its limit within `limits.growth`; "alert" if not given. "restart" restarts it in a window of
    /// `maintenance`.
    pub(super) exhausting: At<Text<Response>>,
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Percent of one CPU, above 0; 200 is two CPUs.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1_000_000))]
    pub(super) cpu_percent: At<f64>,
    /// Percent of the memory limit of its cgroup, or of the host's memory: above 0, to 100.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 100))]
    pub(super) memory_percent: At<f64>,
    /// Threads of all its processes: 1 to 4294967295.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub(super) threads: At<Whole>,
    /// Open file descriptors of all its processes: 1 to 4294967295.
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    pub(super) fds: At<Whole>,
    /// Percent of the tightest limit on its threads: `pids.max` of its cgroups, RLIMIT_NPROC, the kernel's: above 0, to 100.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 100))]
    pub(super) threads_percent: At<f64>,
    /// Percent of RLIMIT_NOFILE, of the process that is closest to its own: above 0, to 100.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 100))]
    pub(super) fds_percent: At<f64>,
    /// Memory, descriptors, threads or connections that grow and reach their limit within this time are a fault: 1m to 7d.
    pub(super) growth: At<Text<Duration>>,
}
