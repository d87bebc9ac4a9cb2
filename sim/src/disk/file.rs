//! One file: what processes see, and what of it is not on the platter yet.
//!
//! The image is the page cache. Every write since the last sync left what it replaced behind, so
//! that any state from the durable one on can be had again. Which of them a power cut leaves is
//! decided in `cut`; names and folders are not here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a disk writes at once.
pub(super) const SECTOR: u64 = 512;
/// The system writes back by itself what nobody syncs, once it is so much.
const WRITE_BACK_BYTES: usize = 4 << 20;
const WRITE_BACK_WRITES: usize = 16 << 10;
/// So many earlier contents are remembered for stale reads.
const EARLIER: usize = 64;
/// What the system reads at once; it is in memory from then on.
const READ_AHEAD: u64 = 128 << 10;

pub(super) type Sector = [u8; SECTOR as usize];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Content {
    image: Arc<Vec<u8>>,
    writes: Vec<Write>,
    /// What the writes replaced, one after another.
    replaced: Vec<u8>,
    /// Where the platter differs from the image though nothing is left to write: what a failed
    /// sync gave up.
    given_up: BTreeMap<u64, Box<Sector>>,
    earlier: VecDeque<(u64, Vec<u8>)>,
    warm: Vec<bool>,
}

/// A change of the content that may still be lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    /// What it changed, beyond the file's end as well.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// How long the file was before.
    pub old_length: u64,
    /// How long it was then.
    pub new_length: u64,
    /// Where in `replaced` the bytes lie, and how many they are; behind them there was nothing.
    start: usize,
    kept: usize,
}

impl Write {
    /// The sectors it touched.
    pub fn sectors(&self) -> std::ops::Range<u64> {
        match self.length {
            0 => 0..0,
            length => self.offset / SECTOR..(self.offset + length).div_ceil(SECTOR),
        }
    }

    /// Whether it took something off the end.
    pub fn shortens(&self) -> bool {
        self.new_length < self.old_length
    }
}

impl Content {
    /// A file with a content that is durable.
    pub fn new(image: Arc<Vec<u8>>) -> Self {
        Self { image, ..Self::default() }
    }

    pub fn image(&self) -> &Arc<Vec<u8>> {
        &self.image
    }

    /// The image, to be given back by [`Content::settle`]: a copy where others look at it.
    pub fn take_image(&mut self) -> Vec<u8> {
        Arc::unwrap_or_clone(std::mem::take(&mut self.image))
    }

    pub fn length(&self) -> u64 {
        self.image.len() as u64
    }

    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    pub fn given_up(&self) -> &BTreeMap<u64, Box<Sector>> {
        &self.given_up
    }

    /// Whether a power cut would leave it as it is.
    pub fn is_settled(&self) -> bool {
        self.writes.is_empty() && self.given_up.is_empty()
    }

    /// Bytes held beside the image.
    pub fn overhead(&self) -> u64 {
        let earlier: usize = self.earlier.iter().map(|(_, bytes)| bytes.len()).sum();
        let writes = self.writes.len() * size_of::<Write>();
        (self.replaced.len() + writes + earlier + self.given_up.len() * SECTOR as usize) as u64
    }

