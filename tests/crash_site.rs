//! Where a service crashed is in its incident, without a core dump: the function, the module, and what it did.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use hostprobe_tests::{
    core_dump,
    crash_site::{Case, build::Programs, build::source, prepare, signal, waiting},
    daemon::{Daemon, field},
    incident_events::{is, text},
    parts::{available, built, require, require_root},
    process::until,
};
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(120);

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/crash-site.md");
const BEGIN: &str = "<!-- cases -->\n";
const END: &str = "<!-- end of cases -->\n";
const HEADING: &str = "| program | what is said | line | functions named |\n| --- | --- | --- | --- |\n";

/// Every call is in the stack with these.
const WITH_FRAMES: [&str; 4] = ["-g", "-O0", "-fno-omit-frame-pointer", "-pie"];
const WITHOUT_FRAMES: [&str; 4] = ["-g", "-O2", "-fomit-frame-pointer", "-pie"];

fn of_c(programs: &mut Programs) -> Vec<Case> {
    let framed = programs.c("framed", &WITH_FRAMES);
    let unframed = programs.c("unframed", &WITHOUT_FRAMES);
    // Another build than that of which the debug information is kept below.
    let stripped = programs.c("stripped", &["-g", "-O3", "-fomit-frame-pointer", "-pie"]);
    programs.strip(&stripped);
    let symbols_only = programs.c("symbols", &["-O2", "-fomit-frame-pointer", "-pie"]);
    let separate = programs.c("separate", &WITHOUT_FRAMES);
    programs.separate_debug_information(&separate);
    let fixed = programs.c("fixed", &["-g", "-O0", "-fno-omit-frame-pointer", "-no-pie"]);
    let anonymous = programs.c("anonymous", &["-g", "-O0", "-fno-omit-frame-pointer", "-Wl,--build-id=none"]);
    let in_library = "crashed in length_of (libfoo.so.1+0x…), reading 0x10";
    let calls = &["length_of", "parse_header", "crash", "main"];
    vec![
        Case {
            line: Some("foo.c:9"),
            stack: calls,
            ..Case::new(
                "C, in a library, with frame pointers and debug information",
                "framed",
                &[&framed, "library"],
                in_library,
            )
        },
        Case {
            line: Some("foo.c:9"),
            stack: &["length_of", "parse_header", "main"],
            ..Case::new(
                "the same, optimized, without frame pointers",
                "unframed",
                &[&unframed, "library"],
                in_library,
            )
        },
        Case {
            line: None,
            stack: &["length_of", "parse_header", "main"],
            ..Case::new("the same, symbols only", "symbols", &[&symbols_only, "library"], in_library)
        },
        Case {
            line: None,
            stack: &["parse_header"],
            ..Case::new(
                "the same, stripped",
                "stripped",
                &[&stripped, "library"],
                "crashed in libfoo.so.1+0x…, reading 0x10",
            )
        },
        Case {
            line: Some("foo.c:9"),
            stack: &["length_of", "parse_header", "main"],
            ..Case::new(
                "the same, debug information in `/usr/lib/debug/.build-id`",
                "separate",
                &[&separate, "library"],
                in_library,
            )
        },
        Case {
            line: Some("foo.c:9"),
            stack: calls,
            ..Case::new("C, without a build id", "anonymous", &[&anonymous, "library"], in_library)
        },
        Case {
            line: Some("crash.c:13"),
            stack: &["divide", "crash", "main"],
            ..Case::new(
                "C, at a fixed address: division by zero",
                "fixed",
                &[&fixed, "divide"],
                "crashed in divide (crash+0x…), dividing by zero",
            )
        },
        Case {
            line: Some("crash.c:17"),
            stack: &["undefined_instruction", "crash", "main"],
            ..Case::new(
                "an illegal instruction",
                "illegal",
                &[&framed, "illegal"],
                "crashed in undefined_instruction (crash+0x…), by an illegal instruction",
            )
        },
        Case {
            line: Some("crash.c:54"),
            stack: &["write_zero", "crash", "main"],
            ..Case::new(
                "a write",
                "write",
                &[&framed, "write"],
                "crashed in write_zero (crash+0x…), writing 0x20",
            )
        },
        Case {
            line: Some("crash.c:23"),
            stack: &["call_nowhere", "crash", "main"],
            ..Case::new(
                "a call of a function at address 0",
                "jump",
                &[&framed, "jump"],
                "jumped to 0x0, where no code is, from call_nowhere (crash+0x…)",
            )
        },
        Case {
            line: Some("crash.c:…"),
            stack: &["recurse", "recurse", "recurse"],
            ..Case::new(
                "a stack overflow",
                "recurse",
                &[&framed, "recurse"],
                "crashed in recurse (crash+0x…), its stack is used up",
            )
        },
    ]
}

