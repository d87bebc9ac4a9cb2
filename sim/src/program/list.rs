//! `--list`: the scenarios, and the faults with the kinds that bring each about.

use sim::catalogue::{CATALOGUE, Stage};
use sim::plan::{SCENARIOS, apart_from_the_mix};

/// Prints them.
pub fn print() {
    println!("Scenarios (--scenario NAME):");
    for scenario in SCENARIOS {
        println!("  {:<19} {}", scenario.name, scenario.about);
    }
    println!("\nFaults of the catalogue that runs inject and check:");
    for entry in CATALOGUE.iter().filter(|entry| entry.stage == Stage::Now) {
        println!("  F{:<3} {}", entry.number, entry.title);
    }
    println!("\nThe same where all sites write one database (--scenario shared-mix):");
    for entry in CATALOGUE.iter().filter(|entry| entry.stage == Stage::Shared) {
        println!("  F{:<3} {}", entry.number, entry.title);
    }
    println!("\nWaiting for the node to meet them:");
    for entry in CATALOGUE {
        let waits = match entry.stage {
            Stage::Now | Stage::Shared => continue,
            Stage::Trust => "verification and repair",
            Stage::Failover => "failover and going back in time",
        };
        match apart_from_the_mix(entry.number) {
            None => println!("  F{:<3} {} ({waits})", entry.number, entry.title),
            Some(scenario) => println!(
                "  F{:<3} {} ({waits}; to be noticed today: --scenario {scenario})",
                entry.number, entry.title
            ),
        }
    }
}
