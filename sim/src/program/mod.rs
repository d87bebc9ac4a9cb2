//! The program around the simulator: one run told aloud, swarms, shrinking. What a run does is the
//! library's.

#[cfg(feature = "breakages")]
pub mod breakages;
pub mod child;
pub mod list;
pub mod regressions;
pub mod run;
pub mod shrink;
pub mod swarm;

use clap::Args;
use sim::plan::Request;
use std::collections::BTreeSet;

/// Which run.
#[derive(Args, Clone, Debug)]
pub struct Which {
    /// Decides everything that the other options leave open
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What the run is about: `--list` names all
    #[arg(long, default_value = "mix")]
    pub scenario: String,
    /// Days that the shops are open
    #[arg(long, default_value_t = 3)]
    pub days: u32,
    /// Sites
    #[arg(long, default_value_t = 3)]
    pub sites: usize,
    /// Faults to leave out, by their numbers in the run's own story
    #[arg(long, value_delimiter = ',')]
    pub without: Vec<usize>,
    /// A deliberate defect in the node, which the run is to find (builds with `breakages` only)
    #[arg(long)]
    pub breakage: Option<String>,
}

impl Which {
    /// The request, or what is wrong with it.
    pub fn request(&self) -> Result<Request, String> {
        let scenario = sim::plan::Scenario::named(&self.scenario).ok_or_else(|| {
            format!("There is no scenario {:?}; --list names all.", self.scenario)
        })?;
        if self.breakage.is_some() && !cfg!(feature = "breakages") {
            return Err("This build has no defects to choose from: --features breakages.".into());
        }
        // What costs a site leaves two others.
        if ["fire", "disk-lost", "cloned"].contains(&scenario.name) && self.sites < 3 {
            return Err(format!("The scenario {} needs three sites at least.", scenario.name));
        }
        let request = Request {
            seed: self.seed,
            scenario: scenario.name,
            days: self.days,
            sites: self.sites,
            without: self.without.iter().copied().collect(),
        };
        match sim::plan::Plan::new(request.clone()) {
            Some(_) => Ok(request),
            None => Err("A run has 2 to 20 sites and 1 to 1000 days.".into()),
        }
    }
}

/// The options that ask for a request again.
pub fn options(request: &Request, breakage: Option<&str>) -> Vec<String> {
    let mut options = vec!["--seed".to_owned(), request.seed.to_string()];
    let mut add = |name: &str, value: String| options.extend([name.to_owned(), value]);
    if request.scenario != "mix" {
        add("--scenario", request.scenario.to_owned());
    }
    if request.days != 3 {
        add("--days", request.days.to_string());
    }
    if request.sites != 3 {
        add("--sites", request.sites.to_string());
    }
    if !request.without.is_empty() {
        add("--without", listed(&request.without));
    }
    if let Some(breakage) = breakage {
        add("--breakage", breakage.to_owned());
    }
    options
}

/// The command that repeats a run.
pub fn command(request: &Request, breakage: Option<&str>) -> String {
    let features = if breakage.is_some() { " --features breakages" } else { "" };
    format!("cargo run --release -p sim{features} -- {}", options(request, breakage).join(" "))
}

fn listed(numbers: &BTreeSet<usize>) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
