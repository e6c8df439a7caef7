//! The management plane's view of this router, for tasks of any CPU: what management publishes, and the way to it.
//!
//! Reads copy what is published, within a masked section; what is to be done goes to the management task as a message,
//! and happens whole whether or not anybody waits for the answer.

mod engine;
mod lists;

pub use engine::Live;
pub use lists::Known;
pub(crate) use lists::routes;

use crate::attach::Equipment;
use crate::capture;
use crate::clients::{Learnt, News};
use crate::config::{Config, longest};
use crate::explain;
use crate::guest::Holdings;
use crate::observe::{self, InterfaceStatus};
use crate::ping::Probing;
use crate::shared::Shared;
use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use crossbeam_queue::ArrayQueue;
use spin::Once;
use weir_clients::syslog::Time;
use weir_machine::clock::wall::unix_us;
use weir_machine::task::{self, Signal};
use weir_machine::{clock, frames, log, mask, random};
use weir_manage::access::Access;
use weir_manage::capture::Wish;
use weir_manage::configurations::View as Configurations;
use weir_manage::explain::Question;
use weir_manage::model;
use weir_manage::problem::{Refused, refuse};
use weir_manage::router::{Command, Done, Router};
use weir_netif::IfCounters;
use weir_sync::{Control, Lock, Published, rank};

/// `[I]` Set by management before other CPUs serve anything.
static PLANE: Once<&'static Plane> = Once::new();

/// Commands that may wait for management.
const ORDERS: usize = 32;
/// Reports of the clients that may wait; each says all that is known.
const REPORTS: usize = 8;
/// Events that are remembered.
pub(crate) const EVENTS: usize = 128;

/// What management publishes. `[I]`
pub struct View {
    /// The configuration in force.
    pub config: Arc<Config>,
    /// What is in force beside it.
    pub learnt: Arc<Learnt>,
    /// What another configuration would find.
    pub equipment: Equipment,
    /// Its interfaces; their counters go on.
    pub interfaces: Vec<InterfaceStatus>,
    /// Counts packets whose interface is not in service.
    pub unconfigured: Arc<IfCounters>,
    /// Where the configuration is from.
    pub place: Option<String>,
    /// On Xen: what we held a moment ago.
    pub holdings: Option<Holdings>,
    /// All configurations.
    pub configurations: Configurations,
    /// The last [`EVENTS`], the oldest first.
    pub events: Vec<Arc<model::Event>>,
}

/// A command on its way to management, and where the answer goes.
pub(crate) struct Order {
    pub(crate) command: Command,
    answer: Arc<Answer>,
}

struct Answer {
    /// `[A]` Pushed by management, popped by who waits.
    outcome: ArrayQueue<Result<Done, Refused>>,
    news: Signal,
}

impl Order {
    pub(crate) fn answer(&self, outcome: Result<Done, Refused>) {
        // There is one answer, and room for it.
        let _ = self.answer.outcome.push(outcome);
        self.answer.news.set();
    }
}

/// What tasks of all CPUs share with management.
pub struct Plane {
    shared: &'static Shared,
    /// `[I]` What the router runs on.
    platform: String,
    /// `[I]` CPUs that forward.
    cpus: usize,
    /// `[P]` Written by management.
    view: Published<Arc<View>>,
    /// `[A]` Pushed by tasks of any CPU, popped by management.
    orders: ArrayQueue<Order>,
    /// `[A]` Pushed by the clients' task, popped by management.
    news: ArrayQueue<News>,
    /// `[A]` Inside.
    probing: Probing,
    /// `[L:Access]` Tokens, and who failed.
    access: Lock<rank::Access, Access>,
}

impl Plane {
    /// With what is in force at first.
    pub fn new(shared: &'static Shared, platform: String, cpus: usize, view: View) -> Self {
        let mut access = Access::new([random::seed(), random::seed()]);
        access.configure(&view.config.tokens);
        Self {
            shared,
            platform,
            cpus,
            view: Published::new(Box::new(Arc::new(view))),
            orders: ArrayQueue::new(ORDERS),
            news: ArrayQueue::new(REPORTS),
            probing: Probing::new(),
            access: Lock::new(access),
        }
    }

    /// What the router runs on.
    pub(crate) fn platform(&self) -> &str {
        &self.platform
    }

    /// Lets the API's connections be served.
    pub(crate) fn open(&'static self) {
        PLANE.call_once(|| self);
    }

    /// What management published last.
    pub fn view(&self) -> Arc<View> {
        mask::masked(|cx| self.view.read(cx).clone())
    }

    /// The same, for a task that holds `cx` already.
    pub(crate) fn view_with(&self, cx: &mut Control) -> Arc<View> {
        cx.masked(|cx| self.view.read(cx).clone())
    }

    /// Publishes what has changed. Management's.
    pub(crate) fn publish(&self, cx: &Control, view: View) {
        drop(self.view.publish(cx, Box::new(Arc::new(view))));
        let learners = &self.shared.learners;
        [&learners.addresses, &learners.ntp, &learners.syslog].into_iter().for_each(Signal::set);
    }

