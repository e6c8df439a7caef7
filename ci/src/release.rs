//! What is handed out: image, disk, bill of materials, checksums; and the proof that a commit gives the same
//! bytes in two folders of this machine.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::router::workspace;
use crate::{cleanup, command, disk};

/// The tool for the bill of materials, and the version that is installed where it is not.
const SBOM_TOOL: (&str, &str) = ("cargo-cyclonedx", "0.5.9");
const BUILD: Duration = Duration::from_secs(1800);

/// Fills `images/out/release`.
pub(crate) fn make() -> Result<()> {
    let workspace = workspace()?;
    let out = workspace.join("images/out");
    let release = out.join("release");
    if release.is_dir() {
        fs::remove_dir_all(&release).context("removing the last release")?;
    }
    fs::create_dir_all(&release)?;
    for name in ["weir.elf", "weir.qcow2"] {
        fs::copy(out.join(name), release.join(name)).with_context(|| format!("{name}: make disk"))?;
    }
    fs::copy(workspace.join("images/weir.toml"), release.join("weir.toml"))?;
    bill_of_materials(&workspace, &release.join("weir.cdx.json"))?;
    let mut names: Vec<String> = fs::read_dir(&release)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    names.sort();
    let mut sums = String::new();
    for name in &names {
        // Writing to a String cannot fail.
        let _ = writeln!(sums, "{}  {name}", digest(&release.join(name))?);
    }
    print!("{sums}");
    fs::write(release.join("SHA256SUMS"), sums)?;
    println!("{}", release.display());
    Ok(())
}

/// CycloneDX of what the image is linked from, without times and random numbers.
fn bill_of_materials(workspace: &Path, to: &Path) -> Result<()> {
    let (tool, version) = SBOM_TOOL;
    let tools = workspace.join("target/tools");
    let program = tools.join("bin").join(tool);
    if !program.is_file() {
        println!("installing {tool} {version} (some minutes, once)");
        let mut install = Command::new("cargo");
        install.args(["install", "--quiet", "--locked", &format!("{tool}@{version}"), "--root"]).arg(&tools);
        command::run(&mut install, &[], BUILD)?.success("cargo install")?;
    }
    let mut make = Command::new(program);
    make.args(["cyclonedx", "--format", "json", "--features", "image", "--no-build-deps"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--override-filename", "weir-sbom", "--manifest-path"])
        .arg(workspace.join("weir/Cargo.toml"))
        // Then there is neither a serial number nor the hour of the build in it.
        .env("SOURCE_DATE_EPOCH", "0")
        .current_dir(workspace);
    command::run(&mut make, &[], Duration::from_secs(300))?.success(tool)?;
    let made = workspace.join("weir/weir-sbom.json");
    let text = fs::read_to_string(&made).with_context(|| format!("reading {}", made.display()))?;
    // The tool writes one beside each member of the workspace.
    for folder in fs::read_dir(workspace)? {
        let _ = fs::remove_file(folder?.path().join("weir-sbom.json"));
    }
    let _ = fs::remove_file(workspace.join("ci/preempt/weir-sbom.json"));
    // Members are named by where they lie; that is this machine's business.
    fs::write(to, text.replace(&*workspace.to_string_lossy(), "/weir"))
        .context("writing the bill of materials")
}

fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Builds the commit in two folders of different names and compares image and disk. Whether they are the
/// same.
pub(crate) fn reproduce() -> Result<bool> {
    let workspace = workspace()?;
    let (folder, _made) = cleanup::directory()?;
    let mut seen: Vec<[String; 2]> = Vec::new();
    let place = workspace.to_string_lossy();
    // Once: work goes on beside it.
    let commit = command::capture("git", &["-C", &place, "rev-parse", "HEAD"], Duration::from_secs(20))?;
    for name in ["one", "another/folder"] {
        let clone = folder.join(name);
        let mut git = Command::new("git");
        git.args(["clone", "--quiet", "--no-hardlinks"]).arg(&workspace).arg(&clone);
        command::run(&mut git, &[], Duration::from_secs(120))?.success("git clone")?;
        let folder = clone.to_string_lossy();
        let checkout = ["-C", &folder, "checkout", "--quiet", "--detach", commit.trim()];
        command::capture("git", &checkout, Duration::from_secs(60))?;
        let mut make = Command::new("make");
        make.args(["--no-print-directory", "image"]).current_dir(&clone).env_remove("CARGO_TARGET_DIR");
        command::run(&mut make, &[], BUILD)?.success("make image")?;
        let image: PathBuf = clone.join("images/out/weir.elf");
        let config = fs::read(clone.join("images/weir.toml"))?;
        let disk = disk::image_with(&fs::read(&image)?, &config, &fs::read(clone.join(disk::MENU))?)?;
        let disk = Sha256::digest(disk).iter().map(|byte| format!("{byte:02x}")).collect();
        seen.push([digest(&image)?, disk]);
        println!(
            "{name}: weir.elf {}\n{name}: weir.raw {}",
            seen[seen.len() - 1][0],
            seen[seen.len() - 1][1]
        );
    }
    let same = seen.windows(2).all(|pair| pair[0] == pair[1]);
    println!("{}", if same { "ok: the same bytes" } else { "FAIL: the bytes differ" });
    Ok(same)
}
