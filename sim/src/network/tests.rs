//! The network without nodes: what happens to packets.

use super::*;
use quinn::AsyncUdpSocket;
use quinn::udp::RecvMeta;
use std::io::IoSliceMut;
use std::ops::Range;
use tokio::time::{Instant, sleep, timeout};

fn network(line: Line) -> Arc<Network> {
    let (clock, random) = (Clock::start(), Random::new(1, "network"));
    let network = Arc::new(Network::new(clock, Arc::default(), random));
    network.set_line(line);
    network
}

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const C: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3));

fn at(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 4433)
}

/// Two computers with a socket each.
fn pair(network: &Arc<Network>) -> (Arc<Socket>, Arc<Socket>) {
    (network.bind(A, listen()).unwrap(), network.bind(B, listen()).unwrap())
}

fn send(from: &Socket, destination: SocketAddr, contents: &[u8]) {
    let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
    from.try_send(&transmit).unwrap();
}

/// The next packet, within an hour.
async fn receive(socket: &Socket) -> (SocketAddr, Vec<u8>) {
    let next = std::future::poll_fn(|context| {
        let (mut buffer, mut meta) = ([0; 1500], [RecvMeta::default()]);
        let polled = socket.poll_recv(context, &mut [IoSliceMut::new(&mut buffer)], &mut meta);
        polled.map(|count| {
            assert_eq!(count.unwrap(), 1);
            let from = SocketAddr::new(meta[0].addr.ip().to_canonical(), meta[0].addr.port());
            (from, buffer[..meta[0].len].to_vec())
        })
    });
    timeout(Duration::from_secs(3600), next).await.expect("nothing comes")
}

/// How many come until nothing comes for a while, and how long the last of them took.
async fn count(socket: &Socket) -> (u64, Duration) {
    let (mut received, begun) = (0, Instant::now());
    let mut last = Duration::ZERO;
    while timeout(Duration::from_secs(30), receive(socket)).await.is_ok() {
        (received, last) = (received + 1, begun.elapsed());
    }
    (received, last)
}

/// A thousand packets at once; how many arrive.
async fn burst(from: &Socket, to: SocketAddr, at: &Socket) -> u64 {
    (0..1000).for_each(|_| send(from, to, b"x"));
    count(at).await.0
}

