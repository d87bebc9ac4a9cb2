//! Links over loopback, through the real world.

use super::streams::STREAM_WINDOW;
use super::*;
use crate::demo::relay::Relay;
use crate::environment::Environment;
use crate::environment::production::Production;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("the test hangs") });
}

fn endpoint_with(seed: u8, settings: Settings) -> Endpoint {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Endpoint::new(Arc::new(Production::new()), &[seed; 32], address, settings).unwrap()
}

fn endpoint_at(address: &str, seed: u8) -> Endpoint {
    let world = Arc::new(Production::new());
    Endpoint::new(world, &[seed; 32], address.parse().unwrap(), Settings::default()).unwrap()
}

fn endpoint(seed: u8) -> Endpoint {
    endpoint_with(seed, Settings::default())
}

fn key(seed: u8) -> [u8; 32] {
    use ring::signature::KeyPair;
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    pair.public_key().as_ref().try_into().unwrap()
}

async fn guest(endpoint: &Endpoint) -> Result<Guest, LinkError> {
    endpoint.accept().await.unwrap().handshake().await
}

/// A link from site 1 to site 2 at `through`, both ends.
async fn link_through(a: &Endpoint, b: &Endpoint, through: SocketAddr) -> (Link, Link) {
    let expected = key(2);
    let (dialled, came) = tokio::join!(
        Link::dial(a, through, &expected, Purpose::Member, Effort::Insisting),
        guest(b)
    );
    (dialled.unwrap(), came.unwrap().admit())
}

async fn link(a: &Endpoint, b: &Endpoint) -> (Link, Link) {
    link_through(a, b, b.local_address().unwrap()).await
}

/// Content that shows any shift or mixture.
fn frame(length: usize, salt: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ salt).collect()
}

async fn next(link: &Link) -> (Channel, Vec<u8>) {
    match link.receive().await {
        Some(frame) => frame,
        None => panic!("the link ended: {}", link.closed().await),
    }
}

#[test]
fn both_sides_learn_the_others_key_and_purpose() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let (near, far) = link(&a, &b).await;
        assert_eq!((near.peer_key(), far.peer_key()), (&key(2), &key(1)));
        assert_eq!(far.purpose(), Purpose::Member);
        assert_eq!(far.stats().address, a.local_address().unwrap());

        // The same socket dials and accepts, and an invitation comes by its own protocol.
        let expected = key(1);
        let address = a.local_address().unwrap();
        let (dialled, came) = tokio::join!(
            Link::dial(&b, address, &expected, Purpose::Join, Effort::Insisting),
            guest(&a)
        );
        let came = came.unwrap();
        assert_eq!((came.peer_key(), came.purpose()), (&key(2), Purpose::Join));
        assert_eq!(came.address(), b.local_address().unwrap());
        let (came, dialled) = (came.admit(), dialled.unwrap());
        dialled.send(Channel::Control, b"hello".to_vec()).await.unwrap();
        assert_eq!(next(&came).await, (Channel::Control, b"hello".to_vec()));
    });
}

#[test]
fn a_socket_at_all_addresses_links_by_ipv4() {
    run(async {
        let (a, b) = (endpoint_at("[::]:0", 1), endpoint_at("[::]:0", 2));
        let port = b.local_address().unwrap().port();
        let through = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (near, far) = link_through(&a, &b, through).await;
        assert_eq!(near.stats().address, through);
        assert!(far.stats().address.is_ipv4(), "{}", far.stats().address);
    });
}

#[test]
fn a_newer_version_is_told_apart() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let expected = key(2);
        let newer =
            a.connect_as(b.local_address().unwrap(), &expected, b"holdfast/9", Effort::Insisting);
        let (dialled, came) = tokio::join!(newer, guest(&b));
        assert_eq!(dialled.err(), Some(LinkError::WrongVersion));
        assert_eq!(came.err(), Some(LinkError::WrongVersion));
    });
}

