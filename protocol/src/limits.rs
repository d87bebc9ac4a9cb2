//! How large things may be, and why. Decoders check these before they believe a length; nothing
//! here is negotiated.

/// The bytes of a batch's body before compression: a row may hold 100 MB, an update carries
/// several such columns, and a gigabyte at once would be too much for a small PC.
pub const RAW_BODY: usize = 512 << 20;

/// The bytes of a batch's header, its largest numbers included.
pub const HEADER: usize = 37;

/// The bytes of a batch: a body is never stored larger than raw.
pub const FRAME: usize = RAW_BODY + HEADER;

/// The changes of one batch. A larger transaction is cut into batches with the flag MORE, so
/// that a bomb of tiny rows can't fill the memory: 262,144 rows take some 40 MB beside their values.
pub const CHANGES: usize = 1 << 18;

/// The values, stamps and references of one batch together: at 32 bytes each, 134 MB.
pub const VALUES: usize = 1 << 22;

/// What a batch may depend upon: one place a branch that its origin has applied.
pub const DEPENDENCIES: usize = 1 << 12;

/// The sites whose versions one batch may mention.
pub const SITES: usize = 1 << 12;

/// The tables of a schema.
pub const TABLES: usize = 1 << 14;

/// The columns of a table: SQLite itself can't be built for more.
pub const COLUMNS: usize = 32_767;

/// The statements of a schema.
pub const OBJECTS: usize = 1 << 16;

/// The bytes of a schema.
pub const SCHEMA: usize = 8 << 20;

/// The nesting of arrays and extensions in anything that is decoded: values have none, and the
/// deepest fixed form (references in a body) has six.
pub const DEPTH: usize = 16;

/// The bytes of an opening record.
pub const OPENING: usize = 512;

/// The batches of a flight.
pub const FLIGHT_BATCHES: usize = 1 << 12;

/// The bytes of a flight's batches, unless it is a single batch: what is lost and sent again when
/// a line breaks, and what a receiver must hold before it can check a signature.
pub const FLIGHT: usize = 1 << 20;

/// The bytes of a control message, which carries no batches.
pub const MESSAGE: usize = 1 << 20;

/// The bytes of a member record: some addresses are the longest part of one.
pub const MEMBER_RECORD: usize = 4 << 10;

/// The addresses of a site.
pub const ADDRESSES: usize = 16;

/// The bytes of an address: a DNS name has at most 253, a port 6 with its colon.
pub const ADDRESS: usize = 260;

/// The characters of an invitation code.
pub const INVITATION: usize = 8 << 10;

/// The branches that a vector tells of.
pub const HOLDINGS: usize = 1 << 12;

/// The opening records of one message.
pub const OPENINGS: usize = 1 << 9;

/// The raw bytes at which a snapshot's chunk is closed. A chunk with one larger row is larger,
/// up to [`RAW_BODY`].
pub const CHUNK: usize = 1 << 20;

/// The chunks of a snapshot: 64 GB of ordinary rows.
pub const CHUNKS: usize = 1 << 16;

/// The bytes of a manifest: its chunks' hashes and a schema.
pub const MANIFEST: usize = 12 << 20;

/// The window of a compressed body, as a power of two: what a decoder must allocate at once.
pub const WINDOW: u32 = 23;

/// The limits that decoding a body obeys. The defaults are the format's; a test may be stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`RAW_BODY`].
    pub raw_body: usize,
    /// See [`CHANGES`].
    pub changes: usize,
    /// See [`VALUES`].
    pub values: usize,
    /// See [`FLIGHT`].
    pub flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { raw_body: RAW_BODY, changes: CHANGES, values: VALUES, flight: FLIGHT }
    }
}