#[test]
fn a_crash_is_named_without_a_core_dump() {
    let has_all = require_root()
        && require("gcc", "/usr/bin/gcc")
        && require("g++", "/usr/bin/g++")
        && require("binutils", "/usr/bin/strip");
    if !has_all {
        return;
    }
    let mut programs = Programs::new();
    let mut cases = of_c(&mut programs);
    cases.extend(of_abort(&programs));
    cases.extend(of_places(&programs));
    cases.extend(of_languages(&programs));
    let is_whole = cases.iter().any(|case| case.name == "go");
    let services: String = cases.iter().map(Case::service).collect();
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{services}"), &["--log", "debug"]);
    daemon.ready();
    let pids = prepare(&daemon, &cases);
    let found: Vec<_> = cases.iter().zip(pids).map(|(case, pid)| case.crash(&daemon, pid)).collect();
    for (case, crash) in cases.iter().zip(&found) {
        eprintln!(
            "{}: {} {:?} {:?}",
            case.name,
            text(crash, "summary"),
            crash.get("line"),
            crash.get("stack")
        );
    }
    for (case, crash) in cases.iter().zip(&found) {
        case.assert(crash);
    }
    compare_with_page(&cases, is_whole);
}

/// `abort`, and handlers that take the fault first.
fn of_abort(programs: &Programs) -> Vec<Case> {
    let framed = programs.path("framed").join("crash").display().to_string();
    vec![
        Case {
            line: Some("crash.c:36"),
            stack: &["give_up", "crash", "main"],
            ..Case::new("`abort`", "abort", &[&framed, "abort"], "aborted in give_up (crash+0x…)")
        },
        Case {
            line: Some("crash.c:42"),
            stack: &["handler"],
            ..Case::new(
                "a handler that raises the signal again",
                "handled",
                &[&framed, "handled"],
                "raised SIGSEGV in handler (crash+0x…); where its handler took the fault is not known",
            )
        },
    ]
}

/// Programs whose files are not where they were.
fn of_places(programs: &Programs) -> Vec<Case> {
    let original = programs.path("framed").join("crash").display().to_string();
    let deleted = programs.path("deleted");
    fs::copy(&original, &deleted).expect("the program is copied");
    let deleted = deleted.display().to_string();
    let folder = programs.path("mounted");
    fs::create_dir(&folder).expect("a new folder");
    let folder = folder.display().to_string();
    let script = format!(
        "/bin/mount -t tmpfs none {folder} && /bin/cp {original} {folder}/inside && exec {folder}/inside divide"
    );
    let said = |program: &str| match program {
        "deleted" => "crashed in divide (deleted+0x…), dividing by zero",
        _ => "crashed in divide (inside+0x…), dividing by zero",
    };
    let remove = |pid: u32| {
        let program = fs::read_link(format!("/proc/{pid}/exe")).expect("it lives");
        fs::remove_file(program).expect("it is there");
    };
    vec![
        Case {
            line: Some("crash.c:13"),
            stack: &["divide", "crash", "main"],
            meanwhile: remove,
            ..Case::new(
                "a program that was deleted after its start",
                "deleted",
                &[&deleted, "divide"],
                said("deleted"),
            )
        },
        Case {
            line: Some("crash.c:13"),
            stack: &["divide", "crash", "main"],
            ..Case::new(
                "a program in a mount namespace of its own",
                "mounted",
                &["/usr/bin/unshare", "--mount", "/bin/sh", "-c", &script],
                said("inside"),
            )
        },
    ]
}

