//! dom0's initrd: a small Linux made from this machine's Debian packages, with Xen's tools, and in it what one run
//! brings along. What comes from packages is kept in the report folder under a digest of what it is made from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::command::{self, capture};
use crate::cpio::Archive;

/// Programs of dom0 beside busybox, by name on the usual path. Busybox's own shell would prefer its own `ip` to iproute2's.
const PROGRAMS: &[&str] = &["dash", "ip", "ping", "iperf3", "ethtool", "perl"];

/// Xen's programs, in the folder of its version.
const XEN_PROGRAMS: &[&str] =
    &["xl", "xenstored", "xenconsoled", "xen-init-dom0", "xenctx", "xen-hvmctx", "libxl-save-helper"];

/// xenstore's programs.
const STORE_PROGRAMS: &[&str] = &["ls", "read", "write", "list", "exists", "rm", "watch", "chmod", "control"];

/// glibc opens it when a thread ends; `ldd` does not know.
const UNWINDER: &str = "/lib/x86_64-linux-gnu/libgcc_s.so.1";

/// Netback's own limit on queues is dom0's number of CPUs.
const QUEUES: &str = "max_queues=4";

const MODULES: &[&str] =
    &["xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-privcmd", "xenfs", "xen-netback", "8021q"];

/// Mounts, modules, Xen's daemons, then commands from the lab. `MODULES` stands for the lines that load modules.
const INIT: &str = "#!/bin/sh
export PATH=/usr/bin:/usr/sbin:XEN_FOLDER HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /run/xen /run/xenstored /run/lock /run/netns /var/log/xen/console /var/lib/xen /var/lib/xenstored /tmp
mount -t devpts devpts /dev/pts
ln -sf /run /var/run
MODULES
mount -t xenfs xenfs /proc/xen
ip link set lo up
xenstored --pid-file /run/xenstored.pid
until xenstore-exists / 2>/dev/null; do sleep 0.1; done
xen-init-dom0
xenconsoled --log=guest --log-dir=/var/log/xen/console
while :; do lab xen-agent /dev/ttyS1; sleep 1; done
";

