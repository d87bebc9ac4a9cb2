//! Sites that share a database, each with a real application's database and a real `node.db`, and
//! nothing between them but batches: random histories, and what must hold in each.

mod examples;
mod harmless;
mod histories;
mod site;

use site::{Batch, Site};

/// Delivers everything everywhere until nobody has anything new.
fn exchange(sites: &mut [Site]) {
    for _ in 0..20 {
        let mut moved = false;
        for site in sites.iter_mut() {
            moved |= site.harvest();
        }
        let batches: Vec<Batch> = sites.iter().flat_map(|site| site.made.clone()).collect();
        for site in sites.iter_mut() {
            moved |= site.receive_all(&batches);
        }
        if !moved {
            return;
        }
    }
    panic!("they never come to rest");
}

fn assert_alike(sites: &[Site]) {
    let first = sites[0].content();
    for site in &sites[1..] {
        assert_eq!(first, site.content(), "{} differs from {}", site.name, sites[0].name);
    }
}