    /// The oldest command. Management's.
    pub(crate) fn next_order(&self) -> Option<Order> {
        self.orders.pop()
    }

    /// Tells management what was learnt; of too many reports the oldest goes.
    pub(crate) fn learn(&self, news: News) {
        self.news.force_push(news);
        self.shared.news.set();
    }

    /// The oldest report of the clients. Management's.
    pub(crate) fn next_news(&self) -> Option<News> {
        self.news.pop()
    }

    /// The way to the task that pings.
    pub(crate) fn probing(&self) -> &Probing {
        &self.probing
    }

    /// What all CPUs see.
    pub(crate) fn shared(&self) -> &'static Shared {
        self.shared
    }

    /// Who may enter, for a task that holds `cx` already.
    pub(crate) fn access_with<T>(&self, cx: &mut Control, work: impl FnOnce(&mut Access) -> T) -> T {
        work(&mut self.access.lock(&mut cx.locks()))
    }

    /// The router as a whole.
    pub fn status_of(&self, view: &View) -> model::Status {
        let (hostname, place) = (&view.config.hostname, view.place.as_deref());
        observe::status(self.shared, &self.platform, hostname, place, self.cpus, view.holdings)
    }
}

/// What tasks share with management, once there is management.
pub fn plane() -> Option<&'static Plane> {
    PLANE.get().copied()
}

/// Counters of all interfaces in service.
fn counters(view: &View) -> impl Iterator<Item = &Arc<IfCounters>> + Clone {
    view.interfaces.iter().filter_map(|interface| Some(&interface.device.as_ref()?.counters))
}

impl Router for &'static Plane {
    fn now_ms(&self) -> u64 {
        clock::now() / 1_000_000
    }

    async fn sleep_ms(&self, ms: u64) {
        match ms {
            0 => task::yield_now().await,
            _ => task::sleep(core::time::Duration::from_millis(ms)).await,
        }
    }

    fn status(&self) -> model::Status {
        self.status_of(&self.view())
    }

    fn interfaces(&self) -> Vec<model::Interface> {
        self.view().interfaces.iter().map(InterfaceStatus::model).collect()
    }

    fn routes(&self, offset: usize, limit: usize) -> model::Routes {
        let view = self.view();
        lists::routes(&view.config, &view.learnt, offset, limit)
    }

    async fn neighbors(&self) -> Vec<model::Neighbor> {
        lists::neighbors(self.shared, self.cpus).await
    }

    async fn explain(&self, question: Question) -> Result<model::Explanation, Refused> {
        let neighbors = lists::known(self.shared, self.cpus).await;
        explain::explain(self.shared, &self.view(), &neighbors, &question)
    }

    fn drops(&self) -> Vec<model::InterfaceLoss> {
        lists::drops(&self.view())
    }

    fn recorded(&self, most: usize) -> Vec<model::Recorded> {
        task::control(|cx| capture::recorded(cx, self.shared, most))
    }

    type Capture = capture::Session;

    fn capture(&self, wish: &Wish) -> Result<capture::Session, Refused> {
        capture::begin(self.shared, &self.view(), wish)
    }

    fn cpus(&self) -> model::Cpus {
        let view = self.view();
        model::Cpus {
            cpus: observe::cpus(self.shared, self.cpus, counters(&view)),
            queues: observe::queues(&view.interfaces),
            sockets: observe::sockets(self.shared, self.cpus),
            tasks: observe::tasks(),
            locks: observe::locks(),
        }
    }

    fn log(&self, from: u64) -> Vec<model::LogLine> {
        let line = |line: log::Kept| model::LogLine {
            number: line.number,
            at_us: line.at_ns / 1000,
            cpu: alloc::format!("{}", line.cpu),
            level: match line.level {
                log::Level::Error => model::LogLevel::Error,
                log::Level::Warn => model::LogLevel::Warn,
                log::Level::Info => model::LogLevel::Info,
                log::Level::Debug => model::LogLevel::Debug,
            },
            text: line.text,
            time: unix_us(line.at_ns).map(|us| Time(us).to_string()),
        };
        log::kept(from).into_iter().map(line).collect()
    }

    fn events(&self, from: u64) -> Vec<model::Event> {
        let view = self.view();
        view.events.iter().filter(|event| event.number >= from).map(|event| (**event).clone()).collect()
    }

    fn configurations(&self) -> Configurations {
        self.view().configurations.clone()
    }

    async fn command(&self, command: Command) -> Result<Done, Refused> {
        let answer = Arc::new(Answer { outcome: ArrayQueue::new(1), news: Signal::new() });
        if self.orders.push(Order { command, answer: answer.clone() }).is_err() {
            return Err(refuse(503, "Management is busy", "too many commands wait", "try again in a second"));
        }
        self.shared.news.set();
        loop {
            if let Some(outcome) = answer.outcome.pop() {
                return outcome;
            }
            answer.news.wait().await;
        }
    }

    fn longest_text(&self) -> usize {
        longest(frames::free_bytes())
    }

    fn access<T>(&self, work: impl FnOnce(&mut Access) -> T) -> T {
        task::control(|cx| self.access_with(cx, work))
    }
}
