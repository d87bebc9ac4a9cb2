//! Ed25519 keys and signatures. Where keys are kept, and whose they are, is not known here.
//!
//! Every signature is over a [`Domain`], a NUL and the message, so that no signature can be taken
//! for one of another kind.

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer as _, Verifier as _, VerifyingKey};
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// What a signature or hash is about. Its text holds no NUL, so no domain begins another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain(&'static str);

impl Domain {
    /// The signature of a branch's opening.
    pub const OPENING: Self = Self::new("holdfast opening 1");
    /// The signature that closes a flight.
    pub const FLIGHT: Self = Self::new("holdfast flight 1");
    /// The signature of a snapshot's manifest.
    pub const MANIFEST: Self = Self::new("holdfast manifest 1");

    /// A domain of this text, which must be unlike all others and hold no NUL.
    pub const fn new(text: &'static str) -> Self {
        Self(text)
    }

    /// The text, without the NUL that follows it under a signature.
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    fn message(self, message: &[u8]) -> Vec<u8> {
        [self.0.as_bytes(), &[0], message].concat()
    }
}

/// A site's secret key.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// What precedes the seed in an Ed25519 key's PKCS#8 v1 form (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

impl SigningKey {
    /// The key that belongs to a seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The seed, to be kept as secret as the key.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The key in the form that certificate tools read: PKCS#8 v1, DER, 48 bytes.
    pub fn pkcs8(&self) -> [u8; 48] {
        let mut der = [0; 48];
        for (byte, from) in der.iter_mut().zip(PKCS8_PREFIX.iter().chain(self.seed())) {
            *byte = *from;
        }
        der
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a message of one kind.
    pub fn sign(&self, domain: Domain, message: &[u8]) -> Signature {
        Signature(self.0.sign(&domain.message(message)).to_bytes())
    }
}

/// Shows nothing of the secret.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {:?})", self.public())
    }
}

/// A signature that is not the key's over that message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the signature is not this key's over this content")]
pub struct BadSignature;

/// A site's public key. On the wire: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKey(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl PublicKey {
    /// Whether `signature` is this key's over `message`.
    ///
    /// # Errors
    /// It is not.
    pub fn verify(
        &self,
        domain: Domain,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(&self.0)
            .and_then(|key| key.verify(&domain.message(message), &signature))
            .map_err(|_| BadSignature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// An Ed25519 signature. On the wire: 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(#[serde(with = "serde_bytes")] pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(")?;
        self.0.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    fn key() -> SigningKey {
        SigningKey::from_seed([7; 32])
    }

    #[test]
    fn a_signature_of_one_kind_is_none_of_another() {
        let signature = key().sign(Domain::OPENING, b"message");
        let public = key().public();
        assert_eq!(public.verify(Domain::OPENING, b"message", &signature), Ok(()));
        assert_eq!(public.verify(Domain::FLIGHT, b"message", &signature), Err(BadSignature));
        assert_eq!(public.verify(Domain::OPENING, b"massage", &signature), Err(BadSignature));
        let other = SigningKey::from_seed([8; 32]).public();
        assert_eq!(other.verify(Domain::OPENING, b"message", &signature), Err(BadSignature));
    }

    #[test]
    fn the_pkcs8_form_is_the_same_key() {
        let read = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&key().pkcs8()).unwrap();
        assert_eq!(read.public_key().as_ref(), key().public().0);
    }

    #[test]
    fn debugging_a_secret_shows_nothing_of_it() {
        let shown = format!("{:?}", key());
        assert!(!shown.contains("0707") && !shown.contains("[7, 7"), "{shown}");
    }

    #[test]
    fn keys_and_signatures_are_bytes_on_the_wire() {
        let signature = key().sign(Domain::FLIGHT, b"");
        let bytes = rmp_serde::to_vec(&(key().public(), signature)).unwrap();
        assert_eq!(bytes.len(), 1 + 2 + 32 + 2 + 64);
        let read: (PublicKey, Signature) = rmp_serde::from_slice(&bytes).unwrap();
        assert_eq!(read, (key().public(), signature));
    }
}
