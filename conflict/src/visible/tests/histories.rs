//! Random histories of 2 to 5 sites: what they write, what they see, and that they end with one
//! content, in whatever order batches came.

use super::books::Seen;
use super::checks;
use super::schema::Schema;
use super::site::{Batch, Site};
use super::{Random, Seed, cases, first_seed};

#[test]
fn all_sites_end_with_one_content_in_every_order() {
    let mut seen = Seen::default();
    for seed in first_seed()..first_seed() + cases(2000) {
        let _named = Seed(seed);
        history(&mut Random(seed ^ 0x5eed), &mut seen);
    }
    seen.check();
}

fn history(random: &mut Random, seen: &mut Seen) {
    let schema = Schema::random(random);
    let most = 2 + random.below(4);
    let mut sites: Vec<Site> = (0..2).map(|number| Site::new(number, most)).collect();
    let mut batches: Vec<Batch> = Vec::new();
    let mut offline = vec![false; most];
    for _ in 0..8 + 4 * most {
        let at = random.below(sites.len());
        match random.below(20) {
            0..12 => {
                let mut tries = (0..4).filter_map(|_| sites[at].transact(random, &schema));
                batches.extend(tries.next());
            }
            12..=17 if !offline[at] => {
                let group = 1 + random.below(4);
                deliver(random, &schema, &mut sites[at], &batches, group);
            }
            18 if sites.len() < most => {
                let joiner = sites[at].snapshot(sites.len());
                sites.push(joiner);
            }
            _ => offline[at] = !offline[at],
        }
    }
    // Everybody gets everything; and two that saw nothing of it get it in orders of their own.
    sites.extend([Site::new(0, most), Site::new(0, most)]);
    for site in &mut sites {
        let group = 1 + random.below(6);
        while deliver(random, &schema, site, &batches, group) {}
    }
    let first = &sites[0];
    checks::check(&schema, &first.books);
    for site in &sites[1..] {
        assert_eq!(site.vector, first.vector);
        assert_eq!(site.books.rows, first.books.rows, "merged states differ");
        assert_eq!(site.books.outcomes, first.books.outcomes, "outcomes differ");
        assert_eq!(site.tables, first.tables, "contents differ");
    }
    for site in &sites {
        seen.add(site.books.seen);
    }
}

/// Hands a site up to `group` batches at once, any whose turn has come.
fn deliver(
    random: &mut Random,
    schema: &Schema,
    site: &mut Site,
    batches: &[Batch],
    group: usize,
) -> bool {
    let mut chosen: Vec<Batch> = Vec::new();
    let mut vector = site.vector.clone();
    while chosen.len() < group {
        let ready: Vec<&Batch> = batches.iter().filter(|batch| batch.is_next(&vector)).collect();
        if ready.is_empty() {
            break;
        }
        let next = *random.pick(&ready);
        vector[next.origin] = next.sequence;
        chosen.push(next.clone());
    }
    if chosen.is_empty() {
        return false;
    }
    site.take(schema, &chosen);
    true
}
