//! This site's UDP socket and QUIC, set for few bytes and little memory, and those who come.

use super::error::{CloseCode, LinkError};
use super::link::Link;
use super::streams::{CHANNELS, STREAM_WINDOW};
use super::tls::{self, Clock, Identity, Pin};
use super::{Purpose, peer_key};
use crate::environment::Environment;
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, ServerConfig,
    TransportConfig, ValidationTokenConfig, VarInt,
};
use ring::{hkdf, hmac};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How often the side that dialled keeps the link, and a NAT's mapping, alive.
pub const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// After how much silence a link counts as dead.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a handshake may take, on the worst of lines.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait at the end until the others have heard of it.
const GOODBYE: Duration = Duration::from_secs(2);
/// Connections of which nobody has decided yet whether they are welcome.
const STRANGERS: usize = 32;
/// Of those that nobody has looked at, what they sent meanwhile.
const STRANGERS_BYTES: u64 = 1 << 20;
/// Sent at first and always: what passes everywhere. Probing for more costs 12 kB a connection.
const MTU: u16 = 1200;
/// Enough to tell apart the links of a group, as this side accepts.
const CONNECTION_ID: usize = 4;
/// The least that QUIC allows a first packet.
const FIRST_CONNECTION_ID: usize = 8;

/// What may be set about links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often the side that dialled says that it lives; below `idle_timeout`.
    pub keep_alive: Duration,
    /// After how much silence a link counts as dead; the lesser of both sides' holds.
    pub idle_timeout: Duration,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_alive: KEEP_ALIVE,
            idle_timeout: IDLE_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

/// How hard a dial tries while nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Its first packet is sent again, four times twice, until the handshake's time is over: for
    /// who is probably there. Where nobody answers that takes 12 kB.
    Insisting,
    /// Its first packet is sent once: for who probably is not.
    Asking,
}

/// This site's end of all its links: dials and accepts through one socket.
#[derive(Debug)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    environment: Arc<dyn Environment>,
    identity: Identity,
    insisting: Arc<TransportConfig>,
    asking: Arc<TransportConfig>,
    handshake_timeout: Duration,
    strangers: Arc<Semaphore>,
}

impl Endpoint {
    /// Listens at `address`, as the holder of the Ed25519 key made of `seed`.
    ///
    /// # Errors
    /// [`LinkError::Listen`]: the address is taken or not ours, or settings are impossible.
    pub fn new(
        environment: Arc<dyn Environment>,
        seed: &[u8; 32],
        address: SocketAddr,
        settings: Settings,
    ) -> Result<Self, LinkError> {
        let listen =
            |error: &dyn std::fmt::Display| LinkError::Listen { reason: error.to_string() };
        let identity = Identity::from_seed(seed)?;
        let idle = IdleTimeout::try_from(settings.idle_timeout).map_err(|error| listen(&error))?;

        let mut accepting = lean_transport(idle);
        accepting.max_concurrent_bidi_streams(VarInt::from_u32(1));
        let dialling = || {
            let mut transport = lean_transport(idle);
            transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
            // One side is enough, and it is the one that may sit behind a NAT.
            transport.keep_alive_interval(Some(settings.keep_alive));
            transport
        };
        let mut asking = dialling();
        // Until there is an answer, which tells the real one, a packet is sent again after three
        // of these: <https://www.rfc-editor.org/rfc/rfc9002#section-6.2>.
        asking.initial_rtt(settings.handshake_timeout);

        let mut server = ServerConfig::new(
            Arc::new(identity.server(Arc::clone(&environment))?),
            Arc::new(token_key(environment.as_ref())),
        );
        let mut no_tokens = ValidationTokenConfig::default();
        no_tokens.sent(0);
        server
            .transport_config(Arc::new(accepting))
            .validation_token_config(no_tokens)
            .time_source(Arc::new(Clock(Arc::clone(&environment))))
            .max_incoming(STRANGERS)
            .incoming_buffer_size(STRANGERS_BYTES / STRANGERS as u64)
            .incoming_buffer_size_total(STRANGERS_BYTES);

        let socket = environment.bind(address).map_err(|error| listen(&error))?;
        let quic = quinn::Endpoint::new_with_abstract_socket(
            endpoint_config(&environment, seed),
            Some(server),
            socket,
            environment.quic_runtime(),
        )
        .map_err(|error| listen(&error))?;
        Ok(Self {
            quic,
            environment,
            identity,
            insisting: Arc::new(dialling()),
            asking: Arc::new(asking),
            handshake_timeout: settings.handshake_timeout,
            strangers: Arc::new(Semaphore::new(STRANGERS)),
        })
    }

