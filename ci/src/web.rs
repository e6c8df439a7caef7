//! `lab web`: the router's page in a real browser, step by step, and a picture of each of its parts: first with a simulated
//! router behind it, which has much to show, then with a booted one and hosts that count what they send.

mod api;
mod booted;
mod browser;
mod explain;
mod packets;
mod picture;
mod program;
mod steps;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
pub(crate) use browser::{free_address, request};

use api::Api;
use browser::Browser;
use program::Program;
use steps::Step;

/// A page under test: the browser that shows it, whom it asks, and what is behind that.
pub(crate) struct Page<B = Program> {
    browser: Browser,
    server: Api,
    behind: B,
    /// Where its pictures go.
    pictures: PathBuf,
}

/// What can be behind a page.
pub(crate) trait Behind {
    /// The pictures that are taken with it.
    const PICTURES: &[&str];
    /// What the lab calls it.
    const NAME: &str;

    /// Writes what helps to understand a failure; says where it is.
    fn report(&self) -> Result<String>;
}

impl Behind for Program {
    const PICTURES: &[&str] = &[
        "configuration",
        "configuration-error",
        "interfaces",
        "log",
        "overview",
        "overview-dark",
        "overview-phone",
        "routes",
        "trial",
    ];
    const NAME: &str = "simulated";

    fn report(&self) -> Result<String> {
        Ok(String::new())
    }
}

/// Runs the steps, a line each. Whether none failed.
pub(crate) fn run(mut arguments: Arguments) -> Result<bool> {
    let list = arguments.flag("--list");
    let only: Option<String> = arguments.option("--only")?;
    arguments.end("web")?;
    if let Some(other) = only.as_deref().filter(|only| ![Program::NAME, booted::Machine::NAME].contains(only))
    {
        bail!("--only is {} or {}, not {other}", Program::NAME, booted::Machine::NAME);
    }
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    if list {
        let names = |name: &str, steps: &mut dyn Iterator<Item = &str>| {
            steps.filter(|_| wanted(name)).for_each(|step| println!("{name} {step}"));
        };
        names(Program::NAME, &mut steps::STEPS.iter().map(|(name, _)| *name));
        names(booted::Machine::NAME, &mut booted::STEPS.iter().map(|(name, _)| *name));
        return Ok(true);
    }
    let began = Instant::now();
    let mut failed = 0;
    if wanted(Program::NAME) {
        failed += all(Program::start, steps::STEPS)?;
    }
    if wanted(booted::Machine::NAME) {
        failed += all(booted::Machine::start, booted::STEPS)?;
    }
    println!("{failed} failed, in {:.0} s", began.elapsed().as_secs_f32());
    Ok(failed == 0)
}

/// How many of the steps failed, with what `start` starts behind the page.
fn all<B: Behind>(start: impl FnOnce() -> Result<(B, Api)>, steps: &[Step<B>]) -> Result<usize> {
    let began = Instant::now();
    let pictures = crate::router::workspace()?.join("docs/screenshots");
    std::fs::create_dir_all(&pictures).with_context(|| format!("making {}", pictures.display()))?;
    let (behind, server) = start()?;
    let mut page = Page { browser: Browser::start()?, server, behind, pictures };
    show("ok", "start", began, &format!("{} router and Chromium run", B::NAME));
    let mut failed = 0;
    for (name, step) in steps {
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
    if failed > 0 {
        println!("        {}", page.behind.report()?);
    }
    Ok(failed)
}

fn show(mark: &str, name: &str, began: Instant, said: &str) {
    println!("{mark:<5} {name:<20} {:>5.1} s  {said}", began.elapsed().as_secs_f32());
}

impl<B: Behind> Page<B> {
    /// What the browser shows after a step failed.
    fn report(&self, step: &str) -> Result<PathBuf> {
        let path = crate::rig::report_folder()?.join(format!("web-{}-{step}.png", B::NAME));
        std::fs::write(&path, self.browser.screenshot()?)?;
        Ok(path)
    }
}
