//! `lab web`: the router's page in a real browser, step by step, and a picture of each of its parts.

mod browser;
mod picture;
mod server;
mod steps;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::arguments::Arguments;
pub(crate) use browser::{free_address, request};

use browser::Browser;
use server::Server;

/// A page under test: the browser that shows it, the server it is from.
pub(crate) struct Page {
    browser: Browser,
    server: Server,
    /// Where its pictures go.
    pictures: PathBuf,
}

/// Runs the steps, a line each. Whether none failed.
pub(crate) fn run(mut arguments: Arguments) -> Result<bool> {
    let list = arguments.flag("--list");
    arguments.end("web")?;
    if list {
        steps::STEPS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(true);
    }
    let began = Instant::now();
    let pictures = crate::router::workspace()?.join("docs/screenshots");
    std::fs::create_dir_all(&pictures).with_context(|| format!("making {}", pictures.display()))?;
    let server = Server::start()?;
    let mut page = Page { browser: Browser::start()?, server, pictures };
    show("ok", "start", began, "server and Chromium run");
    let mut failed = 0;
    for (name, step) in steps::STEPS {
        let began = Instant::now();
        let outcome = step(&mut page);
        crate::cleanup::wait_if_stopping();
        match outcome {
            Ok(said) => show("ok", name, began, &said),
            Err(error) => {
                failed += 1;
                show("FAIL", name, began, &format!("{error:#}").replace('\n', "\n        "));
                if let Ok(report) = page.report(name) {
                    println!("        picture: {}", report.display());
                }
            }
        }
    }
    println!("{failed} failed, in {:.0} s", began.elapsed().as_secs_f32());
    Ok(failed == 0)
}

fn show(mark: &str, name: &str, began: Instant, said: &str) {
    println!("{mark:<5} {name:<20} {:>5.1} s  {said}", began.elapsed().as_secs_f32());
}

impl Page {
    /// What the browser shows after a step failed.
    fn report(&self, step: &str) -> Result<PathBuf> {
        let path = crate::rig::report_folder()?.join(format!("web-{step}.png"));
        std::fs::write(&path, self.browser.screenshot()?)?;
        Ok(path)
    }
}