#[tokio::test(start_paused = true)]
async fn a_packet_takes_its_time_and_shows_where_it_is_from() {
    let network = network(Line::CLEAN);
    let a = network.bind(A, listen()).unwrap();
    let b = network.bind(B, "0.0.0.0:0".parse().unwrap()).unwrap();
    assert_eq!(a.local_addr().unwrap(), listen());
    let begun = Instant::now();
    send(&b, at(A), b"hello");
    let (from, content) = receive(&a).await;
    assert!((50..=53).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!((from.ip(), content), (B, b"hello".to_vec()));
    send(&a, from, b"well");
    assert_eq!(receive(&b).await, (at(A), b"well".to_vec()));
    assert!(network.bind(A, listen()).is_err(), "the port is taken");
    drop(a);
    assert!(network.bind(A, listen()).is_ok(), "and free again");
    assert!(network.bind(A, SocketAddr::new(B, 1)).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_socket_of_both_families_sees_mapped_addresses() {
    let network = network(Line::CLEAN);
    let (a, b) = pair(&network);
    send(&b, at(A), b"x");
    sleep(Duration::from_secs(1)).await;
    let (mut buffer, mut meta) = ([0; 10], [RecvMeta::default()]);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let polled = a.poll_recv(&mut context, &mut [IoSliceMut::new(&mut buffer)], &mut meta);
    assert!(polled.is_ready());
    assert!(meta[0].addr.is_ipv6());
}

#[tokio::test(start_paused = true)]
async fn packets_are_lost_and_doubled() {
    let network = network(Line { lost: 2000, ..Line::CLEAN });
    let (a, b) = pair(&network);
    let came = burst(&b, at(A), &a).await;
    assert!((700..900).contains(&came));
    let counts = network.counts();
    assert_eq!((counts.packets, counts.bytes, counts.lost), (1000, 1000, 1000 - came));
    network.set_line(Line { doubled: 2000, ..Line::CLEAN });
    let came = burst(&b, at(A), &a).await;
    assert!((1100..1300).contains(&came));
    assert_eq!(network.counts_from(B, A).doubled, came - 1000);
    assert_eq!(network.counts_from(A, B), Counts::default());
    // A computer without power: nothing out, nothing in.
    network.unplug(B);
    assert_eq!(burst(&b, at(A), &a).await, 0);
    send(&a, at(B), b"x");
    assert_eq!(network.counts_from(A, B).nowhere, 1);
    assert_eq!(network.trace.totals().0, 2001, "all that was sent, whatever became of it");
}

#[tokio::test(start_paused = true)]
async fn cuts_are_one_way_or_both() {
    let network = network(Line::CLEAN);
    let (a, b) = pair(&network);
    network.set_cut(B, A, true);
    assert_eq!(burst(&b, at(A), &a).await, 0);
    assert_eq!(burst(&a, at(B), &b).await, 1000);
    assert_eq!((network.counts_from(B, A).cut, network.counts_from(A, B).cut), (1000, 0));
    network.set_cut(B, A, false);
    assert_eq!(burst(&b, at(A), &a).await, 1000);
    network.connect(C, "harbour", Access::Direct);
    assert_eq!(network.find(A, "harbour"), Some(C));
    for isolated in [false, true] {
        match isolated {
            true => network.isolate(A),
            false => network.block_udp(A),
        }
        assert_eq!(burst(&b, at(A), &a).await + burst(&a, at(B), &b).await, 0);
        assert_eq!(network.find(A, "harbour").is_none(), isolated, "UDP is not all there is");
        network.let_through(A);
        assert_eq!(burst(&b, at(A), &a).await, 1000);
    }
    network.isolate(B);
    network.set_cut(A, B, true);
    network.set_line_from(A, B, Some(Line { lost: 10_000, ..Line::CLEAN }));
    network.heal_all();
    assert_eq!(burst(&a, at(B), &b).await, 1000);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_flaps_works_half_of_the_time() {
    let network = network(Line { flaps: Some(Duration::from_secs(5)), ..Line::CLEAN });
    let (a, b) = pair(&network);
    for second in 0..40 {
        send(&a, at(B), &[second]);
        sleep(Duration::from_secs(1)).await;
    }
    for second in (0..40).filter(|second| (second / 5) % 2 == 0) {
        assert_eq!(receive(&b).await.1, [second]);
    }
    assert_eq!(network.counts().cut, 20);
}

/// 200 numbered packets at once; in which order they come.
async fn order(from: &Socket, to: SocketAddr, at: &Socket) -> Vec<u8> {
    (0..200).for_each(|number| send(from, to, &[number]));
    let mut order = Vec::new();
    for _ in 0..200 {
        order.push(receive(at).await.1[0]);
    }
    order
}

/// How many came before one that was sent earlier.
fn overtaking(order: &[u8]) -> u64 {
    let mut least = u8::MAX;
    let overtook = |number: &&u8| {
        least = least.min(**number);
        least < **number
    };
    order.iter().rev().filter(overtook).count() as u64
}

#[tokio::test(start_paused = true)]
async fn packets_overtake_one_another() {
    let network = network(Line { jitter: Duration::ZERO, ..Line::CLEAN });
    let (a, b) = pair(&network);
    assert!(order(&a, at(B), &b).await.is_sorted());
    assert_eq!(network.counts().overtaken, 0);
    for line in [
        Line { jitter: Duration::from_millis(40), ..Line::CLEAN },
        Line { held_back: 3000, ..Line::CLEAN },
    ] {
        network.set_line(line);
        let before = network.counts().overtaken;
        let mut order = order(&a, at(B), &b).await;
        let overtaken = network.counts().overtaken - before;
        assert!(overtaken > 50, "{overtaken}");
        assert_eq!(overtaken, overtaking(&order));
        order.sort_unstable();
        assert_eq!(order, (0..200).collect::<Vec<u8>>());
    }
}

fn about(seconds: Range<f64>, took: Duration) {
    assert!(seconds.contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_has_its_rate_and_a_queue_that_ends() {
    let network = network(Line { queue: 1 << 20, ..Line::CRAWL });
    let (a, b) = pair(&network);
    // 100 packets of 1,000 bytes and 28 of headers are 27.4 s at 30 kbit/s.
    (0..100).for_each(|_| send(&a, at(B), &[0; 1000]));
    let (came, took) = count(&b).await;
    assert_eq!(came, 100);
    about(29.8..30.1, took);
    // An idle line is free at once; a queue takes what it holds and no more, beside what the line
    // itself has taken.
    network.set_line_from(A, B, Some(Line { queue: 10_000, ..Line::CRAWL }));
    (0..100).for_each(|_| send(&a, at(B), &[0; 1000]));
    let (came, took) = count(&b).await;
    assert_eq!((came, network.counts().dropped), (9, 91));
    about(4.9..5.1, took);
    // The other way is not slowed by that.
    (0..100).for_each(|_| send(&a, at(B), &[0; 1000]));
    send(&b, at(A), b"x");
    about(2.5..2.6, count(&a).await.1);
}

#[tokio::test(start_paused = true)]
async fn large_packets_fall_into_a_hole() {
    let network = network(Line::CLEAN);
    let (a, b) = pair(&network);
    network.set_line_from(A, B, Some(Line { largest: Some(1000), ..Line::CLEAN }));
    send(&a, at(B), &[0; 1001]);
    send(&a, at(B), &[0; 1000]);
    send(&b, at(A), &[0; 1400]);
    assert_eq!(receive(&b).await.1.len(), 1000);
    assert_eq!((count(&b).await.0, count(&a).await.0), (0, 1));
    assert_eq!((network.counts_from(A, B).too_large, network.counts().too_large), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_nat_lets_in_only_what_was_asked_for_and_forgets() {
    let network = network(Line::CLEAN);
    let idle = Duration::from_secs(30);
    network.connect(A, "shop", Access::Nat { idle });
    let (a, b) = pair(&network);
    let c = network.bind(C, listen()).unwrap();
    assert_ne!(network.interface(A), A);
    send(&b, at(A), b"unasked");
    send(&b, SocketAddr::new(network.interface(A), 4433), b"to nobody");
    assert_eq!(count(&a).await.0, 0);
    assert_eq!((network.counts().refused, network.counts().nowhere), (1, 1));

    send(&a, at(B), b"x");
    let first = receive(&b).await.0;
    assert_eq!(first.ip(), A);
    assert_ne!(first.port(), 4433);
    send(&b, first, b"answer");
    assert_eq!(receive(&a).await, (at(B), b"answer".to_vec()));
    send(&c, first, b"from another");
    assert_eq!(count(&a).await.0, 0);
    assert_eq!(network.counts_from(C, A).refused, 1);

    // Kept alive from inside, however long.
    send(&a, at(B), b"x");
    let kept = receive(&b).await.0;
    for _ in 0..5 {
        sleep(idle - Duration::from_secs(1)).await;
        send(&a, at(B), b"x");
        assert_eq!(receive(&b).await.0, kept);
    }
    let rebound = network.rebindings(A);
    sleep(idle + Duration::from_secs(1)).await;
    send(&b, kept, b"late");
    assert_eq!(count(&a).await.0, 0, "nothing from inside, so it has expired");
    send(&a, at(B), b"x");
    assert_ne!(receive(&b).await.0, kept);
    assert_eq!(network.rebindings(A), rebound + 1);
}

#[tokio::test(start_paused = true)]
async fn an_address_changes_and_the_name_follows() {
    let network = network(Line::CLEAN);
    network.connect(A, "shop", Access::Named);
    network.connect(B, "hub", Access::Nat { idle: Duration::from_secs(300) });
    let (a, b) = pair(&network);
    send(&b, at(A), b"x");
    let mapped = receive(&a).await.0;
    network.move_host(B, Duration::ZERO);
    send(&a, mapped, b"to the old address");
    send(&b, at(A), b"x");
    let moved = receive(&a).await.0;
    assert_ne!(moved.ip(), mapped.ip());
    assert_eq!((moved.ip(), network.rebindings(B)), (network.outside(B), 1));
    assert_eq!(count(&b).await.0, 0);
    assert_eq!(network.counts().nowhere, 1);

    network.move_host(A, Duration::from_secs(60));
    let now = network.outside(A);
    assert_ne!(now, A);
    assert_eq!(network.interface(A), now);
    assert_eq!(network.find(B, "shop"), Some(A), "not yet");
    send(&b, at(A), b"x");
    assert_eq!(count(&a).await.0, 0);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(network.find(B, "shop"), Some(now));
    send(&b, at(now), b"x");
    assert_eq!(count(&a).await.0, 1);
    send(&a, moved, b"x");
    let seen = network.trace.packets().pop();
    assert_eq!(seen, None, "nobody asked for the list");
}
