//! A whole database at a place in a branch's line: a signed manifest, and chunks of rows. How a
//! snapshot is taken and where its chunks are kept is not known here.
//!
//! ```text
//! record   = [format = 1, branch, sequence, hash, schema, rows, [[hash, length], …]]
//! id       = BLAKE3 of the record under "holdfast manifest 1"
//! signed   = [record, signature of the id]
//! chunk    = [format = 1, dictionary, raw length, body]
//! its hash = BLAKE3 of the chunk under "holdfast chunk 1"
//! ```

use crate::change::{Body, Operation, SchemaReference};
use crate::codec::{self, DecodeError, EncodeError, allow, check, packing, read::bounded};
use crate::keys::{BadSignature, Domain, PublicKey, Signature, SigningKey};
use crate::limits::{self, Limits};
use crate::schema::Schema;
use crate::{BranchId, ChainHash, Sequence};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// The format of manifests and chunks.
pub const FORMAT: u8 = 1;
/// The BLAKE3 key derivation context of chunks' hashes.
pub const CHUNK_CONTEXT: &str = "holdfast chunk 1";

/// A snapshot's name: the hash of its manifest's record. On the wire: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ManifestId(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl fmt::Display for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for ManifestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManifestId({self})")
    }
}

/// A chunk by hash and length.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkInfo {
    /// The hash of its bytes.
    #[serde(with = "serde_bytes")]
    pub hash: [u8; 32],
    /// How many bytes it has.
    pub bytes: u32,
}

impl fmt::Debug for ChunkInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkInfo({} bytes, ", self.bytes)?;
        self.hash.iter().take(6).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The branch in whose line it was taken.
    pub branch: BranchId,
    /// The last batch that it includes; the one before the branch's first for a base.
    pub sequence: Sequence,
    /// The hash of the line there.
    pub hash: ChainHash,
    /// What the chunks are written in.
    pub schema: Schema,
    /// How many rows the chunks hold together.
    pub rows: u64,
    /// The chunks, in the order in which they are to be inserted.
    pub chunks: Vec<ChunkInfo>,
}

#[derive(Serialize, Deserialize)]
struct Record(
    u8,
    BranchId,
    Sequence,
    ChainHash,
    #[serde(with = "serde_bytes")] Vec<u8>,
    u64,
    #[serde(deserialize_with = "bounded::<{ limits::CHUNKS }, _, _>")] Vec<ChunkInfo>,
);

impl Manifest {
    fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        allow("chunks of a snapshot", self.chunks.len(), limits::CHUNKS)?;
        let bytes = codec::write(&Record(
            FORMAT,
            self.branch,
            self.sequence,
            self.hash,
            codec::write_schema(&self.schema)?,
            self.rows,
            self.chunks.clone(),
        ))?;
        allow("bytes of a manifest", bytes.len(), limits::MANIFEST)?;
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        check("bytes of a manifest", bytes.len(), limits::MANIFEST)?;
        codec::check_format("manifest", bytes, FORMAT)?;
        let Record(_, branch, sequence, hash, schema, rows, chunks) =
            codec::read("manifest", bytes)?;
        let schema = codec::read_schema(&schema)?;
        let manifest = Self { branch, sequence, hash, schema, rows, chunks };
        // One content has one form, and so one id.
        if manifest.encode().is_ok_and(|form| form == bytes) {
            Ok(manifest)
        } else {
            Err(DecodeError::malformed("manifest", "it is written in an unusual form"))
        }
    }
}

/// A manifest, the exact bytes of its record, and the signature of who took the snapshot, which
/// is not checked before [`SignedManifest::verify`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub struct SignedManifest {
    manifest: Manifest,
    bytes: Vec<u8>,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