#[test]
fn another_key_than_the_pinned_one_is_refused_and_named() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let address = b.local_address().unwrap();
        let (expected, found) = (key(3), key(2));
        let (dialled, came) = tokio::join!(
            Link::dial(&a, address, &expected, Purpose::Member, Effort::Insisting),
            guest(&b)
        );
        let error = dialled.unwrap_err();
        assert_eq!(error, LinkError::WrongKey { address, expected, found });
        let text = error.to_string();
        assert!(text.contains(&data_encoding::HEXLOWER.encode(&found)), "{text}");
        assert!(matches!(came, Err(LinkError::Handshake { .. })), "{came:?}");
    });
}

#[test]
fn an_unwelcome_site_is_told_why() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let (expected, address) = (key(2), b.local_address().unwrap());
        let (dialled, came) = tokio::join!(
            Link::dial(&a, address, &expected, Purpose::Member, Effort::Insisting),
            guest(&b)
        );
        came.unwrap().refuse("removed from the group");
        let link = dialled.unwrap();
        let refused = LinkError::Refused { reason: "removed from the group".to_owned() };
        assert_eq!(link.closed().await, refused);
        assert_eq!(link.send(Channel::Live, vec![1]).await, Err(refused));
        assert_eq!(link.receive().await, None);
    });
}

#[test]
fn nobody_there_and_no_way_there_are_told_apart() {
    run(async {
        let a = endpoint_with(
            1,
            Settings { handshake_timeout: Duration::from_millis(1000), ..Settings::default() },
        );
        let v6: SocketAddr = "[2001:db8::1]:4433".parse().unwrap();
        let error =
            Link::dial(&a, v6, &key(2), Purpose::Member, Effort::Insisting).await.unwrap_err();
        assert!(matches!(error, LinkError::Unreachable { address, .. } if address == v6));
        // Taken, and silent.
        let silent = tokio_socket();
        let address = silent.local_addr().unwrap();
        let error =
            Link::dial(&a, address, &key(2), Purpose::Member, Effort::Insisting).await.unwrap_err();
        assert!(matches!(error, LinkError::NoAnswer { address: at, .. } if at == address));
        assert!(error.to_string().contains("no answer"), "{error}");

        let taken = Endpoint::new(
            Arc::new(Production::new()),
            &[9; 32],
            a.local_address().unwrap(),
            Settings::default(),
        );
        assert!(matches!(taken, Err(LinkError::Listen { .. })));
    });
}

#[expect(clippy::disallowed_types, reason = "somebody outside the node")]
fn tokio_socket() -> std::net::UdpSocket {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap()
}

#[test]
fn frames_of_all_sizes_arrive_whole_and_in_order_on_each_channel() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let (near, far) = link(&a, &b).await;
        let sizes = |channel| match channel {
            Channel::Control => [0, 1, 64 << 10, 1 << 20],
            _ => [0, 1, 64 << 10, 5 << 20],
        };
        // The dialling side speaks first on the control channel; then all go at once, both ways.
        for (from, to) in [(&near, &far), (&far, &near)] {
            let send = |channel| async move {
                for (salt, size) in sizes(channel).into_iter().enumerate() {
                    from.send(channel, frame(size, salt as u8)).await.unwrap();
                }
            };
            let receive = async {
                let mut seen = [0; 4];
                for _ in 0..16 {
                    let (channel, got) = next(to).await;
                    let number = &mut seen[channel as usize];
                    let size = sizes(channel)[*number];
                    assert!(got == frame(size, *number as u8), "{channel:?} {number}");
                    *number += 1;
                }
            };
            tokio::join!(
                send(Channel::Control),
                send(Channel::Live),
                send(Channel::CatchUp),
                send(Channel::Snapshot),
                receive
            );
        }
    });
}

