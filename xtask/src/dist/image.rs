//! The container image, as an OCI image layout: for each machine one layer with the program, its configuration and its
//! manifest, and an index of them. No container engine takes part.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    archive,
    release::{Program, Release},
    sums::sha256,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The authorities that receivers of alerts over HTTPS are checked against.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Builds the layout as a folder, and an archive of it.
pub(super) fn build(release: &Release, programs: &[Program]) -> Result<()> {
    let name = format!("hostprobe-{}-oci", release.version);
    let layout = Layout { folder: release.scratch.join(&name) };
    fs::create_dir_all(layout.folder.join("blobs/sha256"))?;
    let mut manifests = Vec::new();
    for program in programs {
        manifests.push(layout.manifest(release, program)?);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let mut entry = layout.json(INDEX, &index)?;
    entry["annotations"] =
        json!({ "org.opencontainers.image.ref.name": format!("hostprobe:{}", release.version) });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    fs::write(layout.folder.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(layout.folder.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    archive::tar(release, &layout.folder, &release.folder.join(format!("{name}.tar")), None)
}

/// The folder of a layout.
struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Adds the image for one machine; its entry in the index.
    fn manifest(&self, release: &Release, program: &Program) -> Result<Value> {
        let root = release.scratch.join(format!("image-{}", program.machine.uname()));
        fill(&root, program)?;
        let tar = root.with_added_extension("tar");
        archive::tar(release, &root, &tar, None)?;
        let uncompressed = sha256(&fs::read(&tar)?);
        archive::gzip(release, &tar)?;
        let layer = self.blob(LAYER, &fs::read(tar.with_added_extension("gz"))?)?;

        let created = timestamp(release.epoch)?;
        let labels = json!({
            "org.opencontainers.image.title": "hostprobe",
            "org.opencontainers.image.description": "Host health probe",
            "org.opencontainers.image.version": release.version,
            "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            "org.opencontainers.image.created": created,
        });
        let config = json!({
            "created": created,
            "architecture": program.machine.debian(),
            "os": "linux",
            "config": {
                "Entrypoint": ["/usr/bin/hostprobe"],
                "Cmd": ["run", "--observe"],
                "Env": ["PATH=/usr/bin"],
                "StopSignal": "SIGTERM",
                "Labels": labels,
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{uncompressed}")] },
            "history": [{ "created": created, "created_by": "cargo xtask dist" }],
        });
        let config = self.json(CONFIG, &config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": labels,
        });
        let mut entry = self.json(MANIFEST, &manifest)?;
        entry["platform"] = json!({ "architecture": program.machine.debian(), "os": "linux" });
        Ok(entry)
    }

    fn json(&self, kind: &str, value: &Value) -> Result<Value> {
        self.blob(kind, &serde_json::to_vec(value)?)
    }

    /// Writes bytes under their digest; what refers to them.
    fn blob(&self, kind: &str, bytes: &[u8]) -> Result<Value> {
        let digest = sha256(bytes);
        let file = self.folder.join("blobs/sha256").join(&digest);
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() }))
    }
}

/// The files of the image.
fn fill(root: &Path, program: &Program) -> Result<()> {
    for folder in ["etc/hostprobe", "etc/ssl/certs", "run", "tmp", "usr/bin", "var/lib", "var/log/hostprobe"]
    {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(&program.file, root.join("usr/bin/hostprobe")).context("cannot copy the program")?;
    fs::copy(AUTHORITIES, root.join(AUTHORITIES.trim_start_matches('/')))
        .with_context(|| format!("cannot copy {AUTHORITIES}; install ca-certificates"))?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/sbin/nologin\n")?;
    Ok(fs::write(root.join("etc/group"), "root:x:0:\n")?)
}

/// RFC 3339, in UTC. Fails beyond the year 9999.
pub(super) fn timestamp(epoch: u64) -> Result<String> {
    Ok(jiff::Timestamp::from_second(i64::try_from(epoch)?)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        for (epoch, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_796_004_127, "2026-11-30T02:02:07Z"),
        ] {
            assert_eq!(timestamp(epoch).unwrap(), text);
        }
    }
}