struct Wire(#[serde(with = "serde_bytes")] Vec<u8>, Signature);

impl From<SignedManifest> for Wire {
    fn from(signed: SignedManifest) -> Self {
        Self(signed.bytes, signed.signature)
    }
}

impl TryFrom<Wire> for SignedManifest {
    type Error = DecodeError;

    fn try_from(Wire(bytes, signature): Wire) -> Result<Self, DecodeError> {
        Ok(Self { manifest: Manifest::decode(&bytes)?, bytes, signature })
    }
}

impl SignedManifest {
    /// Signs a manifest.
    ///
    /// # Errors
    /// It exceeds the limits.
    pub fn sign(manifest: Manifest, key: &SigningKey) -> Result<Self, EncodeError> {
        let bytes = manifest.encode()?;
        let signature = key.sign(Domain::MANIFEST, &id(&bytes).0);
        Ok(Self { manifest, bytes, signature })
    }

    /// What it says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The snapshot's name.
    pub fn id(&self) -> ManifestId {
        id(&self.bytes)
    }

    /// Whether the owner of `key` signed it.
    ///
    /// # Errors
    /// Not so.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        key.verify(Domain::MANIFEST, &self.id().0, &self.signature)
    }

    /// Record and signature as bytes.
    ///
    /// # Errors
    /// The serializer fails.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        codec::write(self)
    }

    /// Reads what [`SignedManifest::encode`] gives.
    ///
    /// # Errors
    /// The bytes are something else, or too many.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::read("signed manifest", bytes)
    }
}

fn id(record: &[u8]) -> ManifestId {
    ManifestId(blake3::derive_key(Domain::MANIFEST.as_str(), record))
}

#[derive(Serialize, Deserialize)]
struct Chunk<'a>(u8, u8, u32, #[serde(borrow, with = "serde_bytes")] &'a [u8]);

/// Why bytes are not the chunk that a manifest names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a chunk is not the one that its manifest names")]
pub struct BadChunk;

/// Writes rows as a chunk. The body holds inserts in the manifest's schema and nothing else; its
/// schema reference is the default.
///
/// # Errors
/// The body holds something else, or exceeds the limits.
pub fn encode_chunk(body: &Body) -> Result<(ChunkInfo, Vec<u8>), EncodeError> {
    only_inserts(body).map_err(EncodeError::Shape)?;
    let raw = codec::encode(body)?;
    let (dictionary, packed) = packing::pack(&raw)?;
    let bytes = codec::write(&Chunk(FORMAT, dictionary, raw.len() as u32, &packed))?;
    Ok((ChunkInfo { hash: hash(&bytes), bytes: bytes.len() as u32 }, bytes))
}

/// Reads a chunk's rows. To be called on what [`verify_chunk`] accepted.
///
/// # Errors
/// The bytes are not a chunk, or exceed the limits.
pub fn decode_chunk(bytes: &[u8], limits: &Limits) -> Result<Body, DecodeError> {
    check("bytes of a chunk", bytes.len(), limits::FRAME)?;
    codec::check_format("chunk", bytes, FORMAT)?;
    let Chunk(_, dictionary, raw_length, packed) = codec::read("chunk", bytes)?;
    let raw = packing::unpack(dictionary, packed, raw_length as usize, limits.raw_body)?;
    let body = codec::decode(&raw, limits)?;
    only_inserts(&body).map_err(|reason| DecodeError::malformed("chunk", reason))?;
    Ok(body)
}

/// Whether bytes are the chunk that a manifest names.
///
/// # Errors
/// Not so.
pub fn verify_chunk(info: &ChunkInfo, bytes: &[u8]) -> Result<(), BadChunk> {
    let same = bytes.len() == info.bytes as usize && hash(bytes) == info.hash;
    if same { Ok(()) } else { Err(BadChunk) }
}

fn hash(chunk: &[u8]) -> [u8; 32] {
    blake3::derive_key(CHUNK_CONTEXT, chunk)
}

fn only_inserts(body: &Body) -> Result<(), &'static str> {
    let inserts = body.changes.iter().all(|row| matches!(row.operation, Operation::Insert(_)));
    let plain = body.dependencies.is_empty()
        && body.cleared.is_empty()
        && body.schema == SchemaReference::default();
    if inserts && plain { Ok(()) } else { Err("a chunk holds inserts and nothing else") }
}
