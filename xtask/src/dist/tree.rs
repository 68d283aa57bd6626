//! The files of a package, staged as they are installed.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};

use super::{
    deb,
    manual::Manual,
    release::{Program, Release},
};
use crate::cargo::root;

/// Where the shipped unit has the program, as it is installed by hand.
const BY_HAND: &str = "/usr/local/bin/hostprobe";
const PACKAGED: &str = "/usr/bin/hostprobe";

/// Where the shipped unit has its options.
const OPTIONS: &str = "/etc/default/hostprobe";

/// What the files are staged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Deb,
    Rpm,
    /// An archive without an installer: its folders have the names of their contents.
    Tar,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Deb, Self::Rpm, Self::Tar];

    fn name(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Rpm => "rpm",
            Self::Tar => "tar",
        }
    }

    /// Where packages of this family have the options of services.
    pub(super) fn options(self) -> &'static str {
        match self {
            Self::Deb | Self::Tar => OPTIONS,
            Self::Rpm => "/etc/sysconfig/hostprobe",
        }
    }

    fn zsh_folder(self) -> &'static str {
        match self {
            Self::Deb => "vendor-completions",
            Self::Rpm | Self::Tar => "site-functions",
        }
    }
}

/// The parts of a package.
pub(super) struct Tree<'a> {
    pub(super) kind: Kind,
    pub(super) release: &'a Release,
    pub(super) program: &'a Program,
    pub(super) manual: &'a Manual,
    /// The list of what is in the program.
    pub(super) sbom: &'a Path,
}

impl Tree<'_> {
    /// Writes the files into a folder, and returns it.
    pub(super) fn stage(&self) -> Result<PathBuf> {
        let name = format!("{}-{}", self.kind.name(), self.program.machine.uname());
        let staged = Staged { root: self.release.scratch.join(name) };
        fs::create_dir_all(&staged.root)?;
        match self.kind {
            Kind::Deb | Kind::Rpm => self.installed(&staged)?,
            Kind::Tar => self.unpacked(&staged)?,
        }
        Ok(staged.root)
    }

    fn installed(&self, staged: &Staged) -> Result<()> {
        let packaging = root().join("packaging");
        staged.copy(&self.program.file, PACKAGED, 0o755)?;
        let unit = read(&packaging.join("systemd/hostprobe.service"))?;
        ensure!(unit.contains(BY_HAND) && unit.contains(OPTIONS), "the unit has other paths than expected");
        let unit = unit.replace(BY_HAND, PACKAGED).replace(OPTIONS, self.kind.options());
        staged.write("/usr/lib/systemd/system/hostprobe.service", unit.as_bytes())?;
        staged.copy(&packaging.join("hostprobe.default"), self.kind.options(), 0o644)?;
        for (from, to) in [
            ("systemd/hostprobe.sysusers", "/usr/lib/sysusers.d/hostprobe.conf"),
            ("systemd/hostprobe.rules", "/usr/share/polkit-1/rules.d/50-hostprobe.rules"),
            ("systemd/exec.conf", "/usr/share/hostprobe/exec.conf"),
            ("systemd/host-checks.conf", "/usr/share/hostprobe/host-checks.conf"),
            ("systemd/stacks.conf", "/usr/share/hostprobe/stacks.conf"),
            ("../docs/examples/hostprobe.toml", "/usr/share/doc/hostprobe/examples/hostprobe.toml"),
            ("debian/copyright", "/usr/share/doc/hostprobe/copyright"),
            ("../LICENSE-MIT", "/usr/share/doc/hostprobe/LICENSE-MIT"),
            ("../LICENSE-APACHE", "/usr/share/doc/hostprobe/LICENSE-APACHE"),
        ] {
            staged.copy(&packaging.join(from), to, 0o644)?;
        }
        staged.copy(self.sbom, "/usr/share/doc/hostprobe/sbom.cdx.json", 0o644)?;
        if self.kind == Kind::Deb {
            let changelog = self.compressed(deb::changelog(self.release)?.as_bytes())?;
            staged.write("/usr/share/doc/hostprobe/changelog.gz", &changelog)?;
            let overrides = packaging.join("debian/lintian-overrides");
            staged.copy(&overrides, "/usr/share/lintian/overrides/hostprobe", 0o644)?;
        }
        // For `hostprobe discover --write`, and whatever an operator adds.
        fs::create_dir_all(staged.path("/etc/hostprobe/conf.d"))?;
        for page in &self.manual.pages {
            let name = page.file_name().context("a page has a name")?.to_string_lossy();
            let packed = self.compressed(&fs::read(page)?)?;
            staged.write(&format!("/usr/share/man/man8/{name}.gz"), &packed)?;
        }
        for completion in &self.manual.completions {
            let to = match completion.shell {
                "bash" => "/usr/share/bash-completion/completions/hostprobe".to_owned(),
                "fish" => "/usr/share/fish/vendor_completions.d/hostprobe.fish".to_owned(),
                _ => format!("/usr/share/zsh/{}/_hostprobe", self.kind.zsh_folder()),
            };
            staged.copy(&completion.file, &to, 0o644)?;
        }
        Ok(())
    }

    fn unpacked(&self, staged: &Staged) -> Result<()> {
        let packaging = root().join("packaging");
        staged.copy(&self.program.file, "hostprobe", 0o755)?;
        staged.copy(&packaging.join("hostprobe.default"), "hostprobe.default", 0o644)?;
        for entry in fs::read_dir(packaging.join("systemd"))? {
            let entry = entry?;
            let name = entry.file_name();
            staged.copy(&entry.path(), &format!("systemd/{}", name.to_string_lossy()), 0o644)?;
        }
        for name in ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "docs/examples/hostprobe.toml"] {
            let to = Path::new(name).file_name().context("a file has a name")?.to_string_lossy();
            staged.copy(&root().join(name), &to, 0o644)?;
        }
        staged.copy(self.sbom, "sbom.cdx.json", 0o644)?;
        for page in &self.manual.pages {
            let name = page.file_name().context("a page has a name")?.to_string_lossy();
            staged.copy(page, &format!("man/{name}"), 0o644)?;
        }
        for completion in &self.manual.completions {
            staged.copy(&completion.file, &format!("completions/hostprobe.{}", completion.shell), 0o644)?;
        }
        Ok(())
    }

    /// The same bytes each time: without a name and a time.
    fn compressed(&self, text: &[u8]) -> Result<Vec<u8>> {
        let mut gzip = self.release.command("gzip");
        let mut gzip = gzip
            .args(["--best", "--no-name", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run gzip")?;
        let mut input = gzip.stdin.take().context("gzip reads its standard input")?;
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(move || input.write_all(text));
            let output = gzip.wait_with_output();
            writer.join().map(|written| (written, output))
        });
        let (written, output) = written.ok().context("gzip could not be fed")?;
        written?;
        let output = output?;
        ensure!(output.status.success(), "gzip failed ({})", output.status);
        Ok(output.stdout)
    }
}

/// A folder that files are staged in.
struct Staged {
    root: PathBuf,
}

impl Staged {
    fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    fn write(&self, inside: &str, bytes: &[u8]) -> Result<()> {
        let path = self.place(inside)?;
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?)
    }

    fn copy(&self, from: &Path, inside: &str, mode: u32) -> Result<()> {
        let path = self.place(inside)?;
        fs::copy(from, &path)
            .with_context(|| format!("cannot copy {} to {}", from.display(), path.display()))?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    }

    fn place(&self, inside: &str) -> Result<PathBuf> {
        let path = self.path(inside);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(path)
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
