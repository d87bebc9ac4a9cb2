//! QUIC's timers, tasks and clock: tokio's, the tasks owned by the boot.

use crate::world::boot::Boot;
use quinn::{AsyncTimer, AsyncUdpSocket, Runtime};
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

/// The runtime of one boot's endpoints.
#[derive(Debug)]
pub struct Quic(pub Arc<Boot>);

impl Runtime for Quic {
    fn new_timer(&self, until: Instant) -> Pin<Box<dyn AsyncTimer>> {
        Box::pin(tokio::time::sleep_until(until.into()))
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(future);
    }

    fn wrap_udp_socket(&self, _: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::other("a real socket in a simulated world"))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
