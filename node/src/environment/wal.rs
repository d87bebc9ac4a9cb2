//! Writing a `-wal` again over itself, so that a sync after that makes it durable even where an
//! earlier one failed (F15): as far as it proves by its own checksums that it is read as it was
//! written, and nothing else, or a disk that reads wrongly (F14) would be made to keep that. What
//! its frames mean is SQLite's alone. The format: <https://sqlite.org/fileformat2.html#walformat>.

use std::io;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// With its lowest bit set checksums are of big-endian words.
const MAGIC: u32 = 0x377f_0682;
/// About so much is read and written at once.
const PIECE: usize = 64 << 10;

/// A `-wal`, open.
pub trait WalFile {
    /// Fills `out` from `offset` as far as the file goes, and says how far that was; fewer bytes
    /// only at its end.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// Writes again what is whole, and says how many bytes that was: 0 if there is no frame.
///
/// # Errors
/// The file's.
pub fn rewrite(wal: &mut dyn WalFile) -> io::Result<u64> {
    let mut header = [0; HEADER];
    let read = wal.read_at(0, &mut header)?;
    let Some(mut chain) = Chain::begin(&header).filter(|_| read == HEADER) else { return Ok(0) };
    let frame = FRAME_HEADER + chain.page;
    let mut piece = vec![0; frame * (PIECE / frame).max(1)];
    let mut end = HEADER as u64;
    loop {
        let read = wal.read_at(end, &mut piece)?;
        let frames = piece.get(..read).unwrap_or_default().chunks_exact(frame);
        let whole = frames.take_while(|frame| chain.takes(frame)).count() * frame;
        let Some(bytes) = piece.get(..whole).filter(|bytes| !bytes.is_empty()) else { break };
        // A header of earlier is whole too; that it is this one's, only its frames prove.
        if end == HEADER as u64 {
            wal.write_at(0, &header)?;
        }
        wal.write_at(end, bytes)?;
        end = end.saturating_add(whole as u64);
        if whole < piece.len() {
            break;
        }
    }
    Ok(if end > HEADER as u64 { end } else { 0 })
}

/// Each frame's checksum covers all before it.
struct Chain {
    big_endian: bool,
    page: usize,
    salt: [u8; 8],
    sum: (u32, u32),
}

impl Chain {
    /// None: that is no header.
    fn begin(header: &[u8; HEADER]) -> Option<Self> {
        let magic = number(header, 0)?;
        let page = usize::try_from(number(header, 8)?).ok()?;
        let known = magic & !1 == MAGIC && page.is_power_of_two();
        if !known || !(512..=65_536).contains(&page) {
            return None;
        }
        let salt = header.get(16..24)?.try_into().ok()?;
        let mut chain = Self { big_endian: magic & 1 == 1, page, salt, sum: (0, 0) };
        chain.add(header.get(..24)?);
        (chain.sum == (number(header, 24)?, number(header, 28)?)).then_some(chain)
    }

    /// Goes on over a frame; whether it is the next, and whole.
    fn takes(&mut self, frame: &[u8]) -> bool {
        let parts = (frame.get(..8), frame.get(8..16), frame.get(FRAME_HEADER..));
        let (Some(begin), Some(salt), Some(page)) = parts else { return false };
        self.add(begin);
        self.add(page);
        salt == self.salt
            && (Some(self.sum.0), Some(self.sum.1)) == (number(frame, 16), number(frame, 20))
    }

    fn add(&mut self, bytes: &[u8]) {
        let word = |bytes: [u8; 4]| match self.big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        };
        for pair in bytes.as_chunks::<4>().0.as_chunks::<2>().0 {
            let [first, second] = pair.map(word);
            self.sum.0 = self.sum.0.wrapping_add(first).wrapping_add(self.sum.1);
            self.sum.1 = self.sum.1.wrapping_add(second).wrapping_add(self.sum.0);
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
mod tests {
    use super::*;

    /// A file that notes how far it was written, each time at least as it is.
    struct Noted(Vec<u8>, usize);

    impl WalFile for Noted {
        fn read_at(&mut self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
            let there = self.0.get(offset as usize..).unwrap_or_default();
            let count = there.len().min(out.len());
            out[..count].copy_from_slice(&there[..count]);
            Ok(count)
        }

        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            let offset = offset as usize;
            assert_eq!(self.0[offset..offset + bytes.len()], *bytes);
            assert_eq!(offset, self.1, "nothing is left out");
            self.1 += bytes.len();
            Ok(())
        }
    }

    fn rewritten(wal: &[u8]) -> u64 {
        let mut noted = Noted(wal.to_vec(), 0);
        let end = rewrite(&mut noted).unwrap();
        assert_eq!(end, noted.1 as u64);
        end
    }

    #[test]
    fn what_sqlite_wrote_is_written_again_up_to_the_first_frame_that_is_not_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let wal = || std::fs::read(folder.path().join("a.db-wal")).unwrap();
        assert_eq!(rewritten(&wal()), 0);
        // More than a piece.
        let fill = "INSERT INTO t VALUES (zeroblob(200000)), (randomblob(70000))";
        database.execute_batch(fill).unwrap();
        let long = wal();
        assert_eq!(rewritten(&long), long.len() as u64);
        let frame = FRAME_HEADER + 4096;
        for damaged in [0, 1, 17, 40] {
            let mut wal = long.clone();
            wal[HEADER + damaged * frame + 1000] ^= 1;
            let left = if damaged == 0 { 0 } else { HEADER + damaged * frame };
            assert_eq!(rewritten(&wal), left as u64, "{damaged}");
        }
        let mut headless = long.clone();
        headless[13] ^= 1;
        assert_eq!(rewritten(&headless), 0);
        assert_eq!(rewritten(&long[..20]), 0);
        // Behind what is written into the -wal from its beginning stands what was there before.
        database.execute_batch("PRAGMA wal_checkpoint(RESTART); INSERT INTO t VALUES (1)").unwrap();
        let short = wal();
        assert_eq!(short.len(), long.len());
        let end = rewritten(&short);
        assert!(end > 0 && end < long.len() as u64 / 2, "{end}");
        // A header of earlier before frames of now, as a disk may give that reads wrongly.
        let mut stale = short;
        stale[..HEADER].copy_from_slice(&long[..HEADER]);
        assert_eq!(rewritten(&stale), 0);
    }
}
