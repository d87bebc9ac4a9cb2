//! Frames on QUIC streams.
//!
//! ```text
//! control stream (bidirectional, opened by the side that dialled):
//!     frame*
//! class stream (unidirectional, at most one of each class and direction, opened when needed):
//!     class u8 (0 live, 1 catch-up, 2 snapshot), frame*
//! frame:
//!     length u32 big endian, then as many bytes
//! ```
//!
//! A frame is never interpreted here.

use super::error::{CloseCode, LinkError};
pub use protocol::session::Channel;
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;

/// How many channels there are.
pub(super) const CHANNELS: u32 = 4;
/// What one channel may have under way unread, in bytes: enough for 14 Mbit/s by satellite.
pub(super) const STREAM_WINDOW: u32 = 1 << 20;

/// The longest frame of the control channel, in bytes.
pub(super) const CONTROL_LIMIT: usize = 1 << 20;
/// The longest frame of the others: a batch of the largest allowed value, with its header.
pub(super) const BULK_LIMIT: usize = 513 << 20;
/// What is set aside for a frame before any of it has arrived.
const FIRST_ALLOCATION: usize = 64 << 10;

/// A channel as its streams carry it.
pub(super) trait Carried: Sized {
    /// The longest frame, in bytes.
    fn limit(self) -> usize;

    /// Frames that wait for the line, or for the reader.
    fn queue(self) -> usize;

    /// QUIC's priority: the greater goes first.
    fn priority(self) -> i32;

    /// The byte that opens the channel's stream; the control channel is known by its kind.
    fn class(self) -> Option<u8>;
}

impl Carried for Channel {
    fn limit(self) -> usize {
        match self {
            Self::Control => CONTROL_LIMIT,
            Self::Live | Self::CatchUp | Self::Snapshot => BULK_LIMIT,
        }
    }

    fn queue(self) -> usize {
        match self {
            Self::Control => 8,
            // Large ones must not pile up.
            Self::Live | Self::CatchUp | Self::Snapshot => 1,
        }
    }

    fn priority(self) -> i32 {
        match self {
            Self::Control => 3,
            Self::Live => 2,
            Self::CatchUp => 1,
            Self::Snapshot => 0,
        }
    }

    fn class(self) -> Option<u8> {
        match self {
            Self::Control => None,
            Self::Live => Some(0),
            Self::CatchUp => Some(1),
            Self::Snapshot => Some(2),
        }
    }
}

/// The channel whose stream that byte opens.
fn of_class(class: u8) -> Option<Channel> {
    match class {
        0 => Some(Channel::Live),
        1 => Some(Channel::CatchUp),
        2 => Some(Channel::Snapshot),
        _ => None,
    }
}

/// One value for each channel.
#[derive(Debug)]
pub(super) struct PerChannel<T> {
    pub(super) control: T,
    pub(super) live: T,
    pub(super) catch_up: T,
    pub(super) snapshot: T,
}

impl<T> PerChannel<T> {
    pub(super) fn get(&self, channel: Channel) -> &T {
        match channel {
            Channel::Control => &self.control,
            Channel::Live => &self.live,
            Channel::CatchUp => &self.catch_up,
            Channel::Snapshot => &self.snapshot,
        }
    }

    pub(super) fn get_mut(&mut self, channel: Channel) -> &mut T {
        match channel {
            Channel::Control => &mut self.control,
            Channel::Live => &mut self.live,
            Channel::CatchUp => &mut self.catch_up,
            Channel::Snapshot => &mut self.snapshot,
        }
    }
}

/// A connection, and why this side closed it.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) connection: quinn::Connection,
    closed_here: Arc<OnceLock<(CloseCode, String)>>,
}

impl Line {
    pub(super) fn new(connection: quinn::Connection) -> Self {
        Self { connection, closed_here: Arc::default() }
    }

    /// Closes the connection; only the first reason counts.
    pub(super) fn close(&self, code: CloseCode, reason: String) {
        if self.connection.close_reason().is_none() {
            self.connection.close(code.to_wire(), reason.as_bytes());
            // Whoever closed first was quicker by a moment, and its reason went out.
            let _ = self.closed_here.set((code, reason));
        }
    }

    fn malformed(&self, reason: impl Into<String>) {
        self.close(CloseCode::Malformed, reason.into());
    }

    pub(super) fn explain(&self, error: quinn::ConnectionError) -> LinkError {
        match (error, self.closed_here.get().cloned()) {
            (quinn::ConnectionError::LocallyClosed, Some((code, reason))) => {
                LinkError::ClosedHere { code, reason }
            }
            (error, _) => error.into(),
        }
    }
}

