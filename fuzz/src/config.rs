//! Any text as a configuration: an answer, the same every time; and what is accepted can be put into service.

use std::sync::Arc;
use weir_app::attach::{Attached, snapshot};
use weir_app::config::{Attachment, Config, Interface, MAX_ERRORS, MAX_INTERFACES, MAX_ROUTES, Match};
use weir_app::observe::State;
use weir_app::vlans::Indices;
use weir_netif::{Device, DeviceInfo, Fault, IfIndex, Link, Offloads, QueuePair};
use weir_sync::Control;

/// One run.
pub fn run(data: &[u8]) {
    let answer = Config::parse(data);
    assert_eq!(answer, Config::parse(data));
    match answer {
        Ok(config) => accepted(&config),
        Err(errors) => {
            assert!((1..=MAX_ERRORS).contains(&errors.iter().count()));
            for error in errors.iter() {
                assert!(error.line >= 1 && error.column >= 1 && error.span.end <= data.len());
                assert!(!error.message.is_empty());
            }
            assert!(!errors.in_file("weir.toml").to_string().is_empty());
        }
    }
}

fn accepted(config: &Config) {
    assert!((1..=MAX_INTERFACES).contains(&config.interfaces.len()));
    assert!(config.routes.len() <= MAX_ROUTES);
    for link in [Link::Up, Link::Down] {
        let with_device = |wish: &&Interface| matches!(wish.attachment, Attachment::Device(_));
        let devices = config.interfaces.iter().filter(with_device);
        let attached: Vec<Attached> = (0..).zip(devices).map(|(n, wish)| attach(n, wish, link)).collect();
        let port = |wish: &Interface| attached.iter().position(|attached| attached.name == wish.name);
        let ports: Vec<Option<usize>> = config.interfaces.iter().map(port).collect();
        let vlans = Indices::default().follow(config, &ports, &[]);
        assert_eq!(attached.len() + vlans.len(), config.interfaces.len());
        let snapshot = snapshot(config, &Default::default(), &attached, &vlans, &Default::default());
        assert!(snapshot.is_ok(), "accepted, but it contradicts itself: {:?}", snapshot.err());
    }
}

fn attach(index: u16, wish: &Interface, link: Link) -> Attached {
    let [high, low] = index.to_be_bytes();
    let mac = match wish.attachment {
        Attachment::Device(Match::Mac(mac)) => mac,
        _ => [2, 0xff, 0, 0, high, low],
    };
    let name = String::from("nothing");
    let info = DeviceInfo { name, mac, mtu: 1500, queues: 1, offloads: Offloads::empty() };
    Attached {
        attachment: 0,
        queues: 0,
        interface: IfIndex(index),
        name: wish.name.clone(),
        device: Box::new(Nothing(info)),
        state: State::Link(link),
        counters: Arc::default(),
        cuts_told: false,
    }
}

/// A device without queues.
struct Nothing(DeviceInfo);

impl Device for Nothing {
    fn info(&self) -> &DeviceInfo {
        &self.0
    }
    fn queues(&mut self, _: &Control) -> Vec<QueuePair> {
        Vec::new()
    }
    fn config_source(&self) -> u8 {
        0
    }
    fn link(&mut self, _: &Control) -> Link {
        Link::Up
    }
    fn service(&mut self, _: &Control) -> Result<(), Fault> {
        Ok(())
    }
    fn stop(&mut self, _: &Control) {}
}