    /// Where it listens; the port is the real one.
    ///
    /// # Errors
    /// [`LinkError::Listen`]: the socket is lost.
    pub fn local_address(&self) -> Result<SocketAddr, LinkError> {
        self.quic.local_addr().map_err(|error| LinkError::Listen { reason: error.to_string() })
    }

    /// The next who comes, before any handshake; `None` once the endpoint is closed.
    ///
    /// Waits while too many are neither admitted nor refused.
    pub async fn accept(&self) -> Option<Arriving> {
        loop {
            let place = Arc::clone(&self.strangers).acquire_owned().await.ok()?;
            let incoming = self.quic.accept().await?;
            // When it gets crowded, only who really sits at its address gets a place.
            if self.strangers.available_permits() < STRANGERS / 2 && incoming.may_retry() {
                if let Err(error) = incoming.retry() {
                    tracing::debug!(%error, "no retry");
                }
                continue;
            }
            let environment = Arc::clone(&self.environment);
            let waits = self.handshake_timeout;
            return Some(Arriving { incoming, environment, waits, place });
        }
    }

    /// Ends all links, tells the others why, and waits a moment until they have heard.
    pub async fn close(&self, code: CloseCode, reason: &str) {
        self.quic.close(code.to_wire(), reason.as_bytes());
        if timeout(GOODBYE, self.quic.wait_idle()).await.is_err() {
            tracing::debug!("some peers did not hear the goodbye");
        }
    }

    /// A connection to the holder of `expected` at `address`.
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        expected: &[u8; 32],
        purpose: Purpose,
        effort: Effort,
    ) -> Result<quinn::Connection, LinkError> {
        self.connect_as(address, expected, purpose.protocol(), effort).await
    }

    pub(super) async fn connect_as(
        &self,
        address: SocketAddr,
        expected: &[u8; 32],
        protocol: &[u8],
        effort: Effort,
    ) -> Result<quinn::Connection, LinkError> {
        let pin = Arc::new(Pin::new(*expected));
        let tls =
            self.identity.client(Arc::clone(&self.environment), Arc::clone(&pin), protocol)?;
        let mut config = ClientConfig::new(Arc::new(tls));
        let ids = Ids { environment: Arc::clone(&self.environment), length: FIRST_CONNECTION_ID };
        config
            .transport_config(Arc::clone(match effort {
                Effort::Insisting => &self.insisting,
                Effort::Asking => &self.asking,
            }))
            .token_store(Arc::new(quinn::NoneTokenStore))
            .initial_dst_cid_provider(Arc::new(move || ids.id()));
        // The name is neither sent nor looked at: the key decides.
        let connecting = self
            .quic
            .connect_with(config, address, "holdfast")
            .map_err(|error| LinkError::Unreachable { address, reason: error.to_string() })?;
        match timeout(self.handshake_timeout, connecting).await {
            Err(_) | Ok(Err(quinn::ConnectionError::TimedOut)) => {
                Err(LinkError::NoAnswer { address, waited: self.handshake_timeout })
            }
            Ok(result) => result.map_err(|error| match pin.wrong_key() {
                Some(found) => LinkError::WrongKey { address, expected: *expected, found },
                None => LinkError::in_handshake(error),
            }),
        }
    }

    pub(super) fn environment(&self) -> &Arc<dyn Environment> {
        &self.environment
    }
}