/// Writes frames to a stream until the queue or the connection ends. `first` is written before.
pub(super) async fn write_frames(
    line: &Line,
    channel: Channel,
    mut stream: SendStream,
    first: Option<Vec<u8>>,
    queue: &mut mpsc::Receiver<Vec<u8>>,
) {
    // Fails only on a stream that is closed, as the first write then says.
    let _ = stream.set_priority(channel.priority());
    let mut head: Vec<u8> = channel.class().into_iter().collect();
    let mut next = first;
    loop {
        let frame = match next.take() {
            Some(frame) => frame,
            None => match next_frame(line, queue).await {
                Some(frame) => frame,
                None => return,
            },
        };
        // `Link::send` let nothing longer through.
        head.extend(u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes());
        // At once, so that a small frame is one packet.
        let written = stream.write_all_chunks(&mut [head.into(), frame.into()]).await;
        head = Vec::new();
        match written {
            Ok(()) => {}
            Err(WriteError::ConnectionLost(_)) => return,
            Err(error) => {
                return line.malformed(format!("the other side stopped a stream: {error}"));
            }
        }
    }
}

/// The next frame to send; `None` once the queue or the connection ends.
pub(super) async fn next_frame(
    line: &Line,
    queue: &mut mpsc::Receiver<Vec<u8>>,
) -> Option<Vec<u8>> {
    tokio::select! {
        biased;
        _ = line.connection.closed() => None,
        frame = queue.recv() => frame,
    }
}

/// Why reading a stream ended.
#[derive(Debug)]
enum Ended {
    /// The connection is gone, or the stream complete.
    Quietly,
    /// The other side broke the rules.
    Malformed(String),
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(_) => Self::Quietly,
            error => Self::Malformed(format!("the other side broke off a stream: {error}")),
        }
    }
}

/// Reads the byte that says which channel a stream is.
pub(super) async fn read_class(line: &Line, stream: &mut RecvStream) -> Option<Channel> {
    let mut class = [0];
    match stream.read_exact(&mut class).await {
        Ok(()) => {
            let [class] = class;
            let channel = of_class(class);
            if channel.is_none() {
                line.malformed(format!("a stream of the unknown class {class}"));
            }
            channel
        }
        Err(ReadExactError::ReadError(ReadError::ConnectionLost(_))) => None,
        Err(error) => {
            line.malformed(format!("a stream without a class: {error}"));
            None
        }
    }
}

/// Reads frames into `inbox` until the stream, the connection or the reader's interest ends.
/// No more is read than the inbox has room for: the rest waits at the sender.
pub(super) async fn read_frames(
    line: &Line,
    channel: Channel,
    mut stream: RecvStream,
    inbox: mpsc::Sender<Vec<u8>>,
) {
    loop {
        // Nobody listens any more.
        let Ok(place) = inbox.reserve().await else { return };
        match read_frame(&mut stream, channel.limit()).await {
            Ok(frame) => place.send(frame),
            Err(Ended::Quietly) => return,
            Err(Ended::Malformed(reason)) => return line.malformed(reason),
        }
    }
}

async fn read_frame(stream: &mut RecvStream, limit: usize) -> Result<Vec<u8>, Ended> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.map_err(|error| match error {
        ReadExactError::FinishedEarly(0) => Ended::Quietly,
        ReadExactError::FinishedEarly(_) => Ended::Malformed("a frame without length".to_owned()),
        ReadExactError::ReadError(error) => error.into(),
    })?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > limit {
        let reason = format!("a frame of {length} bytes exceeds the limit of {limit}");
        return Err(Ended::Malformed(reason));
    }
    let mut frame = Vec::new();
    while let missing @ 1.. = length.saturating_sub(frame.len()) {
        let Some(chunk) = stream.read_chunk(missing, true).await? else {
            return Err(Ended::Malformed("a frame shorter than its length".to_owned()));
        };
        append(&mut frame, &chunk.bytes, missing);
    }
    Ok(frame)
}

/// Adds what arrived to a frame that misses so many bytes. The length is only a claim, so room
/// grows with what has arrived: twice that and 64 KiB at most, and never beyond the frame's end.
pub(super) fn append(frame: &mut Vec<u8>, arrived: &[u8], missing: usize) {
    if frame.capacity() - frame.len() < arrived.len() {
        let room = frame.len().max(FIRST_ALLOCATION).max(arrived.len());
        frame.reserve_exact(room.min(missing));
    }
    frame.extend_from_slice(arrived);
}
