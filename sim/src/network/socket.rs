//! A UDP socket of one boot of a computer, as quinn polls it.

use super::Network;
use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::time::{Instant, Sleep, sleep_until};

/// One socket of one boot of a computer. One that was unplugged is dead, whoever has its port
/// now: sending goes nowhere, and nothing is received.
#[derive(Debug)]
pub struct Socket {
    pub(super) network: Arc<Network>,
    pub(super) number: u64,
    /// Whose it is, and the port there.
    pub(super) place: (IpAddr, u16),
    /// What it was bound to.
    pub(super) local: SocketAddr,
    pub(super) inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    packets: BTreeMap<(Instant, u64), Arriving>,
    timer: Option<Pin<Box<Sleep>>>,
    reader: Option<Waker>,
}

#[derive(Debug)]
struct Arriving {
    source: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

impl Socket {
    pub(super) fn deliver(&self, due: (Instant, u64), source: SocketAddr, transmit: &Transmit<'_>) {
        let mut inbox = self.inbox.lock().unwrap();
        let first = inbox.packets.keys().next().is_none_or(|next| due < *next);
        let bytes = transmit.contents.to_vec();
        inbox.packets.insert(due, Arriving { source, ecn: transmit.ecn, bytes });
        if first && let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }

    /// How a peer's address appears at this socket.
    fn seen(&self, address: SocketAddr) -> SocketAddr {
        match (self.local.ip(), address.ip()) {
            (IpAddr::V6(_), IpAddr::V4(ip)) => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), address.port())
            }
            _ => address,
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.forget(self);
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysReady)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.network.send(self, transmit);
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbox = self.inbox.lock().unwrap();
        let mut received = 0;
        while let Some(next) = inbox.packets.first_entry() {
            let (due, _) = *next.key();
            if due > Instant::now() {
                if received > 0 {
                    break;
                }
                let timer = inbox.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
                timer.as_mut().reset(due);
                match timer.as_mut().poll(context) {
                    // The timer is as coarse as a millisecond, and never early.
                    Poll::Ready(()) => continue,
                    Poll::Pending => break,
                }
            }
            let (Some(buffer), Some(about)) = (buffers.get_mut(received), meta.get_mut(received))
            else {
                break;
            };
            let packet = next.remove();
            // As with real sockets, what does not fit is cut off.
            let length = packet.bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&packet.bytes[..length]);
            *about = RecvMeta {
                addr: self.seen(packet.source),
                len: length,
                stride: length,
                ecn: packet.ecn,
                dst_ip: None,
            };
            received += 1;
        }
        if received > 0 {
            return Poll::Ready(Ok(received));
        }
        inbox.reader = Some(context.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// Sending never waits.
#[derive(Debug)]
struct AlwaysReady;

impl UdpPoller for AlwaysReady {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