/// Someone who knocked: nothing is proven yet.
#[derive(Debug)]
pub struct Arriving {
    incoming: quinn::Incoming,
    environment: Arc<dyn Environment>,
    waits: Duration,
    place: OwnedSemaphorePermit,
}

impl Arriving {
    /// Completes the handshake. Run it in a task of its own, so that the slow hinder nobody.
    ///
    /// # Errors
    /// The other side proved no key, speaks another version, or did not go on in time.
    pub async fn handshake(self) -> Result<Guest, LinkError> {
        let address = self.incoming.remote_address();
        let connecting = self.incoming.accept().map_err(LinkError::in_handshake)?;
        let connection = timeout(self.waits, connecting)
            .await
            .map_err(|_| LinkError::NoAnswer { address, waited: self.waits })?
            .map_err(LinkError::in_handshake)?;
        Ok(Guest {
            peer_key: peer_key(&connection)?,
            purpose: tls::purpose(&connection)?,
            connection,
            environment: self.environment,
            place: self.place,
        })
    }
}

/// Someone who proved to hold a key, which is not yet known to be welcome.
#[derive(Debug)]
pub struct Guest {
    peer_key: [u8; 32],
    purpose: Purpose,
    connection: quinn::Connection,
    environment: Arc<dyn Environment>,
    place: OwnedSemaphorePermit,
}

impl Guest {
    /// The Ed25519 key that it holds.
    pub fn peer_key(&self) -> &[u8; 32] {
        &self.peer_key
    }

    /// What it came for.
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Where it sits.
    pub fn address(&self) -> SocketAddr {
        super::link::address(&self.connection)
    }

    /// Lets it in: from now on frames flow.
    pub fn admit(self) -> Link {
        drop(self.place);
        Link::start(&self.environment, self.connection, self.peer_key, self.purpose, false)
    }

    /// Sends it away, telling it why.
    pub fn refuse(self, reason: &str) {
        self.connection.close(CloseCode::Refused.to_wire(), reason.as_bytes());
    }
}

fn lean_transport(idle: IdleTimeout) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // Each window serves all channels full at once, so that no channel waits for another's.
    let all_windows = STREAM_WINDOW.saturating_mul(CHANNELS);
    // `send_fairness` stays on: without it a stream once begun is not overtaken by any priority.
    transport
        .max_idle_timeout(Some(idle))
        .mtu_discovery_config(None)
        .initial_mtu(MTU)
        .max_concurrent_uni_streams(VarInt::from_u32(CHANNELS - 1))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(all_windows))
        .send_window(u64::from(all_windows))
        .allow_spin(false)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0);
    transport
}

fn endpoint_config(environment: &Arc<dyn Environment>, seed: &[u8; 32]) -> EndpointConfig {
    // Made of the site's key, so that a site started anew can tell its peers that it knows nothing
    // of their links.
    let reset = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), b"holdfast stateless reset");
    let reset = hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref());
    let mut config = EndpointConfig::new(Arc::new(reset));
    let ids = Ids { environment: Arc::clone(environment), length: CONNECTION_ID };
    config
        .cid_generator(move || Box::new(ids.clone()))
        .grease_quic_bit(false)
        .rng_seed(Some(environment.endpoint_seed()));
    config
}

/// Seals the tokens of retries, for this boot.
fn token_key(environment: &dyn Environment) -> hkdf::Prk {
    let mut secret = [0; 64];
    environment.fill_random(&mut secret);
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secret)
}

/// Random connection ids from the environment; quinn's own come past it.
#[derive(Clone, Debug)]
struct Ids {
    environment: Arc<dyn Environment>,
    length: usize,
}

impl Ids {
    fn id(&self) -> ConnectionId {
        let mut id = vec![0; self.length];
        self.environment.fill_random(&mut id);
        ConnectionId::new(&id)
    }
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        self.id()
    }

    fn cid_len(&self) -> usize {
        self.length
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
