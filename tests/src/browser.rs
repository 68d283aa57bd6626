//! A Chromium without a screen, driven by its own driver.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    http::free_port,
    parts::{available, built, require},
    process::Running,
    webdriver::Session,
};

const DRIVER: &str = "/usr/bin/chromedriver";
const BROWSER: &str = "/usr/bin/chromium";

pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at the page.
const LOOK: Duration = Duration::from_millis(50);

/// The checks of accessibility: a package of npm, and the digest of its file.
const AXE: &str = "axe-core@4.14.1";
const AXE_DIGEST: &str = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c";

pub struct Browser {
    session: Session,
    /// The address that the page is of.
    origin: String,
    _process: Running,
    _profile: TempDir,
}

impl Browser {
    /// A browser for the dashboard on a port; None where there is no browser.
    pub fn open(port: u16) -> Option<Self> {
        if !require("chromium", BROWSER) || !require("chromium-driver", DRIVER) {
            return None;
        }
        let (profile, driver_port) = (TempDir::new().expect("a temporary folder"), free_port());
        let mut command = Command::new(DRIVER);
        command.arg(format!("--port={driver_port}"));
        let process = Running::start(&mut command, Signal::TERM);
        process.wait_until_it_says("started successfully", &process.stdout, PATIENCE);
        let session = Session::start(
            driver_port,
            &json!({
                "browserName": "chrome",
                "timeouts": { "script": 60_000 },
                "unhandledPromptBehavior": "ignore",
                "goog:loggingPrefs": { "browser": "ALL" },
                "goog:chromeOptions": { "binary": BROWSER, "args": [
                    "--headless=new",
                    // Chromium's sandbox refuses root.
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--window-size=1200,900",
                    format!("--user-data-dir={}", profile.path().display()),
                ] },
            }),
        );
        let origin = format!("http://127.0.0.1:{port}");
        Some(Self { session, origin, _process: process, _profile: profile })
    }

    #[track_caller]
    fn command(&self, method: &str, path: &str, parameters: &Value) -> Value {
        self.session.command(method, path, parameters).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Opens a view such as `incidents`.
    #[track_caller]
    pub fn show(&self, view: &str) {
        self.command("POST", "/url", &json!({ "url": "about:blank" }));
        self.command("POST", "/url", &json!({ "url": format!("{}/#/{view}", self.origin) }));
    }

    /// Opens an address.
    #[track_caller]
    pub fn visit(&self, address: &str) {
        self.command("POST", "/url", &json!({ "url": address }));
    }

    /// What a script returns.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a script hands to `done`.
    #[track_caller]
    pub fn wait(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        self.command("POST", "/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Gives a command of Chromium's own.
    #[track_caller]
    pub fn devtools(&self, method: &str, parameters: &Value) {
        self.command("POST", "/goog/cdp/execute", &json!({ "cmd": method, "params": parameters }));
    }

    pub fn text(&self) -> String {
        self.run("return document.body.textContent").as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub fn until_it_shows(&self, words: &[&str]) -> String {
        let mut shown = String::new();
        self.until(&format!("{words:?}"), || {
            shown = self.text();
            words.iter().all(|word| shown.contains(word))
        });
        shown
    }

    #[track_caller]
    pub fn until(&self, what: &str, mut such: impl FnMut() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !such() {
            assert!(Instant::now() < until, "{what} is not in\n{}\n{:#?}", self.text(), self.log());
            thread::sleep(LOOK);
        }
    }

    /// What the browser complained about since the last call.
    pub fn log(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        let words = |entry: &Value| format!("{} {}", entry["level"], entry["message"]);
        log.as_array().into_iter().flatten().map(words).collect()
    }

    /// Insists that nothing of the page was refused or failed, and that it asked its own origin only.
    #[track_caller]
    pub fn insist_on_a_clean_page(&self) {
        let log = self.log();
        assert!(log.is_empty(), "{log:#?}");
        let asked = self.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
        let asked: Vec<&str> = asked.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let own = format!("{}/", self.origin);
        assert!(asked.len() > 8 && asked.iter().all(|url| url.starts_with(&own)), "{asked:#?}");
    }

    /// A window of this size, in a colour scheme.
    pub fn dress(&self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
        let feature = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &feature);
    }

    /// Takes a picture for the documentation, if that is to be written.
    pub fn picture(&self, name: &str) {
        if std::env::var_os("UPDATE_DOCS").is_none() {
            return;
        }
        let picture = self.command("GET", "/screenshot", &Value::Null);
        let picture = decoded(picture.as_str().unwrap_or_default());
        assert!(picture.len() < 150_000, "{name}: {} bytes", picture.len());
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
        fs::create_dir_all(&folder).expect("the folder of the documentation");
        fs::write(folder.join(name), picture).expect("it is written");
    }

    /// The serious and critical findings of axe on the page as it is.
    pub fn barriers(&self, axe: &str) -> Value {
        self.run(&format!("{axe}; return typeof window.axe"));
        self.wait(
            "axe.run(document, { resultTypes: ['violations'] }).then((found) => done(found.violations
                .filter((it) => ['serious', 'critical'].includes(it.impact))
                .map((it) => [it.id, it.nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`)])),
                (error) => done(String(error)))",
        )
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Err(error) = self.session.command("DELETE", "", &Value::Null) {
            eprintln!("the browser did not end: {error}");
        }
    }
}

/// The bytes of a text in Base64.
fn decoded(text: &str) -> Vec<u8> {
    let mut command = Command::new("/usr/bin/base64");
    let mut child =
        command.arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("coreutils are there");
    let (mut input, text) = (child.stdin.take().expect("a pipe"), text.to_owned());
    let writer = thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("it ends").expect("it reads");
    output.stdout
}

/// The script of axe. npm fetches it once, into the folder of the build. None where there is no npm.
pub fn axe() -> Option<String> {
    let there = Command::new("npm").arg("--version").output().is_ok_and(|it| it.status.success());
    let folder = built("hostprobe").with_file_name("axe-core");
    let file = folder.join("axe.min.js");
    if !file.exists() {
        if !available(there, "npm") {
            return None;
        }
        fetch(&folder, &file);
    }
    let digest = Command::new("/usr/bin/sha256sum").arg(&file).output().expect("coreutils are there");
    assert!(
        String::from_utf8_lossy(&digest.stdout).starts_with(AXE_DIGEST),
        "{}: another file",
        file.display()
    );
    Some(fs::read_to_string(file).expect("it is a text"))
}

fn fetch(folder: &Path, file: &Path) {
    let fresh = TempDir::new().expect("a temporary folder");
    let packed = Command::new("npm").args(["pack", "--silent", AXE]).current_dir(fresh.path()).output();
    let packed = packed.expect("npm can be run");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let name = String::from_utf8_lossy(&packed.stdout).trim().to_owned();
    let mut unpack = Command::new("/bin/tar");
    unpack.args(["-xzOf", &name, "package/axe.min.js"]).current_dir(fresh.path());
    let script = unpack.output().expect("tar can be run").stdout;
    fs::create_dir_all(folder).expect("the folder of the build");
    // Another test may read it at the same time.
    let whole = tempfile::NamedTempFile::new_in(folder).expect("a temporary file");
    fs::write(whole.path(), script).expect("it is written");
    whole.persist(file).expect("it is moved");
}
