//! uhyve itself, built once by cargo into the user's cache.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command;

const VERSION: &str = "0.10.0";
/// A build on two cores takes four minutes.
const BUILD: Duration = Duration::from_secs(1800);

/// uhyve's program; builds it if it is not there.
pub(crate) fn program() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME says where to keep uhyve")?;
    let root = cache.join("weir").join(format!("uhyve-{VERSION}"));
    let program = root.join("bin/uhyve");
    if !program.is_file() {
        println!("building uhyve {VERSION} into {} (some minutes, once)", root.display());
        let mut cargo = Command::new("cargo");
        // Not into the workspace's target folder, with the workspace's flags.
        cargo.args(["install", "--quiet", "--locked", &format!("uhyve@{VERSION}"), "--root"]).arg(&root);
        cargo.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
        command::run(&mut cargo, &[], BUILD)?.success("cargo install uhyve")?;
    }
    Ok(program)
}
