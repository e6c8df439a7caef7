//! The lab's end of a NIC's wire: frames in datagrams, one a system call, or in a stream, many at once.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long a reader waits before it looks whether it is still wanted.
const LISTEN: Duration = Duration::from_millis(50);
/// How long a sender waits for a router that takes nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes a read asks for: more than the longest frame.
const CHUNK: usize = 1 << 17;
/// In a stream a frame is preceded by its length, big-endian (QEMU's net/stream.c).
const LENGTH: usize = 4;

/// One end of a wire.
pub(crate) enum Line {
    Datagrams(UnixDatagram),
    Stream { listener: UnixListener, peer: OnceLock<Peer> },
}

/// The connection of a stream.
pub(crate) struct Peer {
    reader: UnixStream,
    /// A frame is written whole before the next one.
    writer: Mutex<UnixStream>,
}

/// Frames to be sent together.
#[derive(Clone, Debug)]
pub(crate) struct Burst {
    frames: Vec<Vec<u8>>,
    /// As a stream carries them.
    bytes: Vec<u8>,
}

impl Burst {
    pub(crate) fn new(frames: Vec<Vec<u8>>) -> Burst {
        let bytes = frames.iter().flat_map(|frame| packed(frame)).collect();
        Burst { frames, bytes }
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }
}

fn packed(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
}

impl Line {
    /// Datagrams that arrive at `path`.
    pub(crate) fn datagrams(path: &Path) -> Result<Line> {
        let socket = UnixDatagram::bind(path).with_context(|| format!("binding {}", path.display()))?;
        // A frame of 64 KiB must fit; the queue's length is the kernel's net.unix.max_dgram_qlen.
        rustix::net::sockopt::set_socket_send_buffer_size(&socket, 1 << 20).context("socket buffer")?;
        socket.set_read_timeout(Some(LISTEN))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Line::Datagrams(socket))
    }

    /// A stream for whoever connects to `path`.
    pub(crate) fn stream(path: &Path) -> Result<Line> {
        let listener = UnixListener::bind(path).with_context(|| format!("binding {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Line::Stream { listener, peer: OnceLock::new() })
    }

    /// Tries to reach the other end, which receives datagrams at `path`.
    pub(crate) fn connect(&self, path: &Path) -> io::Result<()> {
        match self {
            Line::Datagrams(socket) => socket.connect(path),
            Line::Stream { peer, .. } if peer.get().is_some() => Ok(()),
            Line::Stream { listener, peer } => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(LISTEN))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                let reader = stream.try_clone()?;
                let _ = peer.set(Peer { reader, writer: Mutex::new(stream) });
                Ok(())
            }
        }
    }

    /// Sends one frame.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        match self {
            Line::Datagrams(socket) => socket.send(frame).map(|_| ()),
            Line::Stream { peer, .. } => write(peer, &packed(frame)),
        }
    }

    /// Sends one frame if there is room for it now. A stream waits.
    pub(crate) fn offer(&self, frame: &[u8]) -> io::Result<()> {
        use rustix::net::{SendFlags, send};
        match self {
            Line::Datagrams(socket) => Ok(send(socket, frame, SendFlags::DONTWAIT).map(|_| ())?),
            Line::Stream { .. } => self.send(frame),
        }
    }

    /// Sends all of them; a stream in one system call.
    pub(crate) fn send_burst(&self, burst: &Burst) -> io::Result<()> {
        match self {
            Line::Datagrams(_) => burst.frames.iter().try_for_each(|frame| self.send(frame)),
            Line::Stream { peer, .. } => write(peer, &burst.bytes),
        }
    }
}

fn write(peer: &OnceLock<Peer>, bytes: &[u8]) -> io::Result<()> {
    let peer = peer.get().ok_or(ErrorKind::NotConnected)?;
    peer.writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
}

/// Takes frames off a line.
pub(crate) struct Reader<'a> {
    line: &'a Line,
    buffer: Vec<u8>,
    /// Bytes of a stream in the buffer that are not handed out yet.
    filled: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(line: &'a Line) -> Self {
        Self { line, buffer: vec![0; 2 * CHUNK], filled: 0 }
    }

    /// Waits a moment for frames and hands out all that one system call gave.
    pub(crate) fn receive(&mut self, mut arrived: impl FnMut(&[u8])) {
        match self.line {
            Line::Datagrams(socket) => {
                if let Ok(count) = socket.recv(&mut self.buffer) {
                    arrived(self.buffer.get(..count).unwrap_or_default());
                }
            }
            Line::Stream { peer, .. } => {
                let Some(peer) = peer.get() else { return thread::sleep(Duration::from_millis(1)) };
                match (&peer.reader).read(self.buffer.get_mut(self.filled..).unwrap_or_default()) {
                    // The other end is gone.
                    Ok(0) => thread::sleep(LISTEN),
                    Ok(count) => {
                        self.filled += count;
                        self.hand_out(arrived);
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// What is whole; the rest moves to the front, where there is room for the longest frame.
    fn hand_out(&mut self, mut arrived: impl FnMut(&[u8])) {
        let mut rest = self.buffer.get(..self.filled).unwrap_or_default();
        while let Some((length, behind)) = rest.split_first_chunk::<LENGTH>()
            && let Some((frame, behind)) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)
        {
            arrived(frame);
            rest = behind;
        }
        let left = rest.len();
        self.buffer.copy_within(self.filled - left..self.filled, 0);
        self.filled = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_carries_frames_however_it_is_cut() {
        let path = std::env::temp_dir().join(crate::cleanup::name("line"));
        let line = Line::stream(&path).unwrap();
        let mut far = UnixStream::connect(&path).unwrap();
        line.connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let frames = vec![vec![1; 60], vec![2; 1514], vec![], vec![3; 65000]];
        let bytes = Burst::new(frames.clone()).bytes;
        let mut reader = Reader::new(&line);
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for piece in bytes.chunks(1000) {
            far.write_all(piece).unwrap();
            reader.receive(|frame| seen.push(frame.to_vec()));
        }
        assert_eq!(seen, frames);
        line.send_burst(&Burst::new(vec![vec![7; 3], vec![8; 1]])).unwrap();
        let mut sent = [0; 12];
        far.read_exact(&mut sent).unwrap();
        assert_eq!(sent, [0, 0, 0, 3, 7, 7, 7, 0, 0, 0, 1, 8]);
    }
}