fn of_languages(programs: &Programs) -> Vec<Case> {
    let flags = ["-g", "-O1", "-fno-omit-frame-pointer"];
    let cpp = programs.single("cpp", "/usr/bin/g++", &flags, "crash.cc");
    let rust_flags = ["-g", "-O", "-Cpanic=abort", "--edition=2024"];
    let rust = programs.single("rust", "rustc", &rust_flags, "crash.rs");
    let python = "/usr/bin/python3";
    let mut cases = vec![
        Case {
            line: Some("crash.cc:9"),
            stack: &["shop::Basket<long>::first(int) const", "main"],
            ..Case::new(
                "C++, in a method of a template",
                "cpp",
                &[&cpp],
                "crashed in shop::Basket<long>::first(int) const (cpp+0x…), reading 0x8",
            )
        },
        Case {
            line: Some("crash.cc:22"),
            stack: &[],
            ..Case::new(
                "C++, an exception that nothing catches",
                "throw",
                &[&cpp, "throw"],
                "aborted in main (cpp+0x…)",
            )
        },
        Case {
            line: Some("crash.rs:10"),
            stack: &["crash::shop::Basket::first", "crash::main"],
            ..Case::new(
                "Rust",
                "rust",
                &[&rust],
                "crashed in crash::shop::Basket::first (rust+0x…), reading 0x10",
            )
        },
        Case {
            line: Some("crash.rs:…"),
            ..Case::new(
                "Rust, a panic that aborts",
                "panic",
                &[&rust, "panic"],
                "aborted in crash::shop::Basket::take (rust+0x…)",
            )
        },
    ];
    if require("python3", python) {
        let script = source("crash.py").display().to_string();
        cases.push(Case::new(
            "Python, in a C function called by `ctypes`",
            "python",
            &[python, &script],
            "crashed in libc.so.6+0x…, called by _ctypes….so+0x… of a Python program, reading 0x0",
        ));
    }
    if require("golang-go", "/usr/bin/go") {
        let go = programs.single("go", "/usr/bin/go", &["build"], "crash.go");
        let ready = format!("CRASH_READY={}", programs.path("ready").display());
        cases.push(Case {
            line: Some("sys_linux_amd64.s:…"),
            stack: &["runtime.raise"],
            ..Case::new(
                "Go, with `GOTRACEBACK=crash`",
                "go",
                &["/usr/bin/env", &ready, &go],
                "aborted in runtime.raise (go+0x…) of a Go program",
            )
        });
    }
    cases
}

/// The page has these rows. With `UPDATE_DOCS`, they are written into it, if all are there.
fn compare_with_page(cases: &[Case], is_whole: bool) {
    let rows: String = cases.iter().map(|case| case.row() + "\n").collect();
    let page = fs::read_to_string(PAGE).expect("the page can be read");
    let (before, rest) = page.split_once(BEGIN).expect("the page has a place for the table");
    let (table, after) = rest.split_once(END).expect("the table has an end");
    if std::env::var_os("UPDATE_DOCS").is_some() && is_whole {
        let page = format!("{before}{BEGIN}\n{HEADING}{rows}\n{END}{after}");
        return fs::write(PAGE, page).expect("the page can be written");
    }
    for row in rows.lines() {
        assert!(
            table.lines().any(|line| line == row),
            "{PAGE}: run this test with UPDATE_DOCS=1; no row {row}"
        );
    }
}

#[test]
fn a_core_dump_is_named_by_its_path_and_alert_and_explain_have_the_place() {
    if !require_root() || !require("gcc", "/usr/bin/gcc") {
        return;
    }
    let _alone = core_dump::alone();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if !available(pattern.trim() == "core", "core_pattern = core") {
        return;
    }
    let programs = Programs::new();
    let program = programs.c("framed", &WITH_FRAMES);
    let directory = programs.path("directory");
    fs::create_dir(&directory).expect("a new folder");
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"dumping\"\nexec = [{program:?}, \"library\"]\ndirectory = {:?}\n\
         rlimits = {{ core = \"unlimited\" }}\nenvironment = {{ CRASH_CASE = \"dumping\" }}\n[service.restart]\nenabled = false\n",
        directory.display().to_string()
    );
    let daemon = Daemon::start(&config, &["--log", "debug"]);
    daemon.ready();
    let pids = prepare(&daemon, &[Case::new("", "dumping", &[], "")]);
    let mark = daemon.mark();
    pids.into_iter().for_each(signal);
    let update = daemon.wait_for_after(
        mark,
        |event| is(event, "incident.update", "dumping") && field(event, "incident.crash.core").is_some(),
        LONG,
    );
    let core = text(&update, "incident.crash.core");
    assert!(Path::new(core).starts_with(&directory) && Path::new(core).exists(), "{update:#}");
    let said = text(&update, "message");
    assert!(
        said.contains("; it crashed in length_of (libfoo.so.1+0x") && said.ends_with("reading 0x10"),
        "{said}"
    );
    let explain = std::process::Command::new(built("hostprobe"))
        .args(["explain", text(&update, "incident.id"), "--socket"])
        .arg(daemon.socket())
        .output()
        .expect("the command runs");
    let page = String::from_utf8_lossy(&explain.stdout);
    assert!(page.contains("crash:      crashed in length_of (libfoo.so.1+0x"), "{page}");
    assert!(page.contains("line:       foo.c:9") && page.contains(core), "{page}");
    assert!(page.contains("stack:      length_of (libfoo.so.1+0x"), "{page}");
}

