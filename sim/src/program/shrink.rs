//! A failing run made smaller: fewer days, fewer sites, fewer faults, as long as the same check
//! fails.

use super::{Which, child};
use sim::plan::{Plan, Request};

/// Shrinks it, telling each step; the smallest found, or why there is none.
pub fn run(which: &Which) -> Result<Request, String> {
    let breakage = which.breakage.as_deref();
    let mut smallest = which.request()?;
    let check = check(&smallest, breakage)?
        .ok_or_else(|| format!("Nothing breaks under seed {}.", smallest.seed))?;
    println!("To be kept: {check}");
    let attempt = |what: String, candidate: Request, smallest: &mut Request| {
        let kept = self::check(&candidate, breakage)?.as_deref() == Some(check.as_str());
        println!("{} {what}", if kept { "without:" } else { "  needs:" });
        if kept {
            *smallest = candidate;
        }
        Ok::<bool, String>(kept)
    };
    while smallest.sites > 2 {
        let sites = smallest.sites - 1;
        let candidate = Request { sites, ..smallest.clone() };
        if !attempt(format!("the site number {}", sites + 1), candidate, &mut smallest)? {
            break;
        }
    }
    while smallest.days > 1 {
        let days = smallest.days - 1;
        let candidate = Request { days, ..smallest.clone() };
        if !attempt(format!("day {}", days + 1), candidate, &mut smallest)? {
            break;
        }
    }
    let plan = Plan::new(smallest.clone()).ok_or("The plan can't be made.")?;
    for event in plan.events.iter().rev() {
        let mut candidate = smallest.clone();
        candidate.without.insert(event.number);
        let what = format!("fault {} ({})", event.number, plan.tell(event.fault));
        attempt(what, candidate, &mut smallest)?;
    }
    println!("\nThe smallest:\n  {}", super::command(&smallest, breakage));
    Ok(smallest)
}

/// The check that a run fails.
fn check(request: &Request, breakage: Option<&str>) -> Result<Option<String>, String> {
    let outcome = child::run(request, breakage).map_err(|error| error.to_string())?;
    Ok(outcome.failure.map(|failure| failure.check))
}
