//! Two routers' sockets and a link between them that loses, doubles and reorders, in virtual time.

mod datagrams;
mod flood;
mod hostile;
mod link;
mod parking;
mod streams;

pub(crate) use link::{LINK, Out, address};

/// The first end of a link.
pub(crate) fn end() -> crate::Transport {
    link::Link::new(crate::Settings::default(), 1).ends[0].clone()
}
