//! The kernel fields that fill the globals of the eBPF programs, and the hooks that need them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use probe_abi::ABSENT;

use super::{
    btf::{self, Argument, BtfError, KernelTypes, reduce::Names},
    coverage::Hook,
};

/// Where a global's value comes from.
enum Lookup {
    /// Offset of a field, by the first name that exists: kernels rename fields.
    Member(&'static str, &'static [&'static str]),
    Size(&'static str),
    /// Offset of the memory controller's slot in `css_set.subsys`.
    MemoryController,
    /// Offset of one `mm_struct.rss_stat` counter, by its constant.
    Resident(&'static str),
}

use Lookup::{Member, MemoryController, Resident, Size};

/// What a hook loses without a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// The hook is useless.
    Must,
    /// The records lack a detail.
    Should,
    /// The records lack a detail that only some processors have.
    Could,
}

use Hook::{
    BlockError, Cgroup, Exec, Exit, Ext4Error, Fork, HungTask, MachineCheck, MemoryError, Oom, Retransmit,
    Signal, Socket, SocketReport, XfsShutdown,
};
use Need::{Could, Must, Should};

const TASK: &str = "task_struct";
const CSS_SET: &str = "css_set";
const SLOTS: &str = "subsys";
const SUBSYSTEMS: &str = "cgroup_subsys_id";
const MEMORY: &str = "memory_cgrp_id";
const MM: &str = "mm_struct";
const RESIDENT: &str = "rss_stat";
const WRAPPED_MCE: &str = "mce_hw_err";
const WRAPPED_MCE_FIELD: &str = "m";
const MCE: &str = "mce";
const ALL: &[Hook] = &[Exit, Oom, Signal, Fork, Exec, Socket, HungTask];
const PROCESS: &[Hook] = &[Exit, Oom, Signal, Exec];
const NAMED: &[Hook] = &[Exit, Oom, Signal, Exec, HungTask];
const PLACED: &[Hook] = &[Exit, Oom, Exec, Socket, HungTask];
const CGROUP_ID: &[Hook] = &[Exit, Oom, Cgroup, Exec, Socket, SocketReport, HungTask];
const SOCKETS: &[Hook] = &[Socket, SocketReport];
const PEERS: &[Hook] = &[Socket, SocketReport, Retransmit];

/// Name of the global, the lookup of its value, the hooks that use it, and how much they need it.
const FIELDS: &[(&str, Lookup, &[Hook], Need)] = &[
    ("OFF_TASK_TGID", Member(TASK, &["tgid"]), ALL, Must),
    ("OFF_TASK_PID", Member(TASK, &["pid"]), &[Oom, HungTask], Must),
    ("OFF_TASK_GROUP_LEADER", Member(TASK, &["group_leader"]), ALL, Must),
    ("OFF_TASK_REAL_PARENT", Member(TASK, &["real_parent"]), &[Exit, Exec, Socket], Must),
    ("OFF_TASK_START_BOOTTIME", Member(TASK, &["start_boottime", "real_start_time"]), ALL, Must),
    ("OFF_TASK_COMM", Member(TASK, &["comm"]), NAMED, Must),
    ("OFF_TASK_MM", Member(TASK, &["mm"]), &[Oom, Exec], Must),
    ("OFF_TASK_SIGNAL", Member(TASK, &["signal"]), &[Exit, Oom], Must),
    ("OFF_TASK_THREAD_PID", Member(TASK, &["thread_pid"]), &[Exit, Exec], Should),
    ("OFF_TASK_REAL_CRED", Member(TASK, &["real_cred"]), PROCESS, Should),
    ("OFF_TASK_EXIT_CODE", Member(TASK, &["exit_code"]), &[Exit], Must),
    ("OFF_TASK_CGROUPS", Member(TASK, &["cgroups"]), PLACED, Should),
    ("OFF_CRED_UID", Member("cred", &["uid"]), PROCESS, Should),
    ("OFF_PID_LEVEL", Member("pid", &["level"]), &[Exit, Exec], Should),
    ("OFF_PID_NUMBERS", Member("pid", &["numbers"]), &[Exit, Exec], Should),
    ("OFF_UPID_NR", Member("upid", &["nr"]), &[Exit], Should),
    ("SIZE_UPID", Size("upid"), &[Exit, Exec], Should),
    ("OFF_UPID_NS", Member("upid", &["ns"]), &[Exit, Exec], Should),
    ("OFF_PIDNS_INUM", Member("pid_namespace", &["ns.inum"]), &[Exit, Exec], Should),
    ("OFF_CSS_SET_DFL_CGRP", Member("css_set", &["dfl_cgrp"]), PLACED, Should),
    ("OFF_CSS_SET_MEMORY", MemoryController, PLACED, Should),
    ("OFF_CSS_CGROUP", Member("cgroup_subsys_state", &["cgroup"]), PLACED, Should),
    ("OFF_CSS_PARENT", Member("cgroup_subsys_state", &["parent"]), &[Oom], Should),
    ("OFF_MEM_CGROUP_MAX", Member("mem_cgroup", &["memory.max"]), &[Oom], Should),
    ("OFF_CGROUP_KN", Member("cgroup", &["kn"]), CGROUP_ID, Should),
    ("OFF_CGROUP_ROOT", Member("cgroup", &["root"]), &[Cgroup], Must),
    ("OFF_ROOT_HIERARCHY_ID", Member("cgroup_root", &["hierarchy_id"]), &[Cgroup], Must),
    ("OFF_KERNFS_NODE_ID", Member("kernfs_node", &["id"]), CGROUP_ID, Should),
    ("OFF_SIGNAL_LIVE", Member("signal_struct", &["live"]), &[Exit], Must),
    ("OFF_SIGNAL_FLAGS", Member("signal_struct", &["flags"]), &[Exit], Must),
    ("OFF_SIGNAL_GROUP_EXIT_CODE", Member("signal_struct", &["group_exit_code"]), &[Exit], Must),
    ("OFF_SIGNAL_MAXRSS", Member("signal_struct", &["maxrss"]), &[Exit], Should),
    ("OFF_SIGNAL_OOM_MM", Member("signal_struct", &["oom_mm"]), &[Exit], Should),
    ("OFF_SIGNAL_OOM_SCORE_ADJ", Member("signal_struct", &["oom_score_adj"]), &[Oom], Should),
    ("OFF_MM_RSS_ANON", Resident("MM_ANONPAGES"), &[Oom], Should),
    ("OFF_MM_RSS_FILE", Resident("MM_FILEPAGES"), &[Oom], Should),
    ("OFF_MM_RSS_SHMEM", Resident("MM_SHMEMPAGES"), &[Oom], Should),
    ("OFF_MM_RSS_SWAP", Resident("MM_SWAPENTS"), &[Oom], Should),
    ("OFF_SIGINFO_CODE", Member("kernel_siginfo", &["si_code"]), &[Signal], Must),
    ("OFF_TASK_SIGHAND", Member(TASK, &["sighand"]), &[Signal], Should),
    ("OFF_SIGHAND_ACTION", Member("sighand_struct", &["action"]), &[Signal], Should),
    ("OFF_ACTION_HANDLER", Member("k_sigaction", &["sa.sa_handler"]), &[Signal], Should),
    ("SIZE_ACTION", Size("k_sigaction"), &[Signal], Should),
    ("OFF_SIGINFO_ADDR", Member("kernel_siginfo", &["_sifields._sigfault._addr"]), &[Signal], Should),
    ("OFF_TASK_FAULT_CODE", Member(TASK, &["thread.error_code", "thread.fault_code"]), &[Signal], Could),
    ("OFF_TASK_TRAP", Member(TASK, &["thread.trap_nr"]), &[Signal], Could),
    ("OFF_REGS_INSTRUCTION", Member(REGISTERS, &["ip", "pc"]), &[Signal], Could),
    ("OFF_REGS_STACK", Member(REGISTERS, &["sp"]), &[Signal], Could),
    ("OFF_REGS_FRAME", Member(REGISTERS, &["bp"]), &[Signal], Could),
    ("OFF_REGS_GENERAL", Member(REGISTERS, &["regs"]), &[Signal], Could),
    ("OFF_BINPRM_FILENAME", Member("linux_binprm", &["filename"]), &[Exec], Must),
    ("OFF_MM_ARG_START", Member("mm_struct", &["arg_start"]), &[Exec], Should),
    ("OFF_MM_ARG_END", Member("mm_struct", &["arg_end"]), &[Exec], Should),
    ("OFF_SOCK_FAMILY", Member("sock_common", &["skc_family"]), PEERS, Must),
    ("OFF_SOCK_NUM", Member("sock_common", &["skc_num"]), SOCKETS, Must),
    ("OFF_SOCK_DPORT", Member("sock_common", &["skc_dport"]), PEERS, Must),
    ("OFF_SOCK_RCV_SADDR", Member("sock_common", &["skc_rcv_saddr"]), SOCKETS, Must),
    ("OFF_SOCK_DADDR", Member("sock_common", &["skc_daddr"]), PEERS, Must),
    ("OFF_SOCK_V6_RCV_SADDR", Member("sock_common", &["skc_v6_rcv_saddr"]), SOCKETS, Should),
    ("OFF_SOCK_V6_DADDR", Member("sock_common", &["skc_v6_daddr"]), PEERS, Should),
    ("OFF_SOCK_NET", Member("sock_common", &["skc_net.net"]), SOCKETS, Should),
    ("OFF_NET_INUM", Member("net", &["ns.inum"]), SOCKETS, Should),
    ("OFF_SOCK_ERR", Member("sock", &["sk_err"]), SOCKETS, Must),
    ("OFF_SOCK_ACK_BACKLOG", Member("sock", &["sk_ack_backlog"]), &[Socket], Should),
    ("OFF_SOCK_MAX_ACK_BACKLOG", Member("sock", &["sk_max_ack_backlog"]), &[Socket], Should),
    ("OFF_SOCK_PROTOCOL", Member("sock", &["sk_protocol"]), &[SocketReport], Must),
    ("OFF_SOCK_CGROUP", Member("sock", &["sk_cgrp_data.cgroup"]), &[SocketReport], Must),
    ("OFF_INET_SPORT", Member("inet_sock", &["inet_sport"]), SOCKETS, Must),
    ("OFF_REQUEST_QUEUE", Member("request", &["q"]), &[BlockError], Must),
    ("OFF_REQUEST_FLAGS", Member("request", &["cmd_flags"]), &[BlockError], Must),
    ("OFF_REQUEST_SECTOR", Member("request", &["__sector"]), &[BlockError], Must),
    ("OFF_QUEUE_DISK", Member("request_queue", &["disk"]), &[BlockError], Must),
    ("OFF_DISK_NAME", Member("gendisk", &["disk_name"]), &[BlockError], Must),
    ("OFF_DISK_MAJOR", Member("gendisk", &["major"]), &[BlockError], Must),
    ("OFF_SUPER_ID", Member("super_block", &["s_id"]), &[Ext4Error, XfsShutdown], Must),
    ("OFF_SUPER_DEV", Member("super_block", &["s_dev"]), &[Ext4Error, XfsShutdown], Should),
    ("OFF_XFS_SUPER", Member("xfs_mount", &["m_super"]), &[XfsShutdown], Must),
    ("OFF_MCE_STATUS", Member(MCE, &["status"]), &[MachineCheck], Must),
    ("OFF_MCE_ADDR", Member(MCE, &["addr"]), &[MachineCheck], Should),
    ("OFF_MCE_BANK", Member(MCE, &["bank"]), &[MachineCheck], Should),
    ("OFF_MCE_VENDOR", Member(MCE, &["cpuvendor"]), &[MachineCheck], Must),
    ("OFF_MCE_CPU", Member(MCE, &["extcpu"]), &[MachineCheck], Should),
];

/// The kernel's enum of helpers, and the helper that returns the current task as a typed pointer.
pub const HELPERS: &str = "bpf_func_id";
const TASK_HELPER: &str = "BPF_FUNC_get_current_task_btf";

/// The registers of a task as it entered the kernel.
pub const REGISTERS: &str = "pt_regs";

/// The helper that returns them, and the global that says whether programs may use it.
const REGISTERS_HELPER: &str = "BPF_FUNC_task_pt_regs";
pub const HAS_REGISTERS: &str = "HAS_TASK_REGISTERS";

/// The global that says whether programs may use the helper that returns the current task.
pub const IS_TYPED: &str = "CURRENT_IS_TYPED";

/// The fields that programs read by type from the current task. All of them must exist.
const TYPED: &[&str] = &[
    "OFF_TASK_TGID",
    "OFF_TASK_GROUP_LEADER",
    "OFF_TASK_REAL_PARENT",
    "OFF_TASK_START_BOOTTIME",
    "OFF_TASK_SIGNAL",
    "OFF_TASK_THREAD_PID",
    "OFF_TASK_EXIT_CODE",
    "OFF_TASK_CGROUPS",
    "OFF_PID_LEVEL",
    "OFF_CSS_SET_MEMORY",
    "OFF_CSS_CGROUP",
    "OFF_CGROUP_KN",
    "OFF_KERNFS_NODE_ID",
    "OFF_SIGNAL_FLAGS",
    "OFF_SIGNAL_GROUP_EXIT_CODE",
    "OFF_SIGNAL_MAXRSS",
    "OFF_SIGNAL_OOM_MM",
];

/// The values of the globals, and what they mean for each hook.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Value of every global, by name.
    pub globals: BTreeMap<&'static str, u32>,
    /// Hooks that must not be loaded, with the reason.
    pub unusable: BTreeMap<Hook, String>,
    /// Those of them whose tracepoint the kernel does not have because it lacks what they report about.
    pub absent: BTreeSet<Hook>,
    /// Details that a hook's records lack.
    pub lacking: BTreeMap<Hook, Vec<String>>,
}

/// Looks all globals up. An absent field becomes [`ABSENT`] and a reason.
pub fn resolve(types: &KernelTypes) -> Resolved {
    let mut resolved = Resolved {
        globals: BTreeMap::from([("MCE_OFFSET", 0)]),
        unusable: BTreeMap::new(),
        absent: BTreeSet::new(),
        lacking: BTreeMap::new(),
    };
    // Tracepoints first: a missing one explains more than a field that came with it.
    for hook in Hook::ALL {
        if let Err(reason) = prototype(types, hook, &mut resolved.globals) {
            resolved.unusable.entry(hook).or_insert(reason);
        }
        if hook.host_check().is_some() && types.tracepoint(hook.tracepoint()).is_err() {
            resolved.absent.insert(hook);
        }
    }
    for (global, lookup, hooks, need) in FIELDS {
        let value = match find(types, lookup) {
            Ok(value) => value,
            Err(error) => {
                for hook in *hooks {
                    if *need == Must {
                        resolved.unusable.entry(*hook).or_insert_with(|| error.to_string());
                    } else if *need == Should && !resolved.absent.contains(hook) {
                        resolved.lacking.entry(*hook).or_default().push(error.to_string());
                    }
                }
                ABSENT
            }
        };
        resolved.globals.insert(global, value);
    }
    let all = TYPED.iter().all(|global| resolved.globals.get(global).is_some_and(|it| *it != ABSENT));
    let is_typed = all && types.constant(HELPERS, TASK_HELPER).is_ok();
    resolved.globals.insert(IS_TYPED, is_typed.into());
    let has_registers = types.constant(HELPERS, REGISTERS_HELPER).is_ok();
    resolved.globals.insert(HAS_REGISTERS, has_registers.into());
    resolved
}

/// Modules that hooks may be in. The types of one that is loaded are in a file beside the kernel's.
const MODULES: &[&str] = &["ext4", "xfs"];

/// Reads from a BTF file, and from those of loaded modules, the types that [`resolve`] needs.
pub fn read(path: &Path) -> Result<KernelTypes, BtfError> {
    KernelTypes::read(path, MODULES, &names())
}

/// The names that [`resolve`] looks up.
pub fn names() -> Names {
    let mut types: BTreeSet<_> =
        Hook::ALL.into_iter().map(|hook| KernelTypes::prototype(hook.tracepoint())).collect();
    types.extend([HELPERS, WRAPPED_MCE].map(str::to_owned));
    let mut members = BTreeSet::from([TASK_HELPER, REGISTERS_HELPER, WRAPPED_MCE_FIELD]);
    for (_, lookup, ..) in FIELDS {
        match lookup {
            Member(structure, names) => {
                types.insert((*structure).to_owned());
                members.extend(names.iter().flat_map(|it| it.split('.')));
            }
            Size(structure) => _ = types.insert((*structure).to_owned()),
            MemoryController => {
                types.extend([SUBSYSTEMS, CSS_SET].map(str::to_owned));
                members.extend([MEMORY, SLOTS]);
            }
            Resident(constant) => {
                types.insert(MM.to_owned());
                members.extend([constant, RESIDENT, btf::COUNT]);
            }
        }
    }
    Names { types, members }
}

/// The hooks whose programs read a field of this structure.
#[cfg(test)]
pub fn needed_by(structure: &str) -> BTreeSet<Hook> {
    let reads = |lookup: &Lookup| matches!(lookup, Member(of, _) | Size(of) if *of == structure);
    FIELDS
        .iter()
        .filter(|(_, lookup, ..)| reads(lookup))
        .flat_map(|(_, _, hooks, _)| *hooks)
        .copied()
        .collect()
}

/// Checks that a tracepoint passes the arguments that the program reads. Three tracepoints have two forms; globals say
/// which.
fn prototype(
    types: &KernelTypes,
    hook: Hook,
    globals: &mut BTreeMap<&'static str, u32>,
) -> Result<(), String> {
    let arguments = types
        .tracepoint(hook.tracepoint())
        .map_err(|_| format!("this kernel has no tracepoint {}", hook.tracepoint()))?;
    let passes = |index: usize, structure: &str| {
        arguments.get(index) == Some(&Argument::Pointer(structure.to_owned()))
    };
    let (fits, form) = match hook {
        Exit => {
            globals.insert("EXIT_HAS_GROUP_DEAD", u32::from(arguments.len() >= 2));
            (passes(0, TASK), "task_struct")
        }
        Oom => {
            globals.insert("MARK_VICTIM_HAS_TASK", u32::from(passes(0, TASK)));
            (passes(0, TASK) || arguments.first() == Some(&Argument::Scalar), "task_struct or number")
        }
        Signal => {
            (passes(2, TASK) && arguments.len() >= 5, "number, kernel_siginfo, task_struct, and two more")
        }
        Fork => (passes(0, TASK) && passes(1, TASK), "task_struct, task_struct"),
        Cgroup => (passes(0, "cgroup") && arguments.len() >= 2, "cgroup, path"),
        Exec => (passes(0, TASK) && passes(2, "linux_binprm"), "task_struct, number, linux_binprm"),
        Socket => (passes(0, "sock") && arguments.len() >= 3, "sock, two numbers"),
        SocketReport | Retransmit => (passes(0, "sock"), "sock"),
        HungTask => (passes(0, TASK), "task_struct"),
        BlockError => (passes(0, "request") && arguments.len() >= 3, "request, two numbers"),
        Ext4Error => (passes(0, "super_block") && arguments.len() >= 3, "super_block, text, number"),
        XfsShutdown => {
            (passes(0, "xfs_mount") && arguments.len() >= 5, "xfs_mount, two numbers, text, number")
        }
        MachineCheck => {
            let offset = if passes(0, WRAPPED_MCE) {
                types.offset(WRAPPED_MCE, WRAPPED_MCE_FIELD).ok()
            } else {
                Some(0)
            };
            globals.insert("MCE_OFFSET", offset.unwrap_or_default());
            (passes(0, MCE) || (passes(0, WRAPPED_MCE) && offset.is_some()), "mce or mce_hw_err")
        }
        MemoryError => {
            let texts = passes(1, "") && passes(2, "");
            (
                arguments.first() == Some(&Argument::Scalar) && texts && arguments.len() >= 9,
                "number, two texts, and six more",
            )
        }
    };
    let unknown = || {
        format!(
            "tracepoint {} has an unknown form: its arguments do not begin with {form}",
            hook.tracepoint()
        )
    };
    if fits { Ok(()) } else { Err(unknown()) }
}

fn find(types: &KernelTypes, lookup: &Lookup) -> Result<u32, BtfError> {
    match lookup {
        Member(structure, names) => {
            let mut result = Err(BtfError::NoType((*structure).to_owned()));
            for name in *names {
                result = types.offset(structure, name);
                if result.is_ok() {
                    break;
                }
            }
            result
        }
        Size(structure) => types.size_of(structure),
        MemoryController => {
            let index = types.constant(SUBSYSTEMS, MEMORY)?;
            let slots = types.offset(CSS_SET, SLOTS)?;
            let slot = index.checked_mul(8).and_then(|it| it.checked_add(slots));
            slot.ok_or_else(|| BtfError::Unexpected { what: format!("{SUBSYSTEMS}::{MEMORY}") })
        }
        Resident(constant) => {
            let index = types.anonymous_constant(constant)?;
            types.counter_offset(MM, RESIDENT, index)
        }
    }
}
