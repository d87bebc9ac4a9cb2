//! One connection between two sites: frames out, frames in, how it fares, and why it ended.

use super::error::{CloseCode, LinkError};
use super::streams::{
    Carried, Channel, Line, PerChannel, next_frame, read_class, read_frames, write_frames,
};
use super::{Effort, Endpoint, Purpose};
use crate::environment::Environment;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of IP and UDP headers that each datagram costs beside its payload.
const DATAGRAM_HEADERS: u64 = 28;

/// A link to one peer. Clones share it; when the last is dropped, it is closed as done.
#[derive(Clone, Debug)]
pub struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    line: Line,
    peer_key: [u8; 32],
    purpose: Purpose,
    outbox: PerChannel<mpsc::Sender<Vec<u8>>>,
    inbox: tokio::sync::Mutex<PerChannel<mpsc::Receiver<Vec<u8>>>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.line.close(CloseCode::Done, "no longer needed".to_owned());
    }
}

/// How a link fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStats {
    /// Where the peer sits now; it may move while the link goes on.
    pub address: SocketAddr,
    /// The current estimate of a round trip.
    pub round_trip: Duration,
    /// UDP payload sent, in bytes.
    pub sent_bytes: u64,
    /// UDP payload received, in bytes.
    pub received_bytes: u64,
    /// Datagrams sent.
    pub sent_datagrams: u64,
    /// Datagrams received.
    pub received_datagrams: u64,
    /// Packets sent that got lost.
    pub lost_packets: u64,
}

impl LinkStats {
    /// What the line carried both ways, IP and UDP headers included, in bytes.
    pub fn line_bytes(&self) -> u64 {
        let datagrams = self.sent_datagrams.saturating_add(self.received_datagrams);
        self.sent_bytes
            .saturating_add(self.received_bytes)
            .saturating_add(datagrams.saturating_mul(DATAGRAM_HEADERS))
    }
}

impl Link {
    /// Reaches the holder of the key `expected` at `address`.
    ///
    /// That this site is welcome there shows only later: else the link ends with
    /// [`LinkError::Refused`].
    ///
    /// # Errors
    /// Nobody or somebody else answers there, or speaks another version.
    pub async fn dial(
        endpoint: &Endpoint,
        address: SocketAddr,
        expected: &[u8; 32],
        purpose: Purpose,
        effort: Effort,
    ) -> Result<Self, LinkError> {
        let connection = endpoint.connect(address, expected, purpose, effort).await?;
        Ok(Self::start(endpoint.environment(), connection, *expected, purpose, true))
    }

    pub(super) fn start(
        environment: &Arc<dyn Environment>,
        connection: quinn::Connection,
        peer_key: [u8; 32],
        purpose: Purpose,
        dialled: bool,
    ) -> Self {
        let line = Line::new(connection);
        let (outbox, queued) = queues();
        let (arrived, inbox) = queues();
        let unclaimed = PerChannel {
            control: None,
            live: Some(arrived.live),
            catch_up: Some(arrived.catch_up),
            snapshot: Some(arrived.snapshot),
        };
        // None of these tasks outlives the connection, nor the connection this link.
        spawn(
            environment,
            run_control(
                Arc::clone(environment),
                line.clone(),
                dialled,
                queued.control,
                arrived.control,
            ),
        );
        spawn(environment, run_writer(line.clone(), Channel::Live, queued.live));
        spawn(environment, run_writer(line.clone(), Channel::CatchUp, queued.catch_up));
        spawn(environment, run_writer(line.clone(), Channel::Snapshot, queued.snapshot));
        spawn(environment, run_readers(Arc::clone(environment), line.clone(), unclaimed));
        Self(Arc::new(Shared {
            line,
            peer_key,
            purpose,
            outbox,
            inbox: tokio::sync::Mutex::new(inbox),
        }))
    }

    /// The Ed25519 key that the peer proved to hold.
    pub fn peer_key(&self) -> &[u8; 32] {
        &self.0.peer_key
    }

    /// What the link is for.
    pub fn purpose(&self) -> Purpose {
        self.0.purpose
    }

    /// Hands a frame to a channel; waits while the channel is behind. `Ok` says that it is on its
    /// way, not that it arrived. On the control channel the side that dialled speaks first: what
    /// the other hands over before waits for that.
    ///
    /// # Errors
    /// [`LinkError::TooLarge`], after which the link goes on; else why the link ended.
    pub async fn send(&self, channel: Channel, frame: Vec<u8>) -> Result<(), LinkError> {
        let (length, limit) = (frame.len(), channel.limit());
        if length > limit {
            return Err(LinkError::TooLarge { length, limit });
        }
        if let Some(error) = self.0.line.connection.close_reason() {
            return Err(self.0.line.explain(error));
        }
        match self.0.outbox.get(channel).send(frame).await {
            Ok(()) => Ok(()),
            // A writer ends only with its connection.
            Err(_) => Err(self.closed().await),
        }
    }

