//! What a run is to go through: its sites and how they live, and the faults in order. All of it
//! follows from the seed, the scenario, the number of days and of sites. Each fault has a number
//! and dice of its own, so that others can be left out and it stays the same: this is how a
//! failing run is shrunk.

mod class;
mod fault;
mod scenario;

pub use class::Class;
pub use fault::{At, Fault, Old, Step};
pub use scenario::{KINDS, Kind, Life, SCENARIOS, Scenario, apart_from_the_mix};

use crate::random::Random;
use std::collections::BTreeSet;
use std::time::Duration;

/// Seconds in a day.
pub const DAY: Duration = Duration::from_secs(86_400);
/// The world begins at eight; this is how long the shops are open.
pub const OPEN: Duration = Duration::from_secs(12 * 3600);

const MINUTE: Duration = Duration::from_secs(60);

/// The names of sites, in the order in which they join.
const NAMES: [&str; 20] = [
    "downtown", "uptown", "harbour", "airport", "station", "market", "castle", "bridge", "garden",
    "museum", "stadium", "library", "theatre", "hospital", "campus", "village", "forest", "lake",
    "hill", "island",
];

/// What is asked for on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Decides everything.
    pub seed: u64,
    /// The scenario's name.
    pub scenario: &'static str,
    /// Days that the shops are open.
    pub days: u32,
    /// Sites, two at least.
    pub sites: usize,
    /// Faults left out, by number.
    pub without: BTreeSet<usize>,
}

/// What becomes of a PC at night.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Night {
    /// It stays on.
    On,
    /// It is switched off as it should be.
    ShutDown,
    /// Its plug is pulled.
    Plug,
}

/// A fault at its time.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its number in this plan.
    pub number: usize,
    /// When it begins, from the first opening.
    pub at: Duration,
    /// What it is.
    pub fault: Fault,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it was made from.
    pub request: Request,
    /// How the sites live.
    pub life: Life,
    /// The sites' names.
    pub sites: Vec<&'static str>,
    /// What happens, by time.
    pub events: Vec<Event>,
}

impl Plan {
    /// The plan of a request; `None` if there is no such scenario, or not so many sites.
    pub fn new(request: Request) -> Option<Self> {
        let scenario = Scenario::named(request.scenario)?;
        if !(2..=NAMES.len()).contains(&request.sites) || !(1..=1000).contains(&request.days) {
            return None;
        }
        let sites = NAMES[..request.sites].to_vec();
        let mut events = draw(scenario, &request);
        events.retain(|event| !request.without.contains(&event.number));
        events.sort_by_key(|event| (event.at, event.number));
        Some(Self { life: scenario.life, sites, events, request })
    }

    /// The name of a site.
    pub fn name(&self, at: At) -> &'static str {
        self.sites[at.0]
    }

    /// What becomes of a site's PC in the night after that day.
    pub fn night(&self, at: At, day: u32) -> Night {
        match self.dice(&format!("night {day} {}", at.0)).below(10) {
            times if times < self.life.shut_down => Night::ShutDown,
            times if times < self.life.shut_down + self.life.plugged => Night::Plug,
            _ => Night::On,
        }
    }

    /// How long after eight a shop opens, and after closing time it closes.
    pub fn late(&self, at: At, day: u32) -> (Duration, Duration) {
        let mut dice = self.dice(&format!("late {day} {}", at.0));
        let opens = MINUTE * dice.below(20) as u32;
        let opens = match self.life.light {
            // Some open in the afternoon only.
            true => opens + MINUTE * 30 * (at.0 % 16) as u32,
            false if self.is_rush(day) => Duration::ZERO,
            false => opens,
        };
        (opens, MINUTE * dice.below(30) as u32)
    }

    /// Whether all that were off are switched on in the same second that morning (F8).
    pub fn is_rush(&self, day: u32) -> bool {
        let now_and_then =
            || self.request.scenario == "mix" && self.dice(&format!("rush {day}")).below(4) == 0;
        self.life.rush || now_and_then()
    }

    /// Whether all clocks say the same, to the millisecond: so they do in half of the runs in which
    /// sites write one database.
    pub fn clocks_agree(&self) -> bool {
        self.life.shared && self.dice("clocks agree").below(2) == 0
    }

    /// Seconds between two acts of an application, on average.
    pub fn pace(&self) -> u64 {
        match self.life.faults {
            _ if self.life.light => 3 * 3600,
            (0, 0) => 60,
            _ => 60 * (1 + self.dice("pace").below(12)),
        }
    }

    /// Dice of their own for a purpose.
    pub fn dice(&self, label: &str) -> Random {
        Random::new(self.request.seed, label)
    }

    /// A fault as it is told.
    pub fn tell(&self, fault: Fault) -> String {
        let sites: Vec<&str> = fault.sites().into_iter().map(|at| self.name(at)).collect();
        match sites.is_empty() {
            true => fault.to_string(),
            false => format!("{fault}: {}", sites.join(", ")),
        }
    }
}

