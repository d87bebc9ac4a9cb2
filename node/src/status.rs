//! `status`: how safe the data is, as JSON and as people read it.

use crate::engine::{CopyView, DatabaseView, OriginView, View};
use crate::store::DatabaseState;
use crate::store::alarms::Severity;
use crate::store::settings::Identity;
use crate::units::{rfc3339, span};
use conflict::{SiteId, WallTime};
use protocol::{Mode, Sequence};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A connection as `status` tells it.
#[derive(Clone, Debug)]
pub struct Connected {
    /// Where the peer is.
    pub address: String,
    /// The round trip.
    pub rtt_ms: f64,
    /// Bytes sent on this connection.
    pub sent_bytes: u64,
    /// Bytes received on it.
    pub received_bytes: u64,
}

/// What only a running node knows.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// Where it listens.
    pub listen: Option<String>,
    /// Whom it is connected to.
    pub connected: BTreeMap<SiteId, Connected>,
    /// Whom it is trying to reach right now.
    pub connecting: Vec<SiteId>,
}

/// The JSON of `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// This site's name.
    pub site: String,
    /// Its id.
    pub site_id: String,
    /// Its group.
    pub group_id: String,
    /// The program.
    pub version: String,
    /// Whether the node runs.
    pub running: bool,
    /// Where it listens.
    pub listen: Option<String>,
    /// This site's clock against its peers'.
    pub clock: ClockStatus,
    /// Databases.
    pub databases: Vec<DatabaseStatus>,
    /// The other sites.
    pub peers: Vec<PeerStatus>,
    /// What a person must know.
    pub alarms: Vec<AlarmStatus>,
}

/// This site's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClockStatus {
    /// The middle of the peers' clocks less this site's.
    pub offset_ms: i64,
    /// Whether that is little.
    pub ok: bool,
}

/// One database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DatabaseStatus {
    /// Its name.
    pub name: String,
    /// Its id.
    pub database_id: String,
    /// Mirror or shared.
    pub mode: String,
    /// Whose it is; null for a shared one.
    pub site: Option<String>,
    /// Where it lies here; empty for a shared one that no application beside this site writes.
    pub path: String,
    /// Who writes it; null for a shared one.
    pub writer: Option<String>,
    /// Its epoch.
    pub epoch: u64,
    /// This site's sequence (0: it has none), or for a mirror the newest known.
    pub sequence: u64,
    /// For a mirror: what it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied_sequence: Option<u64>,
    /// For a mirror: the time of what it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// For a mirror: how old it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_s: Option<f64>,
    /// Where the first copy is being fetched: how much is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_copy: Option<FirstCopy>,
    /// Changes that are in no batch yet; null for a mirror, and where it can't be told now.
    pub pending_changes: Option<u64>,
    /// Whether everything written here is durable elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safe: Option<bool>,
    /// For a shared one: what the merge decided and nobody has looked at yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<u64>,
    /// For a shared one: rows that the application does not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<u64>,
    /// For a shared one: rows that wait to be written into the application's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwritten: Option<u64>,
    /// For a shared one: rows that wait for another number, since another site's row has theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unnumbered: Option<u64>,
    /// The numbers of its alarms.
    pub alarms: Vec<i64>,
    /// For a shared one: how far the other sites' changes are here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<Vec<OriginStatus>>,
    /// The copies elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<Vec<CopyStatus>>,
}

/// How far a first copy is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FirstCopy {
    /// Chunks here.
    pub chunks: u32,
    /// Chunks in all; 0: not known yet.
    pub of: u32,
}

/// How far another site's changes of a shared database are here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OriginStatus {
    /// The site.
    pub site: String,
    /// The newest that is here.
    pub sequence: u64,
    /// What of it is merged.
    pub applied_sequence: u64,
}

/// One copy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyStatus {
    /// Where.
    pub site: String,
    /// Its watermark.
    pub durable_sequence: u64,
    /// What it shows.
    pub applied_sequence: u64,
    /// The time of what it shows; null: nothing.
    pub as_of: Option<String>,
    /// How long it has lacked something; 0: nothing.
    pub behind_s: f64,
}