#[test]
fn a_live_frame_overtakes_a_snapshot() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let relay = Relay::start(b.local_address().unwrap()).unwrap();
        relay.set_delay(Duration::from_millis(10));
        let (near, far) = link_through(&a, &b, relay.address()).await;
        let sending = near.clone();
        let snapshot = async move {
            for part in 0..20 {
                sending.send(Channel::Snapshot, frame(1 << 20, part)).await.unwrap();
            }
        };
        let live = async {
            // The transfer is under way.
            while near.stats().sent_bytes < 2 << 20 {
                sleep(Duration::from_millis(1)).await;
            }
            let start = Instant::now();
            near.send(Channel::Live, b"sale".to_vec()).await.unwrap();
            start
        };
        let receive = async {
            let (mut parts, mut arrived) = (0, None);
            while parts < 20 || arrived.is_none() {
                match next(&far).await {
                    (Channel::Snapshot, part) => {
                        assert!(part == frame(1 << 20, parts as u8));
                        parts += 1;
                    }
                    (channel, sale) => {
                        assert_eq!((channel, &sale[..]), (Channel::Live, &b"sale"[..]));
                        arrived = Some((Instant::now(), parts));
                    }
                }
            }
            (Instant::now(), arrived.unwrap())
        };
        let ((), sent, (end, (arrived, parts))) = tokio::join!(snapshot, live, receive);
        println!(
            "live after {:?}, before part {parts} of 20; the rest took {:?}",
            arrived - sent,
            end - arrived
        );
        assert!(parts < 10, "{parts}");
    });
}

#[test]
fn a_reader_that_does_not_fetch_snapshots_still_gets_live_frames() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let (near, far) = link(&a, &b).await;
        // Fills every buffer of the bulk channels: nobody reads at the far end.
        let stuffing = near.clone();
        let stuffed = async {
            for channel in [Channel::Snapshot, Channel::CatchUp] {
                while let Ok(sent) =
                    timeout(Duration::from_millis(200), stuffing.send(channel, frame(1 << 20, 0)))
                        .await
                {
                    sent.unwrap();
                }
            }
        };
        stuffed.await;
        let sent = near.stats().sent_bytes;
        assert!(sent < u64::from(8 * STREAM_WINDOW), "{sent} bytes sent unread");
        near.send(Channel::Live, b"sale".to_vec()).await.unwrap();
        near.send(Channel::Control, b"hello".to_vec()).await.unwrap();
        // They arrive past all that is stuck: the window of each channel is its own.
        for channel in [Channel::Live, Channel::Control] {
            while far.waiting(channel).await == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        }
        assert_eq!(next(&far).await, (Channel::Control, b"hello".to_vec()));
        assert_eq!(next(&far).await, (Channel::Live, b"sale".to_vec()));
        assert_eq!(next(&far).await.0, Channel::CatchUp);
    });
}

#[test]
fn what_breaks_the_framing_ends_the_link_and_allocates_nothing() {
    run(async {
        let too_long = [&[0][..], &(514u32 << 20).to_be_bytes()].concat();
        let truncated = [&[2][..], &100u32.to_be_bytes(), b"only this"].concat();
        let cases: [(&[u8], &str); 4] = [
            (&too_long, "a frame of 538968064 bytes exceeds the limit of 537919488"),
            (&truncated, "shorter than its length"),
            (&[7], "unknown class 7"),
            (&[1, 0, 0], "without length"),
        ];
        for (bytes, expected) in cases {
            let (a, b) = (endpoint(1), endpoint(2));
            let key = key(2);
            let (raw, came) = tokio::join!(
                a.connect(b.local_address().unwrap(), &key, Purpose::Member, Effort::Insisting),
                guest(&b)
            );
            let (raw, far) = (raw.unwrap(), came.unwrap().admit());
            let mut stream = raw.open_uni().await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.finish().unwrap();
            assert_eq!(far.receive().await, None);
            let LinkError::ClosedHere { code: CloseCode::Malformed, reason } = far.closed().await
            else {
                panic!("closed otherwise")
            };
            assert!(reason.contains(expected), "{reason}");
            let told = LinkError::from(raw.closed().await);
            assert_eq!(told, LinkError::Closed { code: CloseCode::Malformed, reason });
        }

        // Two streams of one channel.
        let (a, b) = (endpoint(1), endpoint(2));
        let key = key(2);
        let address = b.local_address().unwrap();
        let (raw, came) =
            tokio::join!(a.connect(address, &key, Purpose::Member, Effort::Insisting), guest(&b));
        let (raw, far) = (raw.unwrap(), came.unwrap().admit());
        for _ in 0..2 {
            raw.open_uni().await.unwrap().write_all(&[0]).await.unwrap();
        }
        assert!(far.closed().await.to_string().contains("second stream"));
    });
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let claimed = super::streams::Carried::limit(Channel::Snapshot);
    let mut frame = Vec::new();
    while frame.len() < 10 << 20 {
        let missing = claimed - frame.len();
        super::streams::append(&mut frame, &[7; 1100], missing);
        assert!(frame.capacity() <= 2 * frame.len() + (64 << 10), "{}", frame.capacity());
    }
    let mut small = Vec::new();
    super::streams::append(&mut small, &[7; 200], 300);
    super::streams::append(&mut small, &[7; 100], 100);
    assert_eq!((small.len(), small.capacity()), (300, 300));
}