/// Draws the faults, day by day: a run of fewer days has the same ones as far as it goes.
fn draw(scenario: &Scenario, request: &Request) -> Vec<Event> {
    let Request { seed, days, sites, .. } = *request;
    let mut kinds = scenario.kinds();
    // What may cost a site needs others beside it.
    kinds.retain(|kind| kind.sites <= sites && (sites > 2 || kind.name != "wrong-reads"));
    let weights: u64 = kinds.iter().map(|kind| kind.weight).sum();
    let mut drawn: Vec<Event> = Vec::new();
    if scenario.kinds.contains(&"long-absence") {
        let fault = Fault::Absence(At(1), days.saturating_sub(1).max(1));
        drawn.push(Event { number: 0, at: 3 * 60 * MINUTE, fault });
    }
    for day in 0..days {
        let mut dice = Random::new(seed, &format!("faults of day {day}"));
        let (least, more) = scenario.life.faults;
        for time in 0..least + dice.below(more + 1) {
            let mut dice = Random::new(seed, &format!("fault {day} {time}"));
            let number = (day as usize) * 100 + time as usize + 1;
            let at = DAY * day + MINUTE * (20 + dice.below(9 * 60)) as u32;
            let mut choice = dice.below(weights);
            let kind = kinds.iter().find(|kind| {
                let chosen = choice < kind.weight;
                choice = choice.saturating_sub(kind.weight);
                chosen
            });
            let Some(kind) = kind else { continue };
            let mut places: Vec<At> = (0..sites).map(At).collect();
            for place in 0..kind.sites {
                let other = place + dice.below((sites - place) as u64) as usize;
                places.swap(place, other);
            }
            let mut fault = (kind.draw)(&places[..kind.sites], &mut dice);
            if scenario.life.behind_nat {
                fault = fault.through(At(0));
            }
            let event = Event { number, at, fault };
            if drawn.iter().all(|other| !disturbs(other, &event)) {
                drawn.push(event);
            }
        }
    }
    // Who burns down does so late on the last day, when much is promised already.
    let burns = Random::new(seed, "fire").below(8) == 0 && scenario.name == "mix";
    if (burns || scenario.kinds.contains(&"fire")) && sites > 2 {
        let site = At(Random::new(seed, "who burns").below(sites as u64) as usize);
        let at = DAY * (days - 1) + OPEN + 60 * MINUTE;
        drawn.push(Event { number: days as usize * 100, at, fault: Fault::Burned(site) });
    }
    // Two sites are left at least: one alone can't be safe.
    let mut to_lose = sites - 2;
    drawn.retain(|event| {
        let lost = event.fault.may_cost_a_site();
        if lost && to_lose == 0 {
            return false;
        }
        to_lose -= usize::from(lost);
        true
    });
    drawn
}

/// Whether two faults can't be told apart, or keep each other from happening.
fn disturbs(a: &Event, b: &Event) -> bool {
    let apart = |first: &Event, second: &Event| first.at + first.fault.lasts() <= second.at;
    if apart(a, b) || apart(b, a) {
        return false;
    }
    let (here, there) = (a.fault.sites(), b.fault.sites());
    let both = here.is_empty() || there.is_empty() || here.iter().any(|at| there.contains(at));
    both && match (a.fault.class(), b.fault.class()) {
        (Class::Script, _) | (_, Class::Script) => true,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64, days: u32, without: &[usize]) -> Plan {
        let without = without.iter().copied().collect();
        Plan::new(Request { seed, scenario: "mix", days, sites: 3, without }).unwrap()
    }

    #[test]
    fn fewer_days_and_fewer_faults_leave_the_others_as_they_are() {
        let tell = |plan: &Plan| -> Vec<String> {
            let burned = |event: &&Event| !matches!(event.fault, Fault::Burned(_));
            plan.events.iter().filter(burned).map(|event| format!("{event:?}")).collect()
        };
        for seed in 0..50 {
            let (long, short) = (plan(seed, 5, &[]), plan(seed, 3, &[]));
            let (long, short) = (tell(&long), tell(&short));
            assert!(!short.is_empty());
            assert!(short.iter().all(|event| long.contains(event)), "{short:?} {long:?}");
            let first = plan(seed, 3, &[]).events[0].number;
            let fewer = tell(&plan(seed, 3, &[first]));
            assert_eq!(fewer.len(), short.len() - 1);
        }
    }

    #[test]
    fn every_kind_is_drawn_and_every_scenario_makes_sense() {
        let mut seen = BTreeSet::new();
        for seed in 0..400 {
            seen.extend(plan(seed, 3, &[]).events.iter().map(|event| class_of(event.fault)));
        }
        assert!(seen.len() > 35, "{seen:?}");
        for scenario in SCENARIOS {
            let request = Request {
                seed: 1,
                scenario: scenario.name,
                days: 2,
                sites: 3,
                without: BTreeSet::new(),
            };
            assert!(Plan::new(request.clone()).is_some());
            assert!(Plan::new(Request { sites: 1, ..request }).is_none());
            let known = |name: &&str| {
                KINDS.iter().any(|kind| kind.name == *name)
                    || ["long-absence", "fire"].contains(name)
            };
            assert!(scenario.kinds.iter().all(known), "{}", scenario.name);
        }
    }

    fn class_of(fault: Fault) -> String {
        fault.to_string()
    }
}