/// One peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub site: String,
    /// Its id.
    pub site_id: String,
    /// `connected`, `connecting`, `offline` or `removed`.
    pub state: String,
    /// Where it is, or was last.
    pub address: Option<String>,
    /// The round trip, if it is connected.
    pub rtt_ms: Option<f64>,
    /// Bytes sent to it, ever.
    pub sent_bytes: u64,
    /// Bytes received from it, ever.
    pub received_bytes: u64,
    /// When it was heard of last.
    pub last_seen: Option<String>,
    /// Its clock less this site's.
    pub clock_offset_ms: Option<i64>,
}

/// One alarm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlarmStatus {
    /// Its number.
    pub id: i64,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
    /// Since when.
    pub since: String,
    /// `NAME@SITE`, or the name of a shared one.
    pub database: Option<String>,
}

/// A clock that differs by more from its peers' is worth a word.
const CLOCK_TOLERANCE_MS: u64 = 60_000;

impl Status {
    /// Puts together what the engine sees and what a running node knows.
    pub fn new(identity: &Identity, view: &View, live: Option<&Live>) -> Self {
        let connected = |site: SiteId| live.and_then(|live| live.connected.get(&site));
        let offset = median(view.peers.iter().filter_map(|peer| peer.clock_offset_ms).collect());
        Self {
            site: identity.name.to_string(),
            site_id: identity.site.to_string(),
            group_id: identity.group.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running: live.is_some(),
            listen: live.and_then(|live| live.listen.clone()),
            clock: ClockStatus {
                offset_ms: offset,
                ok: offset.unsigned_abs() <= CLOCK_TOLERANCE_MS,
            },
            databases: view
                .databases
                .iter()
                .map(|database| {
                    DatabaseStatus::new(database, view, connected(database.row.site).is_some())
                })
                .collect(),
            peers: view
                .members
                .iter()
                .map(|member| {
                    let row = view.peers.iter().find(|peer| peer.site == member.site);
                    let now = connected(member.site);
                    let connecting =
                        live.is_some_and(|live| live.connecting.contains(&member.site));
                    PeerStatus {
                        site: member.name.to_string(),
                        site_id: member.site.to_string(),
                        state: match (member.removed, now.is_some(), connecting) {
                            (true, _, _) => "removed",
                            (false, true, _) => "connected",
                            (false, false, true) => "connecting",
                            (false, false, false) => "offline",
                        }
                        .to_owned(),
                        address: now
                            .map(|now| now.address.clone())
                            .or_else(|| row.and_then(|row| row.address.clone())),
                        rtt_ms: now.map(|now| (now.rtt_ms * 10.0).round() / 10.0),
                        sent_bytes: row.map_or(0, |row| row.sent_bytes)
                            + now.map_or(0, |now| now.sent_bytes),
                        received_bytes: row.map_or(0, |row| row.received_bytes)
                            + now.map_or(0, |now| now.received_bytes),
                        last_seen: match now {
                            Some(_) => Some(rfc3339(view.now)),
                            None => row.map(|row| rfc3339(row.last_seen)),
                        },
                        clock_offset_ms: row.and_then(|row| row.clock_offset_ms),
                    }
                })
                .collect(),
            alarms: view
                .alarms
                .iter()
                .map(|alarm| AlarmStatus {
                    id: alarm.id,
                    severity: match alarm.severity {
                        Severity::Info => "info",
                        Severity::Warning => "warning",
                        Severity::Critical => "critical",
                    }
                    .to_owned(),
                    what: alarm.what.clone(),
                    remedy: alarm.remedy.clone(),
                    since: rfc3339(alarm.since),
                    database: alarm.database.and_then(|number| {
                        let view = view.databases.iter().find(|d| d.row.number == number)?;
                        Some(match view.shared {
                            Some(_) => view.row.name.to_string(),
                            None => format!("{}@{}", view.row.name, view.site),
                        })
                    }),
                })
                .collect(),
        }
    }

    /// The answer of `--check`: everything written here is safe and no alarm stands.
    pub fn good(&self) -> bool {
        self.databases.iter().all(|database| database.safe != Some(false))
            && self.alarms.iter().all(|alarm| alarm.severity == "info")
    }
}

