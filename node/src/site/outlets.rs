//! Small queues between a session and its link, one a channel, so that the session decides late
//! what goes next. What goes is the session's to say.

use super::Site;
use crate::transport::Link;
use protocol::session::{Channel, Session};
use std::future::Future;
use std::pin::Pin;
use tokio::sync::mpsc;

/// Frames of one channel that go out one behind the other.
type Frames = Vec<Vec<u8>>;
/// Leave to hand some to the link.
pub type Permit = mpsc::OwnedPermit<Frames>;
type Reserving = Pin<Box<dyn Future<Output = Option<(Channel, Permit)>> + Send>>;

/// See the module.
pub struct Outlets([(Channel, mpsc::Sender<Frames>); 4]);

impl Outlets {
    /// Those of a link; they end with this value, or with the link.
    pub fn open(site: &Site, link: &Link) -> Self {
        Self(Channel::ALL.map(|channel| (channel, outlet(site, link, channel))))
    }

    /// Completes with the most urgent channel that can take something the session has for it, and
    /// with `None` once the link is over; never, if the session has nothing to send.
    pub fn ready(
        &self,
        session: &Session,
    ) -> impl Future<Output = Option<(Channel, Permit)>> + Send + use<> {
        let mut waiting: Vec<Reserving> = Vec::new();
        for (channel, sender) in &self.0 {
            if session.wants_transmit(*channel) {
                let (channel, sender) = (*channel, sender.clone());
                waiting.push(Box::pin(async move {
                    sender.reserve_owned().await.ok().map(|permit| (channel, permit))
                }));
            }
        }
        std::future::poll_fn(move |context| {
            for future in &mut waiting {
                if let std::task::Poll::Ready(result) = future.as_mut().poll(context) {
                    return std::task::Poll::Ready(result);
                }
            }
            std::task::Poll::Pending
        })
    }
}

fn outlet(site: &Site, link: &Link, channel: Channel) -> mpsc::Sender<Frames> {
    let (sender, mut receiver) = mpsc::channel::<Frames>(1);
    let link = link.clone();
    drop(site.0.environment.spawn(Box::pin(async move {
        while let Some(frames) = receiver.recv().await {
            for bytes in frames {
                if let Err(error) = link.send(channel, bytes).await {
                    tracing::debug!(%error, "a frame was not sent");
                    return;
                }
            }
        }
    })));
    sender
}
