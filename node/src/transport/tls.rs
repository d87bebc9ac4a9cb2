//! Who the other side is: TLS 1.3 both ways, with self-signed Ed25519 certificates of which only
//! the key counts. The handshake proves that the other side holds its key; whose key that is, the
//! pin says (dialling) or the caller decides (accepting).
//!
//! Deliberately no authority, no names, no expiry, no resumption: nothing to miss or to renew.
//! One cipher suite and one key exchange: few bytes, nothing to downgrade.

use super::{LinkError, Purpose};
use crate::environment::Environment;
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::rustls::client::Resumption;
use quinn::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use quinn::rustls::crypto::{CryptoProvider, ring as provider, verify_tls13_signature};
use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use quinn::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use quinn::rustls::server::{NoServerSessionStorage, ParsedCertificate};
use quinn::rustls::time_provider::TimeProvider;
use quinn::rustls::version::TLS13;
use quinn::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName,
    PeerIncompatible, ServerConfig, SignatureScheme,
};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// DER of a PKCS#8 version 1 Ed25519 key, up to the 32 bytes of its seed.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// DER of an Ed25519 SubjectPublicKeyInfo, up to the 32 bytes of the key.
const PUBLIC_KEY_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// This site's key, as TLS wants it.
pub(super) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// Makes the certificate; the same seed gives the same bytes.
    pub(super) fn from_seed(seed: &[u8; 32]) -> Result<Self, LinkError> {
        let listen = |error: rcgen::Error| LinkError::Listen { reason: error.to_string() };
        let key = PrivatePkcs8KeyDer::from([&PKCS8_PREFIX[..], seed].concat());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519)
            .map_err(listen)?;
        let mut content = rcgen::CertificateParams::default();
        content.distinguished_name = rcgen::DistinguishedName::new();
        content.serial_number = Some(1u64.into());
        let certificate = content.self_signed(&pair).map_err(listen)?.der().clone();
        Ok(Self { certificate, key })
    }

    /// TLS for those who come.
    pub(super) fn server(
        &self,
        environment: Arc<dyn Environment>,
    ) -> Result<QuicServerConfig, LinkError> {
        QuicServerConfig::try_from(self.server_tls(environment)?).map_err(listen)
    }

    fn server_tls(&self, environment: Arc<dyn Environment>) -> Result<ServerConfig, LinkError> {
        let provider = Arc::new(lean_provider());
        let mut config = ServerConfig::builder_with_details(provider, Arc::new(Clock(environment)))
            .with_protocol_versions(&[&TLS13])
            .map_err(listen)?
            .with_client_cert_verifier(Arc::new(AnyKey))
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key().into())
            .map_err(listen)?;
        config.alpn_protocols =
            [Purpose::Member, Purpose::Join].map(|it| it.protocol().to_vec()).to_vec();
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }

    /// TLS for reaching the site that holds the pinned key.
    pub(super) fn client(
        &self,
        environment: Arc<dyn Environment>,
        pin: Arc<Pin>,
        protocol: &[u8],
    ) -> Result<QuicClientConfig, LinkError> {
        QuicClientConfig::try_from(self.client_tls(environment, pin, protocol)?).map_err(listen)
    }

    fn client_tls(
        &self,
        environment: Arc<dyn Environment>,
        pin: Arc<Pin>,
        protocol: &[u8],
    ) -> Result<ClientConfig, LinkError> {
        let provider = Arc::new(lean_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(Clock(environment)))
            .with_protocol_versions(&[&TLS13])
            .map_err(listen)?
            .dangerous()
            .with_custom_certificate_verifier(pin)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key().into())
            .map_err(listen)?;
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(config)
    }
}

fn listen(error: impl fmt::Display) -> LinkError {
    LinkError::Listen { reason: error.to_string() }
}

fn lean_provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![provider::kx_group::X25519],
        ..provider::default_provider()
    }
}

/// The environment's wall clock, as TLS and QUIC ask for it.
#[derive(Debug)]
pub(super) struct Clock(pub(super) Arc<dyn Environment>);

impl Clock {
    fn since_epoch(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.wall_clock().0).unwrap_or(0))
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.since_epoch()))
    }
}

impl quinn::TimeSource for Clock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH.checked_add(self.since_epoch()).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The Ed25519 key of a well-formed certificate that stands alone.
fn key_of(
    certificate: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Result<[u8; 32], rustls::Error> {
    if !others.is_empty() {
        return Err(CertificateError::BadEncoding.into());
    }
    let public_key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    public_key
        .strip_prefix(&PUBLIC_KEY_PREFIX[..])
        .and_then(|key| key.try_into().ok())
        .ok_or_else(|| CertificateError::BadEncoding.into())
}

fn verify(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let algorithms = provider::default_provider().signature_verification_algorithms;
    verify_tls13_signature(message, certificate, signature, &algorithms)
}

fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
}

/// Takes the pinned key alone, and remembers which key it saw.
#[derive(Debug)]
pub(super) struct Pin {
    expected: [u8; 32],
    found: OnceLock<[u8; 32]>,
}

impl Pin {
    pub(super) fn new(expected: [u8; 32]) -> Self {
        Self { expected, found: OnceLock::new() }
    }

    /// The key that answered, if it was another.
    pub(super) fn wrong_key(&self) -> Option<[u8; 32]> {
        self.found.get().copied().filter(|found| *found != self.expected)
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = *self.found.get_or_init({
            let key = key_of(certificate, others)?;
            move || key
        });
        if found == self.expected {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Takes any Ed25519 key, and insists on one; the caller decides right after the handshake.
#[derive(Debug)]
struct AnyKey;

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        key_of(certificate, others).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The Ed25519 public key that the other side proved to hold in the handshake.
///
/// # Errors
/// [`LinkError::Handshake`] before the handshake is done.
pub fn peer_key(connection: &quinn::Connection) -> Result<[u8; 32], LinkError> {
    let handshake = |reason: &str| LinkError::Handshake { reason: reason.to_owned() };
    let identity = connection.peer_identity().ok_or_else(|| handshake("no certificate"))?;
    let chain = identity
        .downcast::<Vec<CertificateDer<'static>>>()
        .map_err(|_| handshake("no certificate"))?;
    let (first, others) = chain.split_first().ok_or_else(|| handshake("no certificate"))?;
    key_of(first, others).map_err(|error| handshake(&error.to_string()))
}

/// What the other side came for.
pub(super) fn purpose(connection: &quinn::Connection) -> Result<Purpose, LinkError> {
    let data = connection.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let protocol = data.and_then(|data| data.protocol);
    [Purpose::Member, Purpose::Join]
        .into_iter()
        .find(|purpose| protocol.as_deref() == Some(purpose.protocol()))
        .ok_or(LinkError::WrongVersion)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
