//! Draws a run as one HTML file that needs nothing else: a lane a site (on, node down, off), what
//! flowed between them, the faults, and how far each copy was behind. Hovering tells more.

use crate::chronicle::{Chronicle, Condition, clock};
use crate::outcome::{Outcome, table};
use crate::plan::{Plan, Request};
use std::fmt::Write as _;
use std::time::Duration;

/// Pixels.
const LEFT: f64 = 110.0;
const WIDTH: f64 = 1500.0;
const TOP: f64 = 40.0;
const LANE: f64 = 120.0;
const BAR: f64 = 22.0;
const CHART: f64 = 50.0;

/// The hues of the sites, in degrees.
fn hue(site: usize) -> usize {
    (205 + site * 137) % 360
}

/// Draws it.
pub fn draw(request: &Request, chronicle: &Chronicle, outcome: &Outcome) -> String {
    let sites = Plan::new(request.clone()).map(|plan| plan.sites).unwrap_or_default();
    let sheet = Sheet { sites, end: chronicle.end.max(Duration::from_secs(1)), chronicle };
    let mut page = String::new();
    let broken = outcome.failure.as_ref().map(ToString::to_string);
    let verdict = broken.as_deref().unwrap_or("nothing broke");
    let _ = write!(
        page,
        "<!doctype html><meta charset=utf-8><title>seed {seed}</title><style>{STYLE}</style>\
         <h1>{scenario}, seed {seed}</h1><pre class=verdict>{verdict}</pre>",
        seed = request.seed,
        scenario = request.scenario,
        verdict = escaped(verdict),
    );
    let height = TOP + LANE * sheet.sites.len() as f64 + 20.0;
    let _ = write!(
        page,
        "<svg viewBox='0 0 {} {height}' width='{}' height='{height}'>",
        LEFT + WIDTH + 20.0,
        LEFT + WIDTH + 20.0
    );
    sheet.days(&mut page, height);
    sheet.lanes(&mut page);
    sheet.flows(&mut page);
    sheet.behind(&mut page);
    sheet.faults(&mut page);
    page.push_str("</svg><p>");
    for (place, site) in sheet.sites.iter().enumerate() {
        let _ = write!(page, "<span style='color:hsl({},70%,40%)'>■ {site}</span> ", hue(place));
    }
    page.push_str(
        "Bars: green on, amber the node is down, grey off. Lines between lanes: batches, in the \
         colour of their origin. Curves: commits that a site's copies lack, on a logarithmic \
         scale, in the colour of the original. Red: faults.</p><h2>Faults that fired</h2><pre>",
    );
    page.push_str(&escaped(&table(&outcome.fired)));
    page.push_str("</pre><h2>Story</h2><pre>");
    for entry in &chronicle.entries {
        let _ = writeln!(page, "{}  {}", clock(entry.at), escaped(&entry.text));
    }
    page.push_str("</pre>");
    page
}

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:24px;color:#222}\
    h1{font-size:20px}h2{font-size:16px}svg{background:#fafafa;display:block;max-width:100%;height:auto}\
    pre{font:12px ui-monospace,monospace}.verdict{white-space:pre-wrap}\
    text{font:12px system-ui,sans-serif;fill:#444}\
    @media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}svg{background:#1e2126}\
    text{fill:#bbb}}";

struct Sheet<'a> {
    sites: Vec<&'static str>,
    end: Duration,
    chronicle: &'a Chronicle,
}

impl Sheet<'_> {
    fn x(&self, at: Duration) -> f64 {
        LEFT + WIDTH * at.as_secs_f64() / self.end.as_secs_f64()
    }

    /// The top of a lane.
    fn y(&self, site: usize) -> f64 {
        TOP + LANE * site as f64
    }

    fn days(&self, page: &mut String, height: f64) {
        // Midnights; the world begins at eight.
        let mut midnight = Duration::from_secs(16 * 3600);
        let mut day = 2;
        let _ = write!(page, "<text x='{LEFT}' y='20'>day 1, 08:00</text>");
        while midnight < self.end {
            let x = self.x(midnight);
            let _ = write!(
                page,
                "<line x1='{x:.1}' x2='{x:.1}' y1='26' y2='{height}' stroke='#9995' \
                 stroke-dasharray='3 3'/><text x='{:.1}' y='20'>day {day}</text>",
                x + 3.0
            );
            midnight += Duration::from_secs(86_400);
            day += 1;
        }
    }

    fn lanes(&self, page: &mut String) {
        for (place, site) in self.sites.iter().enumerate() {
            let y = self.y(place);
            let _ = write!(
                page,
                "<text x='8' y='{:.1}' style='fill:hsl({},70%,40%);font-weight:600'>{site}</text>",
                y + 16.0,
                hue(place)
            );
            let own = self.chronicle.conditions.iter().filter(|(_, at, _)| *at == place);
            let own: Vec<_> = own.collect();
            for (number, (from, _, condition)) in own.iter().enumerate() {
                let until = own.get(number + 1).map_or(self.end, |(at, ..)| *at);
                let (colour, word) = match condition {
                    Condition::On => ("#4caf6d", "on"),
                    Condition::NodeDown => ("#e0a030", "node down"),
                    Condition::Off => ("#9e9e9e66", "off"),
                };
                let _ = write!(
                    page,
                    "<rect x='{:.1}' y='{y:.1}' width='{:.2}' height='{BAR}' fill='{colour}'>\
                     <title>{site} {word}: {} to {}</title></rect>",
                    self.x(*from),
                    (self.x(until) - self.x(*from)).max(0.6),
                    clock(*from),
                    clock(until),
                );
            }
        }
    }

    fn flows(&self, page: &mut String) {
        for flow in &self.chronicle.flows {
            let (from, to) = (self.y(flow.from) + BAR / 2.0, self.y(flow.to) + BAR / 2.0);
            let x = self.x(flow.at);
            let _ = write!(
                page,
                "<line x1='{:.1}' y1='{from:.1}' x2='{x:.1}' y2='{to:.1}' \
                 stroke='hsl({},70%,45%)' stroke-width='{:.1}' stroke-opacity='.35'>\
                 <title>{}: {} batches of {} reach {}</title></line>",
                x - 4.0,
                hue(flow.from),
                (flow.batches as f64).ln_1p().clamp(0.5, 4.0),
                clock(flow.at),
                flow.batches,
                self.sites.get(flow.from).unwrap_or(&"?"),
                self.sites.get(flow.to).unwrap_or(&"?"),
            );
        }
    }

    fn behind(&self, page: &mut String) {
        let most = self.chronicle.behind.iter().map(|behind| behind.commits).max().unwrap_or(0);
        let scale = (most as f64).ln_1p().max(1.0);
        for site in 0..self.sites.len() {
            let bottom = self.y(site) + BAR + CHART + 14.0;
            let _ = write!(
                page,
                "<line x1='{LEFT}' x2='{:.1}' y1='{bottom:.1}' y2='{bottom:.1}' stroke='#9996'/>\
                 <text x='8' y='{:.1}'>lacks</text>",
                LEFT + WIDTH,
                bottom - 4.0
            );
            for origin in 0..self.sites.len() {
                let mut points = String::new();
                let own = |behind: &&crate::chronicle::Behind| {
                    behind.site == site && behind.origin == origin
                };
                for behind in self.chronicle.behind.iter().filter(own) {
                    let height = (behind.commits as f64).ln_1p() / scale * CHART;
                    let _ = write!(points, "{:.1},{:.1} ", self.x(behind.at), bottom - height);
                }
                if !points.is_empty() {
                    let _ = write!(
                        page,
                        "<polyline points='{points}' fill='none' stroke='hsl({},70%,45%)' \
                         stroke-width='1.3'/>",
                        hue(origin)
                    );
                }
            }
        }
    }

    fn faults(&self, page: &mut String) {
        for span in &self.chronicle.spans {
            let until = span.until.unwrap_or(self.end);
            let (x, width) = (self.x(span.from), (self.x(until) - self.x(span.from)).max(2.0));
            let all: Vec<usize> = match span.sites.is_empty() {
                true => (0..self.sites.len()).collect(),
                false => span.sites.clone(),
            };
            for site in all {
                let y = self.y(site) - 4.0;
                let _ = write!(
                    page,
                    "<rect x='{x:.1}' y='{y:.1}' width='{width:.1}' height='{:.1}' fill='#d3303022' \
                     stroke='#d33030' stroke-width='.8'><title>{}: {}\n{} to {}</title></rect>\
                     <text x='{x:.1}' y='{:.1}' style='font-size:9px;fill:#d33030'>{}</text>",
                    BAR + 8.0,
                    span.number,
                    escaped(&span.what),
                    clock(span.from),
                    clock(until),
                    y - 2.0,
                    span.number,
                );
            }
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