#[test]
fn a_frame_too_long_is_not_sent_and_the_link_goes_on() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let (near, far) = link(&a, &b).await;
        let sent = near.send(Channel::Control, vec![0; (1 << 20) + 1]).await;
        assert_eq!(sent, Err(LinkError::TooLarge { length: (1 << 20) + 1, limit: 1 << 20 }));
        near.send(Channel::Control, vec![5]).await.unwrap();
        assert_eq!(next(&far).await, (Channel::Control, vec![5]));
    });
}

#[test]
fn a_link_survives_another_address_and_loss() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let relay = Relay::start(b.local_address().unwrap()).unwrap();
        let (near, far) = link_through(&a, &b, relay.address()).await;
        near.send(Channel::Live, frame(1000, 1)).await.unwrap();
        assert_eq!(next(&far).await, (Channel::Live, frame(1000, 1)));
        let before = far.stats().address;
        relay.rebind();
        relay.set_loss(50);
        for (from, to) in [(&near, &far), (&far, &near)] {
            let send = from.send(Channel::Live, frame(300_000, 2));
            let (sent, received) = tokio::join!(send, next(to));
            sent.unwrap();
            assert!(received == (Channel::Live, frame(300_000, 2)));
        }
        assert_ne!(far.stats().address, before);
        assert!(near.stats().lost_packets > 0);
    });
}

#[test]
fn a_dead_line_is_noticed_by_both_sides() {
    run(async {
        let settings = Settings {
            keep_alive: Duration::from_millis(200),
            idle_timeout: Duration::from_millis(1200),
            ..Settings::default()
        };
        let (a, b) = (endpoint_with(1, settings), endpoint_with(2, settings));
        let relay = Relay::start(b.local_address().unwrap()).unwrap();
        let (near, far) = link_through(&a, &b, relay.address()).await;
        // Kept alive beyond the timeout while nobody says anything.
        assert!(timeout(settings.idle_timeout * 2, near.closed()).await.is_err());
        relay.cut();
        let cut = Instant::now();
        assert_eq!(near.closed().await, LinkError::Silent);
        assert_eq!(far.closed().await, LinkError::Silent);
        assert_eq!(far.receive().await, None);
        assert!(cut.elapsed() < settings.idle_timeout * 3, "{:?}", cut.elapsed());
    });
}

#[test]
fn a_restarted_peer_is_noticed_at_once() {
    run(async {
        let a = endpoint_with(
            1,
            Settings { keep_alive: Duration::from_millis(100), ..Settings::default() },
        );
        let world: Arc<dyn Environment> = Arc::new(Production::new());
        // The first boot of site 2 has a runtime of its own, which ends as if by its plug.
        let (tell, told) = tokio::sync::oneshot::channel();
        let (unplug, unplugged) = tokio::sync::oneshot::channel::<()>();
        let boot = std::thread::Builder::new().spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let b = endpoint(2);
                tell.send(b.local_address().unwrap()).unwrap();
                Production::new().spawn(Box::pin(async move {
                    let link = guest(&b).await.unwrap().admit();
                    link.closed().await;
                }));
                unplugged.await.unwrap();
            });
        });
        let address = told.await.unwrap();
        let near =
            Link::dial(&a, address, &key(2), Purpose::Member, Effort::Insisting).await.unwrap();
        near.send(Channel::Control, vec![1]).await.unwrap();
        unplug.send(()).unwrap();
        boot.unwrap().join().unwrap();
        let again = loop {
            match Endpoint::new(Arc::clone(&world), &[2; 32], address, Settings::default()) {
                Ok(endpoint) => break endpoint,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        let start = Instant::now();
        assert_eq!(near.closed().await, LinkError::Restarted);
        println!("restart noticed after {:?}", start.elapsed());
        drop(again);
    });
}

