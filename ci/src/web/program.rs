//! A simulated router behind the page: an example program of the management plane's crate.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::api::Api;
use super::browser::free_address;
use crate::cleanup::{Made, Thing};
use crate::command::{self, explain};

/// Building it, if `cargo test` has not.
const BUILDS: Duration = Duration::from_secs(600);
/// Until it listens.
const STARTS: Duration = Duration::from_secs(20);
/// The token that it takes.
const TOKEN: &str = "correct-horse-battery";

/// It.
pub(crate) struct Program {
    path: PathBuf,
    running: Option<(Child, Made)>,
}

impl Program {
    /// Builds and starts it.
    pub(crate) fn start() -> Result<(Program, Api)> {
        let workspace = crate::router::workspace()?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--package", "weir-manage", "--example", "page"])
            .current_dir(&workspace);
        command::run(&mut build, &[], BUILDS)?.success("building the example `page`")?;
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
        let mut program = Program { path: target.join("debug/examples/page"), running: None };
        let api = Api { at: free_address()?, token: TOKEN.to_owned() };
        program.begin(&api)?;
        Ok((program, api))
    }

    /// Starts it again after [`end`](Self::end), where it was.
    pub(crate) fn begin(&mut self, api: &Api) -> Result<()> {
        // With the lab, it ends too.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&self.path)
            .arg(api.at.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| explain("setpriv", error))?;
        let made = Made::register(Thing::Process(child.id()));
        self.running = Some((child, made));
        let deadline = Instant::now() + STARTS;
        while let Err(error) = api.ask("GET", "/status", &[], "") {
            ensure!(Instant::now() < deadline, "it does not answer: {error:#}");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Ends it without a word, as a router that lost its power.
    pub(crate) fn end(&mut self) {
        if let Some((mut child, made)) = self.running.take() {
            drop(made);
            let _ = child.wait();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}
