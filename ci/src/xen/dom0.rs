//! Xen with its dom0 in a machine of its own: start it, run commands in it, keep what it says.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::agent::{Agent, Output};
use super::initrd;
use crate::cleanup::{self, Made};
use crate::command;
use crate::qemu::{Machine, Platform, Spec};
use crate::router::Image;

/// From power-on to the first command in dom0, on a busy machine.
const BOOT: Duration = Duration::from_secs(180);

/// Xen's command line: COM1 is Xen's, COM2 is left to dom0. Speculation's set-up does not end under emulation.
const XEN: &str = "com1=115200,8n1 console=com1 dom0_mem=1024M,max:1024M loglvl=warning guest_loglvl=all noreboot=1 \
                   spec-ctrl=no";

/// A running Xen.
pub(crate) struct Dom0 {
    pub(crate) machine: Machine,
    agent: Agent,
    _files: Made,
}

/// Paths in dom0 of what a run brings along.
pub(crate) const WEIR: &str = "/root/weir.elf";
pub(crate) const LINUX: &str = "/root/vmlinuz";
pub(crate) const LINUX_INITRD: &str = "/root/linux.cpio";

impl Dom0 {
    /// Boots Xen and dom0, with what `guests` need; ends the machine after `limit`, whatever it does.
    pub(crate) fn start(guests: &[Image], limit: Duration) -> Result<Dom0> {
        let (directory, made) = cleanup::directory()?;
        let mut files = vec![("usr/bin/lab".to_owned(), stripped_self(&directory)?)];
        let mut add = |path: &str, content: Vec<u8>| {
            files.push((path.trim_start_matches('/').to_owned(), content));
        };
        if guests.contains(&Image::Weir) {
            let image = crate::router::weir_elf()?;
            let content = std::fs::read(&image)
                .with_context(|| format!("there is no image {}: make image", image.display()))?;
            add(WEIR, content);
        }
        if guests.contains(&Image::Linux) {
            add(LINUX, std::fs::read(crate::linux::kernel()?)?);
            add(LINUX_INITRD, super::domu::initramfs()?);
        }
        let initrd = directory.join("initrd");
        initrd::write(&initrd, &files)?;
        let xen = directory.join("xen");
        let packed = initrd::hypervisor()?;
        let mut unpack = Command::new("sh");
        unpack.args(["-c", "gzip -dc \"$0\" > \"$1\""]).args([&packed, &xen]);
        command::run(&mut unpack, &[], Duration::from_secs(20))?.success("unpacking Xen")?;

        let mut spec = Spec::new(&xen);
        spec.platform = Platform::Pc;
        // Several threads hang in Xen's start; newer CPU models crash dom0's kernel.
        spec.accelerator = "tcg,thread=single";
        spec.cpu = "qemu64,+svm,+npt";
        // With two, emulated SVM delivers a guest's interrupt a second time before the first instruction of its handler:
        // on an IST stack that loses the interrupted code, in Linux it breaks programs. Guests may have more vCPUs.
        spec.cpus = 1;
        spec.memory_mib = 3072;
        spec.command_line = XEN.to_owned();
        // A multiboot module with its command line, then one more.
        let kernel = initrd::kernel()?;
        let modules = format!("{} console=hvc0 quiet panic=1,{}", kernel.display(), initrd.display());
        spec.initrd = Some(PathBuf::from(modules));
        let socket = directory.join("agent");
        let chardev = format!("socket,id=agent,path={},server=on,wait=off", socket.display());
        spec.extra = ["-chardev", &chardev, "-serial", "chardev:agent"].map(str::to_owned).to_vec();
        spec.limit = limit;
        let machine = Machine::start(&spec)?;
        let mut agent = Agent::connect(&socket, Duration::from_secs(10))?;
        if let Err(error) = agent.greet(BOOT) {
            let text = machine.console.text();
            bail!("{error:#}; Xen's console ends:\n{}", command::last_lines(&text, 30));
        }
        Ok(Dom0 { machine, agent, _files: made })
    }

    /// Runs a script in dom0's shell.
    pub(crate) fn run(&mut self, script: &str, limit: Duration) -> Result<Output> {
        self.agent.run(script, limit)
    }

    /// Runs a script that must succeed; its output.
    pub(crate) fn check(&mut self, script: &str, limit: Duration) -> Result<String> {
        let output = self.run(script, limit)?;
        if output.code != 0 {
            bail!("in dom0: {script}: exit code {}: {}", output.code, output.said());
        }
        Ok(output.stdout)
    }

    /// Writes a text file.
    pub(crate) fn write(&mut self, path: &str, text: &str) -> Result<()> {
        let script = format!("cat > {path} <<'END OF THE FILE'\n{}\nEND OF THE FILE\n", text.trim_end());
        self.check(&script, Duration::from_secs(10)).map(|_| ())
    }

    /// Writes Xen's console and dom0's logs to the report folder; where they are.
    pub(crate) fn report(&mut self, name: &str) -> Result<String> {
        let folder = crate::rig::report_folder()?;
        let path = folder.join(format!("{name}.txt"));
        let mut text = String::new();
        let logs = "for f in /var/log/xen/*.log /var/log/xen/console/*; do echo; echo \"$f\"; tail -c 20000 \"$f\"; done
echo; xl list; xl vcpu-list
for id in $(xl list | awk 'NR > 1 && $2 + 0 > 0 { print $2 }'); do echo \"domain $id, local APICs\"; xen-hvmctx $id; done |
  grep -aiE 'domain|vcpu|lapic|isr|irr|tpr|tm[ir]' | cut -c 1-200
xl list | awk 'NR > 1 && $2 + 0 > 0 { for (v = 0; v < $4; v++) print $2, v }' | while read -r id vcpu; do
  echo \"domain $id vCPU $vcpu, three times\"
  for i in 1 2 3; do xenctx -a $id $vcpu; done
done 2>&1
xenstore-ls -fp | grep -E 'vif|vm-data|state|weir'; dmesg | tail -n 60
xl debug-keys e; xl debug-keys g; sleep 1";
        if let Ok(output) = self.agent.run_to_limit(logs, Duration::from_secs(20)) {
            text.push_str(&output.stdout);
        }
        let (xen, errors) = (self.machine.console.text(), self.machine.errors.text());
        text.push_str(&format!("\nXen's console\n{xen}\n{errors}"));
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path.display().to_string())
    }
}

/// This program without its symbols, for a machine of its own.
pub(crate) fn stripped_self(directory: &std::path::Path) -> Result<Vec<u8>> {
    let own = std::env::current_exe().context("own path")?;
    let small = directory.join("lab");
    let paths = [own.display().to_string(), small.display().to_string()];
    command::capture("objcopy", &["--strip-all", &paths[0], &paths[1]], Duration::from_secs(60))?;
    let content = std::fs::read(&small)?;
    let _ = std::fs::remove_file(&small);
    Ok(content)
}