/// A vif of a guest goes into the network namespace that its `bridge` names, and gets that namespace's addresses: the
/// lines of `ip` in /etc/lab/NAMESPACE, in which `VIF` stands for the device. libxl gives `vif` and `XENBUS_PATH`.
const VIF_SCRIPT: &str = "#!/bin/sh
case \"$1\" in
online)
  host=$(xenstore-read \"$XENBUS_PATH/bridge\")
  ip link set \"$vif\" netns \"$host\" &&
    sed \"s/VIF/$vif/\" \"/etc/lab/$host\" | ip -n \"$host\" -batch - 2>>/var/log/xen/vif-lab.log &&
    xenstore-write \"$XENBUS_PATH/hotplug-status\" connected ||
    xenstore-write \"$XENBUS_PATH/hotplug-status\" error
  ;;
esac
";

/// The newest hypervisor, still compressed.
pub(crate) fn hypervisor() -> Result<PathBuf> {
    newest("/boot", |name| name.starts_with("xen-4.") && name.ends_with("-amd64.gz"))
        .context("no hypervisor: apt-get install -y --no-install-recommends xen-hypervisor-4.17-amd64")
}

/// The newest kernel that can be dom0: Debian's generic one.
pub(crate) fn kernel() -> Result<PathBuf> {
    newest("/boot", |name| {
        name.starts_with("vmlinuz-")
            && name.ends_with("-amd64")
            && !["cloud", "-rt-"].iter().any(|w| name.contains(w))
    })
    .context("no kernel for dom0: apt-get install -y linux-image-amd64")
}

/// Folder of the newest Xen's tools.
pub(crate) fn tools() -> Result<PathBuf> {
    let folder = newest("/usr/lib", |name| name.starts_with("xen-4.")).map(|folder| folder.join("bin"));
    match folder {
        Ok(folder) if folder.join("xl").is_file() => Ok(folder),
        _ => bail!("no xl: apt-get install -y --no-install-recommends xen-utils-4.17"),
    }
}

fn newest(folder: &str, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("reading {folder}"))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .map(|entry| entry.path())
        .collect();
    // 4.17 after 4.9, 6.1.0-56 after 6.1.0-9.
    found.sort_by_key(|path| numbers(&path.to_string_lossy()));
    found.pop().with_context(|| format!("nothing fitting in {folder}"))
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// Writes the initrd to `path`: the part from packages, then `files` (path in dom0 and content).
pub(crate) fn write(path: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    let mut bytes = base()?;
    let mut archive = Archive::default();
    let mut tree = Tree::default();
    for (path, content) in files {
        tree.0.insert(path.clone(), Entry::File(content.clone()));
    }
    tree.emit(&mut archive);
    bytes.extend(archive.finish());
    std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// The part from packages: kept from the last run if nothing has changed.
fn base() -> Result<Vec<u8>> {
    let sources = sources()?;
    let folder = crate::rig::report_folder()?;
    let name = format!("xen-dom0-{}.cpio", sources.digest()?);
    let path = folder.join(&name);
    if let Ok(bytes) = std::fs::read(&path) {
        return Ok(bytes);
    }
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("xen-dom0-") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let bytes = sources.archive()?;
    let partial = folder.join(format!("xen-dom0-{}.partial", std::process::id()));
    std::fs::write(&partial, &bytes).with_context(|| format!("writing {}", partial.display()))?;
    std::fs::rename(&partial, &path)?;
    Ok(bytes)
}

/// What the initrd is made from.
struct Sources {
    files: BTreeSet<PathBuf>,
    modules: Vec<PathBuf>,
    tools: PathBuf,
    applets: Vec<String>,
}

fn sources() -> Result<Sources> {
    let (tools, kernel) = (tools()?, kernel()?);
    let release =
        kernel.to_string_lossy().split_once("vmlinuz-").map(|(_, r)| r.to_owned()).unwrap_or_default();
    let limit = Duration::from_secs(10);
    let mut modules: Vec<PathBuf> = Vec::new();
    for module in MODULES {
        for line in capture("modprobe", &["-S", &release, "--show-depends", module], limit)?.lines() {
            let Some(path) = line.strip_prefix("insmod ") else { continue };
            let path = PathBuf::from(path.trim());
            if !modules.contains(&path) {
                modules.push(path);
            }
        }
    }
    let mut programs: Vec<PathBuf> = XEN_PROGRAMS.iter().map(|name| tools.join(name)).collect();
    for name in PROGRAMS {
        programs.push(find(name)?);
    }
    for name in STORE_PROGRAMS {
        programs.push(find(&format!("xenstore-{name}"))?);
    }
    let mut files: BTreeSet<PathBuf> = BTreeSet::new();
    files.insert(PathBuf::from(UNWINDER));
    for program in programs {
        let text = command::run(Command::new("ldd").arg(&program), &[], limit)?.stdout;
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/'));
        files.extend(libraries.map(PathBuf::from));
        files.insert(program);
    }
    let applets = capture("busybox", &["--list"], limit)?.lines().map(str::to_owned).collect();
    Ok(Sources { files, modules, tools, applets })
}

fn find(program: &str) -> Result<PathBuf> {
    let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    folders.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.is_file()).with_context(
        || format!("{program} is not installed: apt-get install -y {}", command::package_of(program)),
    )
}

impl Sources {
    /// Of all names, sizes and times, and of this program's own part.
    fn digest(&self) -> Result<String> {
        let mut digest = Sha256::new();
        digest.update([INIT, VIF_SCRIPT, QUEUES].concat());
        digest.update(self.applets.join(" "));
        let busybox = PathBuf::from("/bin/busybox");
        for path in self.files.iter().chain(&self.modules).chain([&busybox]) {
            let about = path.metadata().with_context(|| format!("reading {}", path.display()))?;
            let time = about.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            digest.update(format!("{} {} {time}\n", path.display(), about.len()));
        }
        Ok(digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    fn archive(&self) -> Result<Vec<u8>> {
        let mut tree = Tree::default();
        // The folders as in Debian: everything is below /usr.
        for (link, target) in
            [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
        {
            tree.0.insert(link.to_owned(), Entry::Link(target.to_owned()));
        }
        for folder in ["dev", "proc", "sys", "run", "tmp", "root", "var/log/xen", "etc/lab", "etc/xen"] {
            tree.0.insert(folder.to_owned(), Entry::Folder);
        }
        let mut loads = String::new();
        for module in &self.modules {
            let name = module.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            tree.0.insert(format!("usr/lib/modules/{name}"), Entry::read(module)?);
            let parameters = if name.starts_with("xen-netback.") { QUEUES } else { "" };
            loads.push_str(&format!("insmod /lib/modules/{name} {parameters}\n"));
        }
        for path in &self.files {
            tree.0.insert(home(path)?, Entry::read(path)?);
        }
        tree.0.insert("usr/bin/busybox".to_owned(), Entry::read(Path::new("/bin/busybox"))?);
        tree.0.insert("usr/bin/sh".to_owned(), Entry::Link("dash".to_owned()));
        tree.0.insert("etc/xen/xl.conf".to_owned(), Entry::File(Vec::new()));
        for applet in &self.applets {
            let path = format!("usr/bin/{applet}");
            if !PROGRAMS.contains(&applet.as_str()) {
                tree.0.entry(path).or_insert_with(|| Entry::Link("busybox".to_owned()));
            }
        }
        let init = INIT.replace("MODULES\n", &loads).replace("XEN_FOLDER", &self.tools.to_string_lossy());
        tree.0.insert("init".to_owned(), Entry::File(init.into_bytes()));
        tree.0.insert("etc/xen/scripts/vif-lab".to_owned(), Entry::File(VIF_SCRIPT.into()));
        let mut archive = Archive::default();
        tree.emit(&mut archive);
        Ok(archive.finish())
    }
}

/// A file's path without links among its folders, from the root, without the first slash.
fn home(path: &Path) -> Result<String> {
    let folder = path.parent().context("no folder")?;
    let folder = folder.canonicalize().with_context(|| format!("finding {}", folder.display()))?;
    let path = folder.join(path.file_name().context("no name")?);
    Ok(path.to_string_lossy().trim_start_matches('/').to_owned())
}

enum Entry {
    Folder,
    File(Vec<u8>),
    Link(String),
}

impl Entry {
    fn read(path: &Path) -> Result<Entry> {
        Ok(Entry::File(std::fs::read(path).with_context(|| format!("reading {}", path.display()))?))
    }
}

/// Paths and what is there; folders of files need not be named.
#[derive(Default)]
struct Tree(BTreeMap<String, Entry>);

impl Tree {
    fn emit(&self, archive: &mut Archive) {
        let mut made: BTreeSet<&str> = BTreeSet::new();
        for (path, entry) in &self.0 {
            for (at, _) in path.match_indices('/') {
                let folder = path.get(..at).unwrap_or_default();
                if made.insert(folder) {
                    archive.directory(folder);
                }
            }
            match entry {
                Entry::Folder if made.insert(path) => archive.directory(path),
                Entry::Folder => {}
                Entry::File(content) => archive.file(path, content),
                Entry::Link(target) => archive.link(path, target),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_by_number_not_by_letter() {
        assert!(numbers("/boot/vmlinuz-6.1.0-56-amd64") > numbers("/boot/vmlinuz-6.1.0-9-amd64"));
        assert!(numbers("/usr/lib/xen-4.17") > numbers("/usr/lib/xen-4.9"));
    }
}
