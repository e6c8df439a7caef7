//! The machine that benchmarks run on, and how much others used it meanwhile.

use anyhow::{Context, Result};

/// Cycles of the time-stamp counter in a nanosecond. Linux derives BogoMIPS from that counter's rate, twice it.
pub(super) fn gigahertz() -> Result<f64> {
    let mips = cpuinfo("bogomips").context("/proc/cpuinfo tells no BogoMIPS")?;
    Ok(mips.parse::<f64>()? / 2000.0)
}

fn cpuinfo(name: &str) -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Hundredths of a second that all cores were busy, and all there were. See proc(5), /proc/stat.
fn busy() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let times: Vec<u64> =
        text.lines().next()?.split_whitespace().skip(1).map_while(|t| t.parse().ok()).collect();
    let all: u64 = times.iter().take(8).sum();
    let idle = times.get(3)? + times.get(4)?;
    Some((all - idle, all))
}

/// Hundredths of a second that this process and those it waited for took.
fn own() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may have spaces: utime, stime, cutime and cstime are fields 14 to 17.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<u64>().ok()).sum()
}

/// Watches what others do on this machine from now on.
pub(super) struct Load {
    busy: (u64, u64),
    own: u64,
}

impl Load {
    pub(super) fn begin() -> Load {
        Load { busy: busy().unwrap_or_default(), own: own().unwrap_or_default() }
    }

    /// Share of all cores' time that went to others. To be asked when all programs have ended.
    fn others(&self) -> f64 {
        let (busy, all) = busy().unwrap_or_default();
        let own = own().unwrap_or_default().saturating_sub(self.own);
        let others = (busy - self.busy.0).saturating_sub(own);
        others as f64 / (all - self.busy.1).max(1) as f64
    }

    /// The machine and its load, for a table's reader.
    pub(super) fn description(&self, gigahertz: f64) -> String {
        let read = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
        let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = kernel.split('-').next().unwrap_or_default().to_owned();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let caches: Vec<String> = (0..4)
            .filter_map(|n| {
                let at = |what: &str| read(&format!("/sys/devices/system/cpu/cpu0/cache/index{n}/{what}"));
                let (level, size, kind) = (at("level").ok()?, at("size").ok()?, at("type").ok()?);
                (kind != "Instruction").then(|| format!("L{level} {size}"))
            })
            .collect();
        let hypervisor = match cpuinfo("flags").is_some_and(|flags| flags.contains("hypervisor")) {
            true => "virtual machine",
            false => "computer",
        };
        let others = self.others() * 100.0;
        let load = match others {
            ..2.0 => format!("Other programs took {others:.1} % of its time meanwhile."),
            _ => format!(
                "**Other programs took {others:.0} % of its time meanwhile**: only the quickest samples and ratios count."
            ),
        };
        format!(
            "A {hypervisor} with {cores} cores ({}), time-stamp counter at {gigahertz:.2} GHz, {}, 4 KiB pages, Linux \
             {kernel}. {load}",
            cpuinfo("model name").unwrap_or_default(),
            caches.join(", "),
        )
    }
}
