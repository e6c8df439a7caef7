//! What this machine has and lacks for the lab, and installing what it lacks.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command::{self, installed, is_root, package_of};

/// A program and what the lab does with it.
const PROGRAMS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "boots the images"),
    ("setpriv", "ends QEMU with the lab"),
    ("addr2line", "names the functions of a backtrace"),
    ("ip", "makes the hosts' namespaces"),
    ("ping", "hosts' pings"),
    ("traceroute", "hosts' traceroutes"),
    ("ethtool", "switches the hosts' offloads"),
    ("iperf3", "hosts' bulk transfers"),
    ("tcpdump", "captures in the hosts"),
    ("tshark", "verifies captured checksums, reads the router's captures"),
    ("capinfos", "sums them up"),
    ("busybox", "the Linux router's user space"),
    ("modprobe", "finds the Linux router's modules"),
    ("objcopy", "strips the lab for Xen's dom0"),
    ("dash", "dom0's shell"),
    ("grub-mkimage", "makes the disk image's boot loaders"),
    ("qemu-img", "makes disk images"),
    ("mcopy", "edits the configuration on a disk image"),
    ("virt-xml-validate", "checks what is written for libvirt"),
    ("xmllint", "does that for it"),
    ("chromium", "shows the router's web page"),
    ("chromedriver", "drives it"),
    ("curl", "speaks with the router's API"),
    ("promtool", "checks the router's metrics"),
    ("prometheus", "scrapes them"),
    ("openssl", "makes tokens"),
    ("dnsmasq", "gives the router addresses and names"),
    ("chronyd", "gives it the time"),
    ("rsyslogd", "takes its log"),
    ("mkfs.fat", "makes file systems that the router must read"),
];

/// What Xen's machine is made of beside programs: its Debian package, whether it is there, what it is.
fn xen_parts() -> [(&'static str, bool, &'static str); 3] {
    // Not xen-system-amd64: it has a machine with grub boot into Xen from then on.
    [
        ("xen-hypervisor-4.17-amd64", crate::xen::hypervisor().is_ok(), "Xen"),
        ("xen-utils-4.17", crate::xen::tools().is_ok(), "Xen's tools, for its dom0"),
        ("linux-image-amd64", crate::xen::kernel().is_ok(), "the kernel of Xen's dom0"),
    ]
}

/// What disk images are booted by beside programs, in the same form.
fn disk_parts() -> [(&'static str, bool, &'static str); 3] {
    let file = |path: &str| Path::new(path).is_file();
    [
        ("grub-pc-bin", file("/usr/lib/grub/i386-pc/boot.img"), "GRUB for BIOS"),
        ("grub-efi-amd64-bin", file("/usr/lib/grub/x86_64-efi/multiboot2.mod"), "GRUB for UEFI"),
        ("ovmf", crate::qemu::Firmware::Uefi.files().iter().all(|path| file(path)), "UEFI for QEMU"),
    ]
}

const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// Prints what there is; installs what is missing if `install`. Whether nothing is missing in the end.
pub(crate) fn check(install: Install) -> Result<bool> {
    let mut missing = missing();
    if !missing.is_empty() && install == Install::Yes {
        if !is_root() {
            bail!("--install needs root; run: {}", line(&missing));
        }
        apt(&["update"], &[])?;
    }
    // What is installed may take the place of something that was there, of another release: that is missing then.
    let mut tried = Vec::new();
    while install == Install::Yes && !missing.is_empty() && missing != tried {
        apt(&["install", "-y", "--no-install-recommends"], &missing)?;
        tried = core::mem::replace(&mut missing, self::missing());
    }
    if missing.is_empty() && install == Install::Yes {
        println!("everything the lab needs is installed");
        return Ok(true);
    }
    for (program, purpose) in PROGRAMS {
        show(installed(program), program, purpose);
    }
    let kernel = crate::linux::kernel();
    let name = kernel.as_ref().map_or_else(|_| KERNEL_PACKAGE.to_owned(), |path| path.display().to_string());
    show(kernel.is_ok(), &name, "the Linux router's kernel");
    for (package, there, purpose) in xen_parts().into_iter().chain(disk_parts()) {
        show(there, package, purpose);
    }
    println!();
    let namespaces = is_root() && can_make_namespaces();
    let tap = Path::new("/dev/net/tun").exists();
    match (is_root(), namespaces, tap) {
        (false, ..) => println!("not root: hosts speak in frames; real Linux hosts are skipped"),
        (true, false, _) => {
            println!("no network namespaces (container without CAP_SYS_ADMIN?): Linux hosts fail")
        }
        (true, true, false) => println!("no /dev/net/tun (modprobe tun): Linux hosts fail"),
        (true, true, true) => println!("root, namespaces and TAP devices: everything can run"),
    }
    match crate::router::weir_elf()? {
        image if image.is_file() => println!("image: {}", image.display()),
        image => println!("no image yet at {}: make image", image.display()),
    }
    if !missing.is_empty() {
        println!("\nmissing; this installs it:\n  {}", line(&missing));
    }
    Ok(missing.is_empty())
}

/// Whether to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Install {
    Yes,
    No,
}

fn missing() -> Vec<&'static str> {
    let programs =
        PROGRAMS.iter().filter(|(program, _)| !installed(program)).map(|(program, _)| package_of(program));
    let mut list: Vec<&str> = programs.collect();
    if crate::linux::kernel().is_err() {
        list.push(KERNEL_PACKAGE);
    }
    let parts = xen_parts().into_iter().chain(disk_parts());
    list.extend(parts.filter(|(_, there, _)| !there).map(|(package, ..)| package));
    list.dedup();
    list
}

fn line(packages: &[&str]) -> String {
    let sudo = if is_root() { "" } else { "sudo " };
    format!("{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {}", packages.join(" "))
}

fn show(there: bool, name: &str, purpose: &str) {
    println!("{}  {name:<42} {purpose}", if there { "ok     " } else { "MISSING" });
}

fn apt(words: &[&str], packages: &[&str]) -> Result<()> {
    println!("apt-get {} {}", words.join(" "), packages.join(" "));
    let mut command = Command::new("apt-get");
    // tshark's package would ask who may capture.
    command.args(words).args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    command::run(&mut command, &[], Duration::from_secs(900))?
        .success("apt-get")
        .map(|_| ())
        .context(line(packages))
}

fn can_make_namespaces() -> bool {
    let name = crate::cleanup::name("try");
    let made = crate::cleanup::Made::register(crate::cleanup::Thing::Namespace(name.clone()));
    let works = command::capture("ip", &["netns", "add", &name], Duration::from_secs(5)).is_ok();
    drop(made);
    works
}