/// A program that its user replaced by a file that claims to be it: the reader of symbols may die or hang of it, and the
/// daemon goes on.
#[test]
fn a_hostile_file_costs_the_names_and_nothing_else() {
    let has_all = require_root() && require("gcc", "/usr/bin/gcc");
    if !has_all {
        return;
    }
    let programs = Programs::new();
    let files = hostile_files(&programs);
    let case = |(name, program): &(&'static str, String)| Case::new("", name, &[program, "library"], "");
    let cases: Vec<_> = files.iter().map(case).collect();
    let services: String = cases.iter().map(Case::service).collect();
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{services}"), &["--log", "debug"]);
    daemon.ready();
    let pids = prepare(&daemon, &cases);
    for ((name, program), pid) in files.iter().zip(pids) {
        let library = Path::new(program).with_file_name("libfoo.so.1");
        spoil(name, &library);
        let mark = daemon.mark();
        signal(pid);
        let update = daemon.wait_for_after(
            mark,
            |event| is(event, "incident.update", name) && field(event, "incident.crash").is_some(),
            LONG,
        );
        let summary = text(&update, "incident.crash.summary");
        assert!(summary.starts_with("crashed in ") && summary.ends_with("reading 0x10"), "{name}: {summary}");
        assert!(!update.to_string().contains("\\u001b"), "{update:#}");
    }
}

fn hostile_files(programs: &Programs) -> Vec<(&'static str, String)> {
    ["cut", "garbage", "fifo", "link", "zeros"]
        .into_iter()
        .map(|name| (name, programs.c(name, &WITH_FRAMES)))
        .collect()
}

/// Makes something else of a library that a process has mapped. The process keeps its pages.
fn spoil(name: &str, library: &Path) {
    let bytes = fs::read(library).expect("it is there");
    fs::remove_file(library).expect("it is ours");
    match name {
        "cut" => fs::write(library, &bytes[..bytes.len() / 3]).expect("it is written"),
        "garbage" => {
            // The build id stays, so that the file is taken for the library.
            let mut bytes = bytes;
            let from = bytes.len().min(0x800);
            for (index, byte) in bytes[from..].iter_mut().enumerate() {
                *byte = byte.wrapping_mul(31).wrapping_add(index as u8);
            }
            fs::write(library, bytes).expect("it is written");
        }
        "fifo" => {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, library, mode).expect("a FIFO is made");
        }
        "link" => symlink("/dev/zero", library).expect("a link is made"),
        _ => {
            let file = fs::File::create(library).expect("it is written");
            file.set_len(1 << 40).expect("a sparse file");
        }
    }
}

#[test]
fn without_hooks_an_exit_has_no_place_and_says_nothing_wrong() {
    let has_all = require_root() && require("gcc", "/usr/bin/gcc");
    if !has_all {
        return;
    }
    let programs = Programs::new();
    let program: PathBuf = programs.c("framed", &WITH_FRAMES).into();
    let case = Case::new("", "unseen", &[&program.display().to_string(), "library"], "");
    let config = format!("[http]\nlisten = \"\"\n{}", case.service());
    let daemon = Daemon::start(&config, &["--without-hook", "all"]);
    daemon.ready();
    let pid = until("it waits", LONG, || waiting("unseen"));
    let mark = daemon.mark();
    signal(pid);
    let exit: Value = daemon.wait_for_after(mark, |event| is(event, "process.exit", "unseen"), LONG);
    assert!(field(&exit, "process.crash").is_none(), "{exit:#}");
    let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", "unseen"), LONG);
    assert_eq!(text(&open, "incident.verdict"), "crashed");
}
