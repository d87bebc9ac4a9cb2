//! Handshakes in memory: what is taken, and what impostors get.

use super::*;
use crate::environment::production::Production;
use quinn::rustls::server::{ClientHello, ResolvesServerCert};
use quinn::rustls::sign::CertifiedKey;
use quinn::rustls::{ClientConnection, ServerConnection};
use ring::signature::{Ed25519KeyPair, KeyPair};

fn world() -> Arc<dyn Environment> {
    Arc::new(Production::new())
}

fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32]).unwrap()
}

fn key(seed: u8) -> [u8; 32] {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    pair.public_key().as_ref().try_into().unwrap()
}

fn client(seed: u8, expected: u8) -> ClientConfig {
    let pin = Arc::new(Pin::new(key(expected)));
    identity(seed).client_tls(world(), pin, Purpose::Member.protocol()).unwrap()
}

fn server(seed: u8) -> ServerConfig {
    identity(seed).server_tls(world()).unwrap()
}

/// Carries the handshake's bytes to and fro until both are done or one refuses.
fn handshake(client: ClientConfig, server: ServerConfig) -> Result<[u8; 32], rustls::Error> {
    let name = ServerName::try_from("holdfast").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    key_of(&server.peer_certificates().unwrap()[0], &[])
}

/// Shows the certificate of one site, and signs with the key of another.
#[derive(Debug)]
struct Impostor(Arc<CertifiedKey>);

impl Impostor {
    fn new(shown: &Identity, held: &Identity) -> Arc<Self> {
        let key = provider::sign::any_eddsa_type(&held.key).unwrap();
        Arc::new(Self(Arc::new(CertifiedKey::new(vec![shown.certificate.clone()], key))))
    }
}

impl ResolvesServerCert for Impostor {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl rustls::client::ResolvesClientCert for Impostor {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn the_holder_of_the_pinned_key_is_taken() {
    assert_eq!(handshake(client(1, 2), server(2)).unwrap(), key(1));
}

#[test]
fn a_seed_always_gives_the_same_certificate() {
    assert_eq!(identity(1).certificate, identity(1).certificate);
    assert_ne!(identity(1).certificate, identity(2).certificate);
    assert_eq!(key_of(&identity(1).certificate, &[]).unwrap(), key(1));
    println!("certificate: {} bytes", identity(1).certificate.len());
}

#[test]
fn another_key_is_not_taken_but_remembered() {
    let pin = Arc::new(Pin::new(key(3)));
    let config =
        identity(1).client_tls(world(), Arc::clone(&pin), Purpose::Member.protocol()).unwrap();
    assert!(handshake(config, server(2)).is_err());
    assert_eq!(pin.wrong_key(), Some(key(2)));
}

#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    // A server that shows site 2's certificate without holding its key.
    let mut false_server = server(9);
    false_server.cert_resolver = Impostor::new(&identity(2), &identity(9));
    let error = handshake(client(1, 2), false_server).unwrap_err();
    assert_eq!(error, CertificateError::BadSignature.into());
    // A client that shows site 1's.
    let mut false_client = client(9, 2);
    false_client.client_auth_cert_resolver = Impostor::new(&identity(1), &identity(9));
    let error = handshake(false_client, server(2)).unwrap_err();
    assert_eq!(error, CertificateError::BadSignature.into());
}

#[test]
fn who_shows_no_certificate_is_not_taken() {
    let nameless = ClientConfig::builder_with_provider(Arc::new(lean_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pin::new(key(2))))
        .with_no_client_auth();
    let mut server = server(2);
    server.alpn_protocols.clear();
    assert_eq!(handshake(nameless, server), Err(rustls::Error::NoCertificatesPresented));
}

#[test]
fn only_a_lone_ed25519_certificate_is_well_formed() {
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let other = rcgen::CertificateParams::default().self_signed(&other).unwrap();
    assert!(key_of(other.der(), &[]).is_err());
    assert!(key_of(&CertificateDer::from(vec![1, 2, 3]), &[]).is_err());
    let certificate = identity(1).certificate;
    assert!(key_of(&certificate, std::slice::from_ref(&certificate)).is_err());
}

#[test]
fn another_protocol_name_is_a_wrong_version() {
    let mut newer = client(1, 2);
    newer.alpn_protocols = vec![b"holdfast/9".to_vec()];
    assert_eq!(handshake(newer, server(2)), Err(rustls::Error::NoApplicationProtocol));
}
