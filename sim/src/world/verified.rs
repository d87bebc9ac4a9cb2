//! Signatures that some site of this world has checked: each site checks the same ones, and that
//! would be a good part of what a run costs. Whatever is not known here is checked as in
//! production; only what was found good is remembered, by a hash of key, signature, kind and
//! message together.

use protocol::keys::{BadSignature, Domain, PublicKey, Signature};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// So many are remembered; then it begins anew. Sites hear of a batch at about the same time.
const MOST: usize = 16 << 10;

/// See the module.
#[derive(Debug, Default)]
pub struct Verified(Mutex<BTreeSet<[u8; 32]>>);

impl Verified {
    /// Whether `signature` is the key's over `message`.
    ///
    /// # Errors
    /// It is not.
    pub fn verify(
        &self,
        key: &PublicKey,
        domain: Domain,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        // Key and signature have fixed lengths, and a domain holds no NUL: no two questions are
        // the same bytes.
        let mut question = blake3::Hasher::new();
        for part in [&key.0[..], &signature.0, domain.as_str().as_bytes(), &[0], message] {
            question.update(part);
        }
        let question = *question.finalize().as_bytes();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(&question) {
            return Ok(());
        }
        key.verify(domain, message, signature)?;
        if known.len() == MOST {
            known.clear();
        }
        known.insert(question);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::keys::SigningKey;

    fn known(verified: &Verified) -> usize {
        verified.0.lock().unwrap().len()
    }

    #[test]
    fn a_bad_signature_is_bad_before_and_after_a_good_one() {
        let verified = Verified::default();
        let (key, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let public = key.public();
        let good = key.sign(Domain::FLIGHT, b"message");
        let mut bent = good;
        bent.0[63] ^= 1;
        let refused = || {
            let forged = other.sign(Domain::FLIGHT, b"message");
            for (key, domain, message, signature) in [
                (public, Domain::FLIGHT, &b"message"[..], forged),
                (public, Domain::FLIGHT, b"message", bent),
                (public, Domain::FLIGHT, b"massage", good),
                (public, Domain::MANIFEST, b"message", good),
                (other.public(), Domain::FLIGHT, b"message", good),
            ] {
                let found = verified.verify(&key, domain, message, &signature);
                assert_eq!(found, Err(BadSignature), "{message:?}");
            }
        };
        refused();
        assert_eq!(known(&verified), 0, "a failure is not remembered");
        for _ in 0..2 {
            assert_eq!(verified.verify(&public, Domain::FLIGHT, b"message", &good), Ok(()));
            assert_eq!(known(&verified), 1);
        }
        refused();
        assert_eq!(known(&verified), 1, "a failure is not remembered");
    }

    #[test]
    fn it_remembers_only_so_many() {
        let verified = Verified::default();
        for number in 0..MOST as u64 {
            let mut question = [0; 32];
            question[..8].copy_from_slice(&number.to_be_bytes());
            verified.0.lock().unwrap().insert(question);
        }
        let key = SigningKey::from_seed([1; 32]);
        let signature = key.sign(Domain::FLIGHT, b"one more");
        assert_eq!(verified.verify(&key.public(), Domain::FLIGHT, b"one more", &signature), Ok(()));
        assert_eq!(known(&verified), 1);
    }
}
