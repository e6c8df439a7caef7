//! A port of this machine that leads into a network namespace: a browser here reaches what listens there.

use std::fs::File;
use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Carries every connection to `listener` to `to` in `namespace`, until the lab ends.
pub(crate) fn into_namespace(listener: TcpListener, namespace: String, to: SocketAddr) {
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let namespace = namespace.clone();
            // A thread of its own: whoever enters a namespace stays there. A connection that fails is closed.
            thread::spawn(move || carry(near, &namespace, to));
        }
    });
}

fn carry(near: TcpStream, namespace: &str, to: SocketAddr) -> Result<()> {
    let path = format!("/run/netns/{namespace}");
    let file = File::open(&path).with_context(|| format!("opening {path}"))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context("entering it")?;
    let far = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
    let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
    let back = thread::spawn(move || half(far_too, near_too));
    half(near, far);
    let _ = back.join();
    Ok(())
}

/// Whichever side ends first, the other hears of it.
fn half(mut from: TcpStream, mut to: TcpStream) {
    let _ = copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
