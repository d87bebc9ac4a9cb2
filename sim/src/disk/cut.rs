//! What a power cut leaves of a file: of every sector some version from the durable one to the
//! newest, independently of the others, so that writes are lost, torn and reordered. The length is
//! drawn likewise; what was cut off the end comes back whole or not at all.

use super::file::{Content, put_sector};
use crate::random::Random;
use std::collections::BTreeMap;

/// What became of the writes that were not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Writes of which nothing is left.
    pub lost: u64,
    /// Writes of which a part is left.
    pub torn: u64,
    /// Writes that were not synced, and are there all the same.
    pub survived: u64,
}

/// How many sectors survive, of ten thousand: drawn for each file anew, so that nearly all and
/// nearly nothing happen as well as half.
pub(super) fn survival(random: &mut Random) -> u64 {
    [0, 3000, 8000, 9700, 10_000][random.below(5) as usize]
}

/// Takes the power from a file.
pub(super) fn cut(content: &mut Content, random: &mut Random) -> Damage {
    let mut damage = Damage::default();
    if content.is_settled() {
        return damage;
    }
    let now = content.length();
    let mut image = content.take_image();
    let writes = content.writes();
    let survival = survival(random);
    let all = writes.len();
    // So many writes have lengthened or shortened the file for good.
    let lengths = match random.happens(survival) {
        true => all,
        false => random.below(all as u64 + 1) as usize,
    };
    let length = match (lengths.checked_sub(1).and_then(|last| writes.get(last)), writes.first()) {
        (Some(last), _) => last.new_length,
        (None, Some(first)) => first.old_length,
        (None, None) => now,
    };
    let mut touched: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    let mut longest = now.max(length);
    for (number, write) in writes.iter().enumerate() {
        longest = longest.max(write.old_length).max(write.new_length);
        write.sectors().for_each(|sector| touched.entry(sector).or_default().push(number));
    }
    let mut lost: Vec<Vec<u64>> = vec![Vec::new(); all];
    let mut restored = Vec::new();
    for (sector, numbers) in &touched {
        let shortens = |number: &usize| writes.get(*number).is_some_and(|write| write.shortens());
        // Before a shortening that took place nothing comes back; with one that did not, all does.
        let last_kept = numbers.iter().rposition(|n| *n < lengths && shortens(n));
        let first_gone = numbers.iter().position(|n| *n >= lengths && shortens(n));
        let least = last_kept.map_or(0, |place| place + 1);
        let kept = match () {
            () if random.happens(survival) => numbers.len(),
            () if numbers.len() == 1 || random.happens(5000) => 0,
            () => random.below(numbers.len() as u64) as usize,
        };
        let kept = kept.max(least).min(first_gone.unwrap_or(numbers.len()));
        for number in numbers.iter().skip(kept) {
            lost[*number].push(*sector);
        }
        if kept == 0
            && let Some(given_up) = content.given_up().get(sector)
        {
            restored.push((*sector, given_up.clone()));
        }
    }
    let untouched = content.given_up().iter().filter(|(sector, _)| !touched.contains_key(sector));
    restored.extend(untouched.map(|(sector, given_up)| (*sector, given_up.clone())));

    image.resize(longest as usize, 0);
    for (write, sectors) in writes.iter().zip(&lost).rev() {
        sectors.iter().for_each(|sector| content.undo_sector(write, *sector, &mut image));
        match sectors.len() as u64 {
            0 => damage.survived += 1,
            gone if gone == write.sectors().end - write.sectors().start => damage.lost += 1,
            _ => damage.torn += 1,
        }
    }
    restored.iter().for_each(|(sector, given_up)| put_sector(&mut image, *sector, given_up));
    image.truncate(length as usize);
    image.resize(length as usize, 0);
    content.settle(image);
    damage
}