    /// The next frame, of the most urgent channel that has one; `None` once the link has ended and
    /// all that arrived has been handed out. What is not fetched waits at the sender.
    ///
    /// Of several callers at a time, each gets other frames. Dropping the future loses none.
    pub async fn receive(&self) -> Option<(Channel, Vec<u8>)> {
        let mut inbox = self.0.inbox.lock().await;
        let PerChannel { control, live, catch_up, snapshot } = &mut *inbox;
        tokio::select! {
            biased;
            Some(frame) = control.recv() => Some((Channel::Control, frame)),
            Some(frame) = live.recv() => Some((Channel::Live, frame)),
            Some(frame) = catch_up.recv() => Some((Channel::CatchUp, frame)),
            Some(frame) = snapshot.recv() => Some((Channel::Snapshot, frame)),
            else => None,
        }
    }

    /// How many frames of a channel have arrived and wait to be fetched.
    #[cfg(test)]
    pub(super) async fn waiting(&self, channel: Channel) -> usize {
        self.0.inbox.lock().await.get(channel).len()
    }

    /// How the link fares.
    pub fn stats(&self) -> LinkStats {
        let connection = &self.0.line.connection;
        let stats = connection.stats();
        LinkStats {
            address: address(connection),
            round_trip: connection.rtt(),
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            sent_datagrams: stats.udp_tx.datagrams,
            received_datagrams: stats.udp_rx.datagrams,
            lost_packets: stats.path.lost_packets,
        }
    }

    /// Ends the link at once and tells the peer why; what is still queued is not sent.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.0.line.close(code, reason.to_owned());
    }

    /// Completes when the link has ended, with the reason.
    pub async fn closed(&self) -> LinkError {
        let error = self.0.line.connection.closed().await;
        self.0.line.explain(error)
    }
}

/// Where the peer sits, an IPv4 address as one.
pub(super) fn address(connection: &quinn::Connection) -> SocketAddr {
    let address = connection.remote_address();
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

type Outbox = mpsc::Sender<Vec<u8>>;
type Inbox = mpsc::Receiver<Vec<u8>>;

fn queues() -> (PerChannel<Outbox>, PerChannel<Inbox>) {
    let make = |channel: Channel| mpsc::channel(channel.queue());
    let (control, live) = (make(Channel::Control), make(Channel::Live));
    let (catch_up, snapshot) = (make(Channel::CatchUp), make(Channel::Snapshot));
    (
        PerChannel { control: control.0, live: live.0, catch_up: catch_up.0, snapshot: snapshot.0 },
        PerChannel { control: control.1, live: live.1, catch_up: catch_up.1, snapshot: snapshot.1 },
    )
}

fn spawn(environment: &Arc<dyn Environment>, task: impl Future<Output = ()> + Send + 'static) {
    // The handle would only serve to abort it.
    drop(environment.spawn(Box::pin(task)));
}

/// The control stream, both ways: opened with the first frame by the side that dialled.
async fn run_control(
    environment: Arc<dyn Environment>,
    line: Line,
    dialled: bool,
    mut queue: Inbox,
    arrived: Outbox,
) {
    let (first, streams) = if dialled {
        let Some(first) = next_frame(&line, &mut queue).await else { return };
        (Some(first), line.connection.open_bi().await)
    } else {
        (None, line.connection.accept_bi().await)
    };
    // The only error is the end of the connection.
    let Ok((sending, receiving)) = streams else { return };
    let reading = line.clone();
    spawn(&environment, async move {
        read_frames(&reading, Channel::Control, receiving, arrived).await;
    });
    write_frames(&line, Channel::Control, sending, first, &mut queue).await;
}

/// One class of frames to the peer: opens its stream with the first.
async fn run_writer(line: Line, channel: Channel, mut queue: Inbox) {
    let Some(first) = next_frame(&line, &mut queue).await else { return };
    let Ok(stream) = line.connection.open_uni().await else { return };
    write_frames(&line, channel, stream, Some(first), &mut queue).await;
}

/// The classes of frames from the peer: each stream claims its channel's place.
async fn run_readers(
    environment: Arc<dyn Environment>,
    line: Line,
    unclaimed: PerChannel<Option<Outbox>>,
) {
    let unclaimed = Arc::new(Mutex::new(unclaimed));
    while let Ok(mut stream) = line.connection.accept_uni().await {
        let (line, unclaimed) = (line.clone(), Arc::clone(&unclaimed));
        spawn(&environment, async move {
            let Some(channel) = read_class(&line, &mut stream).await else { return };
            let place =
                unclaimed.lock().unwrap_or_else(PoisonError::into_inner).get_mut(channel).take();
            match place {
                Some(arrived) => read_frames(&line, channel, stream, arrived).await,
                None => line.close(
                    CloseCode::Malformed,
                    format!("a second stream of the channel {channel:?}"),
                ),
            }
        });
    }
}
