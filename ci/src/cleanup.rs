//! What the lab has made and must remove: QEMU processes, namespaces, directories. Every maker registers its
//! thing here; dropping the `Made` removes it, and so does Ctrl-C, a panic or an overrun deadline.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

static MADE: Mutex<Vec<(u64, Thing, Option<Instant>)>> = Mutex::new(Vec::new());
/// Set once a signal has come: whatever is made from then on is removed at once.
static STOPPING: AtomicBool = AtomicBool::new(false);
static NEXT: AtomicU64 = AtomicU64::new(1);

/// One thing outside this process that outlives a careless exit.
#[derive(Clone, Debug)]
pub(crate) enum Thing {
    /// A child's process id. Whoever reaps the child must drop the `Made` first.
    Process(u32),
    /// A named network namespace.
    Namespace(String),
    /// A directory and all that is in it.
    Directory(PathBuf),
    /// The terminal's modes before the lab changed them.
    Terminal(rustix::termios::Termios),
}

impl Thing {
    fn remove(&self) {
        match self {
            Thing::Process(id) => kill(*id),
            Thing::Namespace(name) => {
                // A device moved in from elsewhere is destroyed with its namespace.
                let _ = Command::new("ip").args(["netns", "del", name]).output();
            }
            Thing::Directory(path) => {
                let _ = std::fs::remove_dir_all(path);
            }
            Thing::Terminal(modes) => {
                let _ = rustix::termios::tcsetattr(
                    rustix::stdio::stdin(),
                    rustix::termios::OptionalActions::Now,
                    modes,
                );
            }
        }
    }
}

/// Registration of one `Thing`; removes it when dropped.
#[derive(Debug)]
pub(crate) struct Made(u64);

impl Made {
    pub(crate) fn register(thing: Thing) -> Made {
        Made::insert(thing, None)
    }

    /// Like `register`; the watchdog removes the thing once `limit` is over.
    pub(crate) fn register_until(thing: Thing, limit: Duration) -> Made {
        Made::insert(thing, Some(Instant::now() + limit))
    }

    fn insert(thing: Thing, deadline: Option<Instant>) -> Made {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        if STOPPING.load(Ordering::SeqCst) {
            thing.remove();
            wait_if_stopping();
        }
        MADE.lock().unwrap_or_else(PoisonError::into_inner).push((id, thing, deadline));
        Made(id)
    }

    /// Forgets the thing: it is gone already (a child that was reaped).
    pub(crate) fn release(self) {
        let _ = self.take();
    }

    fn take(&self) -> Option<Thing> {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.iter().position(|(id, _, _)| *id == self.0).map(|i| made.swap_remove(i).1)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(thing) = self.take() {
            thing.remove();
        }
    }
}

/// Starts the signal and watchdog threads and makes a panic clean up (the profile aborts, so nothing unwinds).
pub(crate) fn install() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        remove_all();
    }));
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    if let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                STOPPING.store(true, Ordering::SeqCst);
                eprintln!("\nlab: stopped by signal {signal}; removing what was made");
                remove_all();
                std::process::exit(128 + signal);
            }
        });
    }
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_millis(250));
            let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
            for (_, thing, _) in made.iter().filter(|(_, _, at)| at.is_some_and(|at| Instant::now() > at)) {
                thing.remove();
            }
        }
    });
    remove_stale();
}

/// Never returns once a signal has come: what follows from the removal is no result, and the process ends soon.
pub(crate) fn wait_if_stopping() {
    while STOPPING.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// Removes everything, newest first. Called when the process is about to end.
pub(crate) fn remove_all() {
    let things = std::mem::take(&mut *MADE.lock().unwrap_or_else(PoisonError::into_inner));
    for (_, thing, _) in things.iter().rev() {
        thing.remove();
    }
}

/// Ends one process at once.
pub(crate) fn kill(id: u32) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Name of something this run makes: `weir-lab-PID-LABEL`, so a later run can tell whose leftovers they are.
pub(crate) fn name(label: &str) -> String {
    format!("weir-lab-{}-{}-{label}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A new directory for sockets and images. Its path is short: a socket's path may have 107 bytes at most.
pub(crate) fn directory() -> anyhow::Result<(PathBuf, Made)> {
    let parent = match std::env::temp_dir() {
        long if long.as_os_str().len() > 50 => PathBuf::from("/tmp"),
        short => short,
    };
    let path = parent.join(name("d"));
    std::fs::create_dir(&path).map_err(|e| anyhow::anyhow!("cannot make {}: {e}", path.display()))?;
    let made = Made::register(Thing::Directory(path.clone()));
    Ok((path, made))
}

/// Removes namespaces and directories of lab runs that no longer exist (they were ended by SIGKILL).
fn remove_stale() {
    let of_dead = |name: &str| {
        let pid = name.strip_prefix("weir-lab-")?.split('-').next()?.parse::<u32>().ok()?;
        (!PathBuf::from(format!("/proc/{pid}")).exists()).then_some(())
    };
    for (folder, namespace) in [(PathBuf::from("/run/netns"), true), (std::env::temp_dir(), false)] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if of_dead(&name).is_some() {
                match namespace {
                    true => Thing::Namespace(name).remove(),
                    false => Thing::Directory(entry.path()).remove(),
                }
            }
        }
    }
}
