//! The code that admits one site once, and what is said when it is used. Whether a code still
//! admits is the inviter's to decide: it remembers the codes it gave out.

use crate::keys::PublicKey;
use crate::limits::{ADDRESS, ADDRESSES, INVITATION};
use crate::membership::SignedRecord;
use crate::{GroupId, Name, codec};
use conflict::{SiteId, WallTime};
use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What every code begins with, so that people recognise one.
pub const PREFIX: &str = "holdfast-";
const FORMAT: u8 = 1;
/// Under which the check at the end of a code is hashed.
pub const CHECK_DOMAIN: &str = "holdfast invitation check 1";
const CHECK_BYTES: usize = 4;

/// Names an invitation at its inviter. On the wire: 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvitationId(#[serde(with = "serde_bytes")] pub [u8; 8]);

/// What its bearer knows and nobody else. On the wire: 16 bytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(#[serde(with = "serde_bytes")] pub [u8; 16]);

/// An invitation as it is handed from person to person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The group that it admits to.
    pub group: GroupId,
    /// The key of the site that gave it out: nobody else can answer in its place.
    pub inviter: PublicKey,
    /// Which invitation.
    pub id: InvitationId,
    /// The proof.
    pub secret: Secret,
    /// Where the inviter is reached, `HOST:PORT`.
    pub addresses: Vec<String>,
}

/// Why a word is not a code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvitationError {
    /// It does not look like one.
    #[error("this is not an invitation code: a code begins with \"holdfast-\"")]
    NotACode,
    /// Something was lost or changed on the way.
    #[error("this invitation code is garbled or incomplete")]
    Garbled,
    /// A later version made it.
    #[error("this invitation code is of a later format ({0}) than this program knows")]
    LaterFormat(u8),
}

/// What a site with a code says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The invitation.
    pub id: InvitationId,
    /// The proof. The channel is the inviter's own: TLS, its key pinned.
    pub secret: Secret,
    /// Who asks; its key is that of its certificate.
    pub site: SiteId,
    /// What it wants to be called.
    pub name: Name,
}

/// The inviter's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JoinReply {
    /// The site is a member.
    Welcome {
        /// All member records, the new admission among them.
        records: Vec<SignedRecord>,
        /// The inviter's clock.
        clock: WallTime,
    },
    /// It is not.
    Refused(JoinRefusal),
}

/// Why a site is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum JoinRefusal {
    /// There is no such invitation, or the secret is wrong, or it was tried wrongly too often.
    #[error("the invitation code is not valid at the site that it names")]
    Invalid,
    /// Its time is over.
    #[error("the invitation has expired")]
    Expired,
    /// Another site was admitted with it.
    #[error("the invitation has been used already")]
    Used,
    /// The group has a site of that name.
    #[error("the group has a site of that name already")]
    NameTaken,
    /// The inviter could not write it down.
    #[error("the inviting site could not write the admission down")]
    Unable,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Invitation {
    /// The code: [`PREFIX`], then in base32 (RFC 4648, lower case, unpadded) a format byte, the
    /// invitation in MessagePack, and the first 4 bytes of a BLAKE3 hash over both.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![FORMAT];
        bytes.extend(codec::write(self).map_err(|_| fmt::Error)?);
        let check = blake3::derive_key(CHECK_DOMAIN, &bytes);
        bytes.extend(&check[..CHECK_BYTES]);
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_lowercase())
    }
}

impl FromStr for Invitation {
    type Err = InvitationError;

    fn from_str(code: &str) -> Result<Self, InvitationError> {
        // Mail programs break lines and people type capitals.
        let code: String =
            code.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
        let body = code.strip_prefix(PREFIX).ok_or(InvitationError::NotACode)?;
        if body.len() > INVITATION {
            return Err(InvitationError::Garbled);
        }
        let bytes = BASE32_NOPAD
            .decode(body.to_uppercase().as_bytes())
            .map_err(|_| InvitationError::Garbled)?;
        let (content, check) = bytes
            .len()
            .checked_sub(CHECK_BYTES)
            .and_then(|place| bytes.split_at_checked(place))
            .ok_or(InvitationError::Garbled)?;
        if blake3::derive_key(CHECK_DOMAIN, content)[..CHECK_BYTES] != *check {
            return Err(InvitationError::Garbled);
        }
        let (format, content) = content.split_first().ok_or(InvitationError::Garbled)?;
        if *format != FORMAT {
            return Err(InvitationError::LaterFormat(*format));
        }
        let invitation: Self =
            codec::read("invitation", content).map_err(|_| InvitationError::Garbled)?;
        if invitation.addresses.len() > ADDRESSES
            || invitation.addresses.iter().any(|address| address.len() > ADDRESS)
        {
            return Err(InvitationError::Garbled);
        }
        Ok(invitation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn invitation() -> Invitation {
        Invitation {
            group: GroupId(uuid::Uuid::from_bytes([3; 16])),
            inviter: PublicKey([4; 32]),
            id: InvitationId([5; 8]),
            secret: Secret([6; 16]),
            addresses: vec!["shop.example.org:4433".into(), "[2001:db8::1]:4433".into()],
        }
    }

    #[test]
    fn a_code_survives_mail_and_handwriting() {
        let code = invitation().to_string();
        assert_eq!(code.parse(), Ok(invitation()));
        let (first, second) = code.split_at(40);
        assert_eq!(format!(" {}\n{second} \n", first.to_uppercase()).parse(), Ok(invitation()));
    }

    #[test]
    fn a_garbled_code_is_told_from_something_else() {
        let code = invitation().to_string();
        assert_eq!("hello".parse::<Invitation>(), Err(InvitationError::NotACode));
        assert_eq!("holdfast-".parse::<Invitation>(), Err(InvitationError::Garbled));
        assert_eq!(code[..code.len() - 1].parse::<Invitation>(), Err(InvitationError::Garbled));
        assert_eq!(format!("{code}a").parse::<Invitation>(), Err(InvitationError::Garbled));
    }

    #[test]
    fn a_code_of_a_later_format_says_so() {
        let mut bytes = vec![2];
        bytes.extend(codec::write(&invitation()).unwrap());
        let check = blake3::derive_key(CHECK_DOMAIN, &bytes);
        bytes.extend(&check[..CHECK_BYTES]);
        let code = format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_lowercase());
        assert_eq!(code.parse::<Invitation>(), Err(InvitationError::LaterFormat(2)));
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(place in 0_usize..200, to in "[a-z2-7]") {
            let mut code = invitation().to_string();
            let place = PREFIX.len() + place % (code.len() - PREFIX.len());
            prop_assume!(code[place..=place] != to);
            code.replace_range(place..=place, &to);
            prop_assert_eq!(code.parse::<Invitation>(), Err(InvitationError::Garbled));
        }

        #[test]
        fn anything_may_be_typed(code in "\\PC*") {
            let _ = code.parse::<Invitation>();
            let _ = format!("{PREFIX}{code}").parse::<Invitation>();
        }
    }
}