#[test]
fn closing_tells_the_reason_and_dropping_closes() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let (near, far) = link(&a, &b).await;
        near.close(CloseCode::Superseded, "another link is kept");
        let reason = "another link is kept".to_owned();
        let code = CloseCode::Superseded;
        assert_eq!(far.closed().await, LinkError::Closed { code, reason: reason.clone() });
        assert_eq!(near.closed().await, LinkError::ClosedHere { code, reason });

        let (near, far) = link(&a, &b).await;
        drop(near);
        assert!(matches!(far.closed().await, LinkError::Closed { code: CloseCode::Done, .. }));

        let (_near, far) = link(&a, &b).await;
        a.close(CloseCode::Done, "the site stops").await;
        let stops =
            LinkError::Closed { code: CloseCode::Done, reason: "the site stops".to_owned() };
        assert_eq!(far.closed().await, stops);
        assert!(a.accept().await.is_none());
    });
}

#[test]
fn strangers_are_bounded() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let (expected, address) = (key(2), b.local_address().unwrap());
        let mut guests = Vec::new();
        let mut links = Vec::new();
        // From half of the places on, newcomers prove their address first; it works all the same.
        for _ in 0..32 {
            let (dialled, came) = tokio::join!(
                Link::dial(&a, address, &expected, Purpose::Member, Effort::Insisting),
                guest(&b)
            );
            links.push(dialled.unwrap());
            guests.push(came.unwrap());
        }
        assert!(timeout(Duration::from_millis(100), b.accept()).await.is_err());
        guests.pop().unwrap().refuse("full");
        let (dialled, came) = tokio::join!(
            Link::dial(&a, address, &expected, Purpose::Member, Effort::Insisting),
            guest(&b)
        );
        dialled.unwrap();
        came.unwrap();
    });
}

#[test]
fn few_bytes() {
    run(async {
        let (a, b) = (endpoint(1), endpoint(2));
        let relay = Relay::start(b.local_address().unwrap()).unwrap();
        // A line so slow that a busy machine looks like no loss.
        relay.set_delay(Duration::from_millis(100));
        let spent = || {
            let (there, back) = relay.carried();
            there.line_bytes() + back.line_bytes()
        };
        // Until everything that a delay or a delayed acknowledgement holds back has passed.
        let settle = async || {
            let mut before = 0;
            while spent() != before {
                before = spent();
                sleep(Duration::from_millis(500)).await;
            }
            before
        };
        // The least of some: on a busy machine what is late is sent again.
        let mut handshakes = Vec::new();
        let mut overheads = Vec::new();
        for _ in 0..4 {
            let before = settle().await;
            let (near, far) = link_through(&a, &b, relay.address()).await;
            handshakes.push(settle().await - before);
            near.send(Channel::Live, frame(300, 0)).await.unwrap();
            next(&far).await;
            let before = settle().await;
            near.send(Channel::Live, frame(300, 0)).await.unwrap();
            next(&far).await;
            overheads.push(settle().await - before - 300);
            near.close(CloseCode::Done, "measured");
            far.closed().await;
        }
        println!("handshakes: {handshakes:?} bytes; overheads: {overheads:?}");
        let handshake = handshakes.into_iter().min().unwrap();
        assert!(handshake <= 4_300, "{handshake}");
        let overhead = overheads.into_iter().min().unwrap();
        println!("overhead of a 300-byte frame one way: {overhead} bytes");
        assert!(overhead <= 135, "{overhead}");
    });
}