impl DatabaseStatus {
    fn new(view: &DatabaseView, all: &View, origin_connected: bool) -> Self {
        let own = view.row.state == DatabaseState::Attached;
        let shared = view.shared.as_ref();
        let mirror = !own && shared.is_none();
        let site = shared.is_none().then(|| view.site.clone());
        Self {
            name: view.row.name.to_string(),
            database_id: view.row.id.to_string(),
            mode: match view.row.mode {
                Mode::Mirror => "mirror",
                Mode::Shared => "shared",
            }
            .to_owned(),
            site: site.clone(),
            path: if own || mirror { view.row.path.display().to_string() } else { String::new() },
            writer: site,
            epoch: view.epoch.0,
            sequence: view.sequence.0,
            applied_sequence: mirror.then_some(view.applied.0),
            as_of: (mirror && view.applied > Sequence::ZERO).then(|| rfc3339(view.as_of)),
            behind_s: mirror.then(|| mirror_age(view, all, origin_connected)),
            first_copy: view.base.map(|(chunks, of)| FirstCopy { chunks, of }),
            pending_changes: view.pending,
            safe: own.then(|| view.safe()),
            conflicts: shared.map(|shared| shared.conflicts),
            parked: shared.map(|shared| shared.parked),
            unwritten: shared.map(|shared| shared.unwritten),
            unnumbered: shared.map(|shared| shared.unnumbered),
            origins: shared.map(|shared| {
                let origin = |origin: &OriginView| OriginStatus {
                    site: origin.name.clone(),
                    sequence: origin.sequence.0,
                    applied_sequence: origin.applied.0,
                };
                shared.origins.iter().map(origin).collect()
            }),
            alarms: all
                .alarms
                .iter()
                .filter(|alarm| alarm.database == Some(view.row.number))
                .map(|alarm| alarm.id)
                .collect(),
            copies: own
                .then(|| view.copies.iter().map(|copy| CopyStatus::new(copy, all.now)).collect()),
        }
    }
}

impl CopyStatus {
    fn new(view: &CopyView, now: WallTime) -> Self {
        Self {
            site: view.name.clone(),
            durable_sequence: view.durable.0,
            applied_sequence: view.applied.0,
            as_of: (view.applied > Sequence::ZERO).then(|| rfc3339(view.as_of)),
            behind_s: view.lacks_since.map_or(0.0, |since| now.seconds_since(since).max(0.0)),
        }
    }
}

/// How old a mirror may be: nothing while its origin is connected and all that it sent is
/// applied; else since the origin was heard of last, or since what was applied.
fn mirror_age(view: &DatabaseView, all: &View, origin_connected: bool) -> f64 {
    let whole = view.applied >= view.sequence && view.base.is_none();
    if whole && origin_connected {
        return 0.0;
    }
    let seen = all.peers.iter().find(|peer| peer.site == view.row.site).map(|peer| peer.last_seen);
    let since = match (whole, seen) {
        (true, Some(seen)) => seen.max(view.as_of),
        _ => view.as_of,
    };
    if since.0 == 0 { 0.0 } else { all.now.seconds_since(since).max(0.0) }
}

fn median(mut numbers: Vec<i64>) -> i64 {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied().unwrap_or(0)
}

/// What `status` prints for people.
pub fn render(status: &Status) -> String {
    let mut text = String::new();
    let state = match &status.listen {
        Some(listen) => format!("running, listening on {listen}"),
        None if status.running => "running".to_owned(),
        None => "not running".to_owned(),
    };
    // Writing to a String can't fail.
    let _ = writeln!(text, "site {} ({state})", status.site);
    if !status.clock.ok {
        let _ = writeln!(
            text,
            "  its clock differs from the others' by {}",
            span(status.clock.offset_ms.unsigned_abs() as f64 / 1000.0)
        );
    }
    for database in &status.databases {
        render_database(&mut text, database);
    }
    if status.databases.is_empty() {
        let _ = writeln!(text, "\nno database yet: put one under sync with `attach NAME PATH`");
    }
    if !status.peers.is_empty() {
        let _ = writeln!(text, "\nother sites");
    }
    for peer in &status.peers {
        let detail = match (&peer.state[..], peer.rtt_ms, &peer.last_seen) {
            ("connected", Some(rtt), _) => {
                format!("{} ({rtt} ms)", peer.address.as_deref().unwrap_or("?"))
            }
            (_, _, Some(seen)) => format!("last seen {seen}"),
            _ => "never seen".to_owned(),
        };
        let _ = writeln!(text, "  {:<16} {:<11} {detail}", peer.site, peer.state);
    }
    for alarm in &status.alarms {
        let _ = writeln!(text, "\n{} (since {})", alarm.severity.to_uppercase(), alarm.since);
        let _ = writeln!(text, "  {}\n  {}", alarm.what, alarm.remedy);
    }
    text
}

