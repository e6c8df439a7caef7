//! Where uhyve runs: this machine, or a Linux guest under QEMU whose emulated CPU has AMD's virtualisation.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{MTU, install};
use crate::cleanup::{self, Made, Thing};
use crate::command::{self, last_lines};
use crate::qemu::{Machine, Spec};
use crate::xen::agent::{Agent, Output};
use crate::xen::{dom0, initrd};

/// From power-on to the guest's first command.
const BOOT: Duration = Duration::from_secs(120);
/// How long this machine's KVM has to run the image up to its first line.
const TRIAL: Duration = Duration::from_secs(10);

/// Programs in the guest beside busybox and uhyve.
const PROGRAMS: &[&str] = &["dash", "ip", "ping", "iperf3"];
const MODULES: &[&str] = &["kvm-amd", "tun", "veth", "bridge"];

/// The shell is not busybox's, which would prefer its own `ip`.
const INIT: &str = "
mkdir -p /root /tmp /run/netns
for n in m a b; do /usr/bin/ip netns add $n; done
exec /usr/bin/dash -c 'export PATH=/usr/bin:/bin; while :; do lab xen-agent /dev/ttyS1; sleep 1; done'
";

/// In front of every script. A router runs in the background; what it says, its exit status and its process are in files.
fn prelude(directory: &str, uhyve: &str, [machine, a, b]: [&str; 3]) -> String {
    format!(
        "DIR={directory} M={machine} A={a} B={b} TAP=tap0 MTU={MTU}
uhyve_run() {{
  rm -f \"$DIR/out\" \"$DIR/status\" \"$DIR/pid\"; cp /proc/uptime \"$DIR/began\"
  (RUST_LOG=error NO_COLOR=1 ip netns exec $M {uhyve} \"$@\" > \"$DIR/out\" 2>&1 & echo $! > \"$DIR/pid\"
   wait $!; echo $? > \"$DIR/status.new\"; mv \"$DIR/status.new\" \"$DIR/status\") > /dev/null 2>&1 &
  until [ -e \"$DIR/pid\" ]; do sleep 0.01; done
}}
"
    )
}

pub(super) enum Place {
    Here { directory: PathBuf, prelude: String, _made: Vec<Made> },
    Guest { agent: Agent, machine: Box<Machine>, prelude: String, _made: Made },
}

impl Place {
    pub(super) fn find(limit: Duration) -> Result<Place> {
        let uhyve = install::program()?;
        let image = crate::router::weir_elf()?;
        ensure!(image.is_file(), "there is no image {}: make image", image.display());
        let tests = crate::router::test_image()?;
        ensure!(tests.is_file(), "there is no image {}: make test-image", tests.display());
        match trial(&uhyve, &image) {
            Ok(()) if command::is_root() => Place::here(&uhyve, &[image, tests]),
            _ => Place::guest(&uhyve, &[image, tests], limit),
        }
    }

    pub(super) fn describe(&self) -> &'static str {
        match self {
            Place::Here { .. } => "uhyve on this machine's KVM",
            Place::Guest { .. } => "uhyve on the KVM of a Linux guest under QEMU",
        }
    }

    fn here(uhyve: &Path, images: &[PathBuf]) -> Result<Place> {
        let (directory, made) = cleanup::directory()?;
        let mut made = vec![made];
        for image in images {
            std::fs::copy(image, directory.join(name(image)?)).context("copying an image")?;
        }
        let names = ["uhyve", "host", "host"].map(cleanup::name);
        for name in &names {
            made.push(Made::register(Thing::Namespace(name.clone())));
            command::capture("ip", &["netns", "add", name], Duration::from_secs(10))?;
        }
        let [machine, a, b] = &names;
        let prelude = prelude(
            &directory.to_string_lossy(),
            &uhyve.to_string_lossy(),
            [machine, a, b].map(String::as_str),
        );
        Ok(Place::Here { directory, prelude, _made: made })
    }

    fn guest(uhyve: &Path, images: &[PathBuf], limit: Duration) -> Result<Place> {
        let (directory, made) = cleanup::directory()?;
        let mut archive = crate::linux::base_archive(MODULES, INIT)?;
        for folder in ["etc", "usr", "usr/bin", "lib64", "lib/x86_64-linux-gnu", "root"] {
            archive.directory(folder);
        }
        for applet in ["mkdir", "rm", "mv", "cp", "kill"] {
            archive.link(&format!("bin/{applet}"), "/bin/busybox");
        }
        let mut programs = vec![uhyve.to_owned()];
        for name in PROGRAMS {
            programs.push(initrd::find(name)?);
        }
        let mut libraries = std::collections::BTreeSet::new();
        for program in &programs {
            let text = command::run(Command::new("ldd").arg(program), &[], Duration::from_secs(10))?.stdout;
            libraries.extend(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from));
            archive.file(&format!("usr/bin/{}", name(program)?), &read(program)?);
        }
        for library in libraries {
            archive.file(library.to_string_lossy().trim_start_matches('/'), &read(&library)?);
        }
        archive.link("bin/sh", "/usr/bin/dash");
        archive.file("usr/bin/lab", &dom0::stripped_self(&directory)?);
        for image in images {
            archive.file(&format!("root/{}", name(image)?), &read(image)?);
        }
        let initrd = directory.join("initrd");
        std::fs::write(&initrd, archive.finish()).context("writing the initrd")?;

        let mut spec = Spec::new(&crate::linux::kernel()?);
        // KVM wants AMD's virtualisation, the only one that QEMU emulates; one CPU, for the reason that Xen's machine has.
        spec.accelerator = "tcg,thread=single";
        spec.cpu = "EPYC,+svm,+npt";
        spec.memory_mib = 1024;
        spec.command_line = crate::linux::command_line();
        spec.initrd = Some(initrd);
        let socket = directory.join("agent");
        let chardev = format!("socket,id=agent,path={},server=on,wait=off", socket.display());
        spec.extra = ["-chardev", &chardev, "-serial", "chardev:agent"].map(str::to_owned).to_vec();
        spec.limit = limit;
        let machine = Machine::start(&spec)?;
        let mut agent = Agent::connect(&socket, Duration::from_secs(10))?;
        if let Err(error) = agent.greet(BOOT) {
            bail!("{error:#}; the guest's console ends:\n{}", last_lines(&machine.console.text(), 30));
        }
        let prelude = prelude("/root", "uhyve", ["m", "a", "b"]);
        Ok(Place::Guest { agent, machine: Box::new(machine), prelude, _made: made })
    }

    /// Runs a script.
    pub(super) fn run(&mut self, script: &str, limit: Duration) -> Result<Output> {
        match self {
            Place::Guest { agent, prelude, .. } => agent.run(&format!("{prelude}{script}"), limit),
            Place::Here { directory, prelude, .. } => {
                let mut shell = Command::new("sh");
                shell.current_dir(directory).args(["-c", &format!("{prelude}{script}")]);
                let output = command::run(&mut shell, &[], limit)?;
                let code = output.status.code().unwrap_or(-1);
                Ok(Output { code, stdout: output.stdout, stderr: output.stderr })
            }
        }
    }

    /// Runs a script that must succeed; its output.
    pub(super) fn check(&mut self, script: &str, limit: Duration) -> Result<String> {
        let output = self.run(script, limit)?;
        if output.code != 0 {
            bail!("{}: exit code {}: {}", script.trim(), output.code, output.said());
        }
        Ok(output.stdout)
    }

    /// What the guest's kernel said, for a report.
    pub(super) fn log(&self) -> String {
        match self {
            Place::Here { .. } => String::new(),
            Place::Guest { machine, .. } => machine.console.text(),
        }
    }
}

/// Whether this machine's KVM gets the image to its first line. Backends in software do not: they lack instructions.
fn trial(uhyve: &Path, image: &Path) -> Result<()> {
    ensure!(Path::new("/dev/kvm").exists(), "there is no /dev/kvm");
    let mut command = Command::new("timeout");
    command.arg(TRIAL.as_secs().to_string()).arg(uhyve).args(["-m", "64MiB"]).arg(image);
    let output = command::run(&mut command, &[], TRIAL * 2)?;
    ensure!(output.stdout.contains(" on uhyve, "), "{}", last_lines(&output.stderr, 3));
    Ok(())
}

fn name(path: &Path) -> Result<String> {
    Ok(path.file_name().context("no name")?.to_string_lossy().into_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}
