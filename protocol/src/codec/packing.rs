//! Compression of bodies: zstd, with as few bytes around as it allows, and a dictionary by number.
//!
//! A compressed body is one zstd frame without magic number, checksum, dictionary id and content
//! size; its window is at most 2^[`limits::WINDOW`] bytes. Number 0 stands for a body that is
//! stored as it is, since some bodies (pictures) don't become smaller.

use super::{DecodeError, EncodeError, check};
use crate::limits;
use std::borrow::Cow;
use std::cell::RefCell;
use std::io::Read;
use std::sync::LazyLock;
use zstd::bulk::Compressor;
use zstd::dict::{DecoderDictionary, EncoderDictionary};
use zstd::stream::read::Decoder;
use zstd::zstd_safe::{CParameter, DCtx, DParameter, FrameFormat, get_error_name};

/// The number of a body that is stored as it is.
pub const STORED: u8 = 0;
/// The number of a body compressed with the dictionary `dictionaries/1.dict`.
pub const DICTIONARY_1: u8 = 1;

/// Trained by `examples/train_dictionary.rs`. It is part of the wire format: never changed, only
/// followed by another with the next number.
const CONTENT: &[u8] = include_bytes!("../../dictionaries/1.dict");
const LEVEL: i32 = 9;

static ENCODER: LazyLock<EncoderDictionary<'static>> =
    LazyLock::new(|| EncoderDictionary::copy(CONTENT, LEVEL));
static DECODER: LazyLock<DecoderDictionary<'static>> =
    LazyLock::new(|| DecoderDictionary::copy(CONTENT));

/// Compresses a body: the number of what was done, and the result.
pub(crate) fn pack(raw: &[u8]) -> Result<(u8, Cow<'_, [u8]>), EncodeError> {
    let packed = compress(raw).map_err(|error| EncodeError::Failed(error.to_string()))?;
    if packed.len() < raw.len() {
        Ok((DICTIONARY_1, Cow::Owned(packed)))
    } else {
        Ok((STORED, Cow::Borrowed(raw)))
    }
}

/// A body up to this size is packed with a context that is kept: making one costs more than
/// packing some sales does. A larger one costs more itself, and would leave megabytes behind.
const SMALL: usize = 64 << 10;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

fn compress(raw: &[u8]) -> std::io::Result<Vec<u8>> {
    if raw.len() > SMALL {
        return compressor()?.compress(raw);
    }
    COMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(kept) => kept.compress(raw),
        None => kept.insert(compressor()?).compress(raw),
    })
}

fn compressor() -> std::io::Result<Compressor<'static>> {
    let mut compressor = Compressor::with_prepared_dictionary(&ENCODER)?;
    compressor.set_parameter(CParameter::Format(FrameFormat::Magicless))?;
    compressor.set_parameter(CParameter::ContentSizeFlag(false))?;
    compressor.set_parameter(CParameter::ChecksumFlag(false))?;
    compressor.set_parameter(CParameter::DictIdFlag(false))?;
    Ok(compressor)
}

/// Undoes what [`pack`] did. The result has `raw_length` bytes; memory is taken only as they come,
/// so that a lie about it costs its teller more than us.
pub(crate) fn unpack(
    number: u8,
    packed: &[u8],
    raw_length: usize,
    limit: usize,
) -> Result<Cow<'_, [u8]>, DecodeError> {
    check("bytes of a batch's body", raw_length, limit)?;
    let raw = match number {
        STORED => Cow::Borrowed(packed),
        DICTIONARY_1 => Cow::Owned(
            decompress(packed, raw_length).map_err(|e| DecodeError::malformed("compression", e))?,
        ),
        other => {
            return Err(DecodeError::Format { what: "compression", format: other.into() });
        }
    };
    if raw.len() == raw_length {
        Ok(raw)
    } else {
        Err(DecodeError::malformed("compression", "the body has another length than it says"))
    }
}

fn decompress(packed: &[u8], raw_length: usize) -> std::io::Result<Vec<u8>> {
    if packed.len().max(raw_length) > SMALL {
        return decompress_with(&mut decompressor()?, packed, raw_length);
    }
    DECOMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(kept) => decompress_with(kept, packed, raw_length),
        None => decompress_with(kept.insert(decompressor()?), packed, raw_length),
    })
}

fn decompressor() -> std::io::Result<DCtx<'static>> {
    let mut context = DCtx::create();
    context
        .ref_ddict(DECODER.as_ddict())
        .and_then(|_| context.set_parameter(DParameter::Format(FrameFormat::Magicless)))
        .and_then(|_| context.set_parameter(DParameter::WindowLogMax(limits::WINDOW)))
        .map_err(|code| std::io::Error::other(get_error_name(code)))?;
    Ok(context)
}

fn decompress_with(
    context: &mut DCtx<'static>,
    packed: &[u8],
    raw_length: usize,
) -> std::io::Result<Vec<u8>> {
    let mut decoder = Decoder::with_context(packed, context).single_frame();
    let mut raw = Vec::new();
    // One byte more than it says: reading into it shows whether the frame ends where it should.
    decoder.by_ref().take(raw_length as u64 + 1).read_to_end(&mut raw)?;
    if decoder.finish().is_empty() {
        Ok(raw)
    } else {
        Err(std::io::Error::other("bytes follow the compressed body"))
    }
}
