//! The crate graph of the design, checked: which workspace crate may use which, and where `unsafe` may stand.

use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{Dependency, DependencyKind, MetadataCommand, Package, TargetKind};

/// Who may depend on whom, directly.
const ARROWS: &[(&str, &[&str])] = &[
    ("weir", &["weir-app", "weir-machine", "weir-manage", "weir-sync", "weir-transport"]),
    (
        "weir-app",
        &[
            "weir-bpf",
            "weir-clients",
            "weir-manage",
            "weir-netstack",
            "weir-transport",
            "weir-xennet",
            "weir-virtio",
            "weir-machine",
            "weir-netif",
            "weir-sync",
        ],
    ),
    ("weir-bpf", &[]),
    ("weir-clients", &[]),
    ("weir-manage", &[]),
    ("weir-xennet", &["weir-netif", "weir-machine", "weir-sync"]),
    ("weir-virtio", &["weir-netif", "weir-machine", "weir-sync"]),
    ("weir-netstack", &["weir-bpf", "weir-netif", "weir-sync"]),
    ("weir-transport", &["weir-netif"]),
    ("weir-netif", &["weir-sync"]),
    ("weir-machine", &["weir-bpf", "weir-sync"]),
    ("weir-sync", &[]),
    ("weir-ci", &["weir-sync"]),
    ("weir-preempt", &["weir-app", "weir-bpf", "weir-machine", "weir-netif", "weir-sync", "weir-transport"]),
];

/// And for tests and benchmarks alone: what filters are compiled to runs on the machine.
const DEVELOPMENT: &[(&str, &str)] = &[("weir-bpf", "weir-machine"), ("weir-netstack", "weir-machine")];

/// Crates that may hold `unsafe`; netif in its arena only, the image for tests where it fills registers.
const UNSAFE: &[&str] = &["weir-machine", "weir-sync", "weir-netif", "weir-preempt"];

/// Everything that breaks the design, one sentence each.
pub(crate) fn violations(workspace: &Path) -> Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    let mut found = Vec::new();
    for package in &metadata.packages {
        let own = |d: &&Dependency| d.path.is_some() && !for_tests(&package.name, &d.name, d.kind);
        let dependencies = package.dependencies.iter().filter(own);
        found.extend(forbidden_arrows(&package.name, dependencies.map(|d| d.name.as_str())));
        if !UNSAFE.contains(&package.name.as_str()) {
            found.extend(roots_without_forbid(package)?);
        }
        if package.name == "weir-netif"
            && let Some(folder) = package.manifest_path.parent()
        {
            unsafe_in(
                &folder.as_std_path().join("src"),
                Some("arena"),
                "netif keeps its unsafe in the arena",
                &mut found,
            )?;
        }
    }
    Ok(found)
}

fn for_tests(from: &str, to: &str, kind: DependencyKind) -> bool {
    kind == DependencyKind::Development && DEVELOPMENT.contains(&(from, to))
}

fn forbidden_arrows<'a>(from: &str, to: impl Iterator<Item = &'a str>) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == from) else {
        return vec![format!("{from} is a crate the design does not know")];
    };
    let short = |name: &str| name.trim_start_matches("weir-").to_owned();
    let list = allowed.iter().map(|name| short(name)).collect::<Vec<_>>().join(", ");
    to.filter(|name| !allowed.contains(name))
        .map(|name| format!("{} -> {}: {} may use {{{list}}} only", short(from), short(name), short(from)))
        .collect()
}

/// Libraries and programs of a crate whose root lacks `forbid(unsafe_code)`.
fn roots_without_forbid(package: &Package) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for target in &package.targets {
        let product = target.kind.iter().any(|kind| matches!(kind, TargetKind::Lib | TargetKind::Bin));
        let text = std::fs::read_to_string(&target.src_path)
            .with_context(|| format!("reading {}", target.src_path))?;
        if !product || text.contains("#![forbid(unsafe_code)]") {
            continue;
        }
        // The entry point is an exported symbol, which `forbid` would refuse: no file beside such a root has unsafe code.
        let folder = target.src_path.parent().filter(|_| text.contains("entry!("));
        match folder {
            Some(folder) => {
                unsafe_in(folder.as_std_path(), None, "an image has no unsafe of its own", &mut found)?
            }
            None => found.push(format!("{} has no #![forbid(unsafe_code)]", target.src_path)),
        }
    }
    Ok(found)
}

/// Unsafe code in a folder's files, but for those whose names begin with `but`.
fn unsafe_in(folder: &Path, but: Option<&str>, why: &str, found: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?.flatten()
    {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if but.is_some_and(|but| name.starts_with(but)) {
            continue;
        }
        if path.is_dir() {
            unsafe_in(&path, but, why, found)?;
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|form| code.contains(form)) {
                found.push(format!("{}:{}: {why}", path.display(), number + 1));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_offending_arrow() {
        assert_eq!(
            forbidden_arrows("weir-netstack", ["weir-netif", "weir-machine"].into_iter()),
            ["netstack -> machine: netstack may use {bpf, netif, sync} only"]
        );
        assert!(forbidden_arrows("weir-app", ["weir-netstack", "weir-sync"].into_iter()).is_empty());
        assert_eq!(forbidden_arrows("weir-util", [].into_iter()).len(), 1);
        let excused = |to, kind| for_tests("weir-netstack", to, kind);
        assert!(excused("weir-machine", DependencyKind::Development));
        assert!(
            !excused("weir-machine", DependencyKind::Normal)
                && !excused("weir-machine", DependencyKind::Build)
        );
        assert!(!excused("weir-app", DependencyKind::Development));
    }
}
