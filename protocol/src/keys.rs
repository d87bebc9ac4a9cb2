//! Ed25519 keys and signatures. Where keys are kept, and whose they are, is not known here.
//!
//! Every signature is over a [`Domain`], a NUL and the message, so that no signature can be taken
//! for one of another kind.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
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
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: [u8; 32],
}

/// What precedes the seed in an Ed25519 key's PKCS#8 v1 form (RFC 8410).
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

impl SigningKey {
    /// The key that belongs to a seed.
    ///
    /// # Errors
    /// The cryptographic library refuses the seed; it takes any 32 bytes.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError)?;
        Ok(Self { pair, seed })
    }

    /// The seed, to be kept as secret as the key.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The key in the form that certificate tools read: PKCS#8 v1, DER, 48 bytes.
    pub fn pkcs8(&self) -> [u8; 48] {
        let mut der = [0; 48];
        for (byte, from) in der.iter_mut().zip(PKCS8_PREFIX.iter().chain(&self.seed)) {
            *byte = *from;
        }
        der
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        for (byte, from) in key.iter_mut().zip(self.pair.public_key().as_ref()) {
            *byte = *from;
        }
        PublicKey(key)
    }

    /// Signs a message of one kind.
    pub fn sign(&self, domain: Domain, message: &[u8]) -> Signature {
        let signed = self.pair.sign(&domain.message(message));
        let mut signature = [0; 64];
        for (byte, from) in signature.iter_mut().zip(signed.as_ref()) {
            *byte = *from;
        }
        Signature(signature)
    }
}

/// Shows nothing of the secret.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {:?})", self.public())
    }
}

/// A seed that is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the key can't be used")]
pub struct KeyError;

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
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(&domain.message(message), &signature.0)
            .map_err(|_| BadSignature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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

    fn key() -> SigningKey {
        SigningKey::from_seed([7; 32]).unwrap()
    }

    #[test]
    fn a_signature_of_one_kind_is_none_of_another() {
        let signature = key().sign(Domain::OPENING, b"message");
        let public = key().public();
        assert_eq!(public.verify(Domain::OPENING, b"message", &signature), Ok(()));
        assert_eq!(public.verify(Domain::FLIGHT, b"message", &signature), Err(BadSignature));
        assert_eq!(public.verify(Domain::OPENING, b"massage", &signature), Err(BadSignature));
        let other = SigningKey::from_seed([8; 32]).unwrap().public();
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