fn render_database(text: &mut String, database: &DatabaseStatus) {
    let site = database.site.as_deref().unwrap_or("all");
    let _ = writeln!(text);
    match (&database.copies, database.safe) {
        (Some(copies), safe) => {
            let pending = match database.pending_changes {
                Some(0) => "nothing pending".to_owned(),
                Some(1) => "1 change pending".to_owned(),
                Some(count) => format!("{count} changes pending"),
                None => "what is pending can't be told now".to_owned(),
            };
            let shared = if database.origins.is_some() { "  shared" } else { "" };
            let verdict = if safe == Some(true) { "SAFE" } else { "NOT SAFE" };
            let _ = writeln!(
                text,
                "{}  {verdict}{shared}  batch {}, {pending}\n  {}",
                database.name, database.sequence, database.path
            );
            if copies.is_empty() {
                let _ = writeln!(text, "  no other site yet: let one join with `invite`");
            }
            for copy in copies {
                let lag = if copy.durable_sequence == 0 {
                    "has nothing yet".to_owned()
                } else if copy.durable_sequence >= database.sequence && copy.behind_s == 0.0 {
                    "has everything".to_owned()
                } else if copy.durable_sequence >= database.sequence {
                    "holds everything, still applying".to_owned()
                } else {
                    format!(
                        "holds batch {}, behind for {}",
                        copy.durable_sequence,
                        span(copy.behind_s)
                    )
                };
                let _ = writeln!(text, "  copy at {:<14} {lag}", copy.site);
            }
            render_origins(text, database);
        }
        (None, _) if database.origins.is_some() => {
            let _ = writeln!(
                text,
                "{}  shared  its batches are kept here{}; `attach` makes a database of them",
                database.name,
                match &database.first_copy {
                    Some(first) if first.of > 0 => {
                        format!(", first copy coming: {} of {} parts", first.chunks, first.of)
                    }
                    Some(_) => ", first copy not begun".to_owned(),
                    None => String::new(),
                }
            );
            render_origins(text, database);
        }
        (None, _) => {
            let shown = database.applied_sequence.unwrap_or(0);
            let age = match (&database.first_copy, &database.as_of) {
                (Some(first), _) if first.of > 0 => {
                    format!("first copy coming: {} of {} parts", first.chunks, first.of)
                }
                (Some(_), _) => "first copy not begun".to_owned(),
                (None, Some(as_of)) => {
                    let behind = database.behind_s.unwrap_or(0.0);
                    if behind > 0.0 {
                        format!("as of {as_of}, perhaps {} old", span(behind))
                    } else {
                        format!("as of {as_of}, up to date")
                    }
                }
                (None, None) => "empty".to_owned(),
            };
            let _ = writeln!(
                text,
                "{}@{site}  mirror  batch {shown} of {}, {age}\n  {}",
                database.name, database.sequence, database.path
            );
        }
    }
}

/// What there is to say of a shared database only.
fn render_origins(text: &mut String, database: &DatabaseStatus) {
    // One that is only kept here is not merged.
    let merged = database.copies.is_some();
    for origin in database.origins.iter().flatten() {
        let state = match origin.sequence - origin.applied_sequence.min(origin.sequence) {
            _ if !merged => format!("batch {}", origin.sequence),
            0 => format!("batch {}, all merged", origin.sequence),
            waiting => format!("batch {}, {waiting} not merged yet", origin.sequence),
        };
        let _ = writeln!(text, "  from {:<17} {state}", origin.site);
    }
    let conflicts = database.conflicts.unwrap_or(0);
    if conflicts > 0 {
        let _ = writeln!(text, "  {conflicts} to look at with `conflicts`");
    }
    for (count, what) in [
        (database.parked, "held back from the application"),
        (database.unnumbered, "to be given another number"),
        (database.unwritten, "to be written into the application's file"),
    ] {
        match count.unwrap_or(0) {
            0 => {}
            1 => drop(writeln!(text, "  1 row {what}")),
            count => drop(writeln!(text, "  {count} rows {what}")),
        }
    }
}