    /// Fills `out` from `offset`; returns how many bytes there were.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> usize {
        let there = self.image.get(offset as usize..).unwrap_or_default();
        let count = there.len().min(out.len());
        if let (Some(out), Some(there)) = (out.get_mut(..count), there.get(..count)) {
            out.copy_from_slice(there);
        }
        count
    }

    /// Whether this was read, or written, since the power came on; from now on it was.
    pub fn warm(&mut self, offset: u64) -> bool {
        let block = (offset / READ_AHEAD) as usize;
        if self.warm.len() <= block {
            self.warm.resize(block + 1, false);
        }
        self.warm.get_mut(block).is_none_or(|warm| std::mem::replace(warm, true))
    }

    /// Writes, lengthening the file as needed.
    pub fn write(&mut self, offset: u64, bytes: &[u8], remember: bool) {
        let end = offset + bytes.len() as u64;
        let old_length = self.length();
        self.note(offset, bytes.len() as u64, end.max(old_length), remember);
        let image = Arc::make_mut(&mut self.image);
        if old_length == offset {
            image.extend_from_slice(bytes);
            return;
        }
        if end > old_length {
            image.resize(end as usize, 0);
        }
        if let Some(place) = image.get_mut(offset as usize..end as usize) {
            place.copy_from_slice(bytes);
        }
    }

    /// Makes the file that long.
    pub fn set_length(&mut self, length: u64, remember: bool) {
        let old = self.length();
        if length != old {
            self.note(length.min(old), old.saturating_sub(length), length, remember);
            Arc::make_mut(&mut self.image).resize(length as usize, 0);
        }
    }

    fn note(&mut self, offset: u64, length: u64, new_length: u64, remember: bool) {
        if self.replaced.len() > WRITE_BACK_BYTES || self.writes.len() > WRITE_BACK_WRITES {
            self.write_back();
        }
        let start = self.replaced.len();
        let there = self.image.get(offset as usize..).unwrap_or_default();
        let there = there.get(..length as usize).unwrap_or(there);
        self.replaced.extend_from_slice(there);
        let (kept, old_length) = (there.len(), self.image.len() as u64);
        if remember && kept > 0 {
            if self.earlier.len() == EARLIER {
                self.earlier.pop_front();
            }
            self.earlier.push_back((offset, there.to_vec()));
        }
        self.writes.push(Write { offset, length, old_length, new_length, start, kept });
    }

    /// The older half of the writes reaches the platter.
    fn write_back(&mut self) {
        let half = self.writes.len() / 2;
        self.now_durable(half);
        let from = self.writes.get(half).map_or(self.replaced.len(), |write| write.start);
        self.replaced.drain(..from);
        self.writes.drain(..half);
        self.writes.iter_mut().for_each(|write| write.start -= from);
    }

    fn now_durable(&mut self, writes: usize) {
        if !self.given_up.is_empty() {
            for write in self.writes.iter().take(writes) {
                write.sectors().for_each(|sector| drop(self.given_up.remove(&sector)));
            }
        }
    }

    /// Everything written reaches the platter.
    pub fn sync(&mut self) {
        self.now_durable(usize::MAX);
        self.writes.clear();
        self.replaced.clear();
    }

    /// The platter took nothing, and the system thinks no more of it: only what is written again
    /// gets another chance. The length counts as kept.
    pub fn give_up(&mut self) {
        let durable = self.durable();
        for write in &self.writes {
            for sector in write.sectors() {
                self.given_up
                    .entry(sector)
                    .or_insert_with(|| Box::new(sector_of(&durable, sector)));
            }
        }
        self.writes.clear();
        self.replaced.clear();
    }

    /// The content if nothing that was not synced had reached the platter.
    pub fn durable(&self) -> Vec<u8> {
        let mut image = Vec::clone(&self.image);
        for write in self.writes.iter().rev() {
            let end = (write.offset + write.length).max(write.old_length) as usize;
            image.resize(image.len().max(end), 0);
            self.undo(write, write.offset, write.length, &mut image);
            image.resize(write.old_length as usize, 0);
        }
        for (sector, content) in &self.given_up {
            put_sector(&mut image, *sector, content);
        }
        image
    }

    /// Puts back what a write replaced in a sector.
    pub fn undo_sector(&self, write: &Write, sector: u64, image: &mut [u8]) {
        let from = (sector * SECTOR).max(write.offset);
        let to = ((sector + 1) * SECTOR).min(write.offset + write.length);
        self.undo(write, from, to.saturating_sub(from), image);
    }

    fn undo(&self, write: &Write, from: u64, length: u64, image: &mut [u8]) {
        let kept = self.replaced.get(write.start..write.start + write.kept).unwrap_or_default();
        let kept = kept.get((from - write.offset) as usize..).unwrap_or_default();
        let Some(place) = image.get_mut(from as usize..(from + length) as usize) else { return };
        let count = kept.len().min(place.len());
        place[..count].copy_from_slice(&kept[..count]);
        place[count..].fill(0);
    }

    /// The file as it is found after the power was gone.
    pub fn settle(&mut self, image: Vec<u8>) {
        *self = Self::new(Arc::new(image));
    }

    /// Turns a bit over, on the platter and in memory. Returns whether there is such a bit.
    pub fn flip(&mut self, bit: u64) -> bool {
        let image = Arc::make_mut(&mut self.image);
        let Some(byte) = image.get_mut((bit / 8) as usize) else { return false };
        *byte ^= 1 << (bit % 8);
        true
    }

    /// Makes what was read there what it was some time ago, if that is known: `choice` says which
    /// of the times. Returns whether anything is different.
    pub fn make_stale(&self, offset: u64, out: &mut [u8], choice: u64) -> bool {
        let end = offset + out.len() as u64;
        let overlaps =
            |(start, bytes): &&(u64, Vec<u8>)| *start < end && start + bytes.len() as u64 > offset;
        let known: Vec<_> = self.earlier.iter().filter(overlaps).collect();
        if known.is_empty() {
            return false;
        }
        let Some((start, bytes)) = known.get(choice as usize % known.len()) else { return false };
        let mut different = false;
        for (at, byte) in (*start..).zip(bytes) {
            let place = at.checked_sub(offset).and_then(|at| out.get_mut(at as usize));
            if let Some(place) = place {
                different |= *place != *byte;
                *place = *byte;
            }
        }
        different
    }
}

fn sector_of(image: &[u8], sector: u64) -> Sector {
    let mut content = [0; SECTOR as usize];
    let there = image.get((sector * SECTOR) as usize..).unwrap_or_default();
    let count = there.len().min(content.len());
    content[..count].copy_from_slice(&there[..count]);
    content
}

/// Puts a sector in its place, as far as the image goes.
pub(super) fn put_sector(image: &mut [u8], sector: u64, content: &Sector) {
    if let Some(place) = image.get_mut((sector * SECTOR) as usize..) {
        let count = place.len().min(content.len());
        place[..count].copy_from_slice(&content[..count]);
    }
}
