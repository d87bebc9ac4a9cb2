//! The rules by their words: what can be chosen for a table or a column. Not which are in force.

use conflict::SiteId;
use uuid::Uuid;

/// What a choice is about: of each there is one for a table or column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// How changes that meet are decided.
    Rule,
    /// Whether one key made at two sites is one row or two.
    SameKey,
    /// What becomes of a deleted parent that a row still refers to.
    ForeignKeys,
    /// Whether the application's triggers run when changes of others are written.
    Triggers,
    /// Whether a marked value returns when it is free again.
    GiveBack,
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The latest value, column by column: the default.
    LastWriter,
    /// What was added counts, wherever it was added.
    Counter,
    /// The first value that is not NULL.
    FirstWriter,
    /// The values of this site win.
    SitePriority(SiteId),
    /// Stays where it is written.
    Local,
    /// Rows are only ever inserted.
    AppendOnly,
    /// An edit carries all columns.
    WholeRow,
    /// One key means one row.
    Merge,
    /// One key made at two sites is two rows.
    Collide,
    /// A deleted parent stays while a row needs it: the default.
    KeepParent,
    /// A row whose parent was deleted is parked.
    ParkChild,
    /// Triggers don't run for changes of others: the default.
    Silent,
    /// Triggers run for changes of others too.
    Run,
    /// A marked value returns when it is free: the default.
    GiveBack,
    /// A mark stays.
    KeepMark,
}

/// Where a choice can be made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Table,
    Column,
    Both,
}

const SITE_PRIORITY: &str = "site-priority";

const WORDS: [(Setting, &str, Choice, Place); 14] = [
    (Setting::Rule, "last-writer", Choice::LastWriter, Place::Both),
    (Setting::Rule, "counter", Choice::Counter, Place::Column),
    (Setting::Rule, "first-writer", Choice::FirstWriter, Place::Column),
    (Setting::Rule, "local", Choice::Local, Place::Both),
    (Setting::Rule, "append-only", Choice::AppendOnly, Place::Table),
    (Setting::Rule, "whole-row", Choice::WholeRow, Place::Table),
    (Setting::SameKey, "merge", Choice::Merge, Place::Table),
    (Setting::SameKey, "collide", Choice::Collide, Place::Table),
    (Setting::ForeignKeys, "keep-parent", Choice::KeepParent, Place::Table),
    (Setting::ForeignKeys, "park-child", Choice::ParkChild, Place::Table),
    (Setting::Triggers, "silent", Choice::Silent, Place::Table),
    (Setting::Triggers, "run", Choice::Run, Place::Table),
    (Setting::GiveBack, "yes", Choice::GiveBack, Place::Both),
    (Setting::GiveBack, "no", Choice::KeepMark, Place::Both),
];

impl Setting {
    /// Its name in an entry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::SameKey => "same-key",
            Self::ForeignKeys => "foreign-keys",
            Self::Triggers => "triggers",
            Self::GiveBack => "give-back",
        }
    }
}

impl Choice {
    /// What it is about.
    pub fn setting(self) -> Setting {
        self.words().map_or(Setting::Rule, |(setting, ..)| *setting)
    }

    /// Its value in an entry.
    pub fn value(self) -> String {
        match self {
            Self::SitePriority(site) => format!("{SITE_PRIORITY} {site}"),
            _ => self.words().map_or_else(String::new, |(_, value, ..)| (*value).to_owned()),
        }
    }

    /// Reads an entry; `None`: a newer version wrote it.
    pub fn read(setting: &str, value: &str) -> Option<Self> {
        let known = WORDS.iter().find(|(of, word, ..)| of.as_str() == setting && *word == value);
        if let Some((_, _, choice, _)) = known {
            return Some(*choice);
        }
        let site = value.strip_prefix(SITE_PRIORITY)?.strip_prefix(' ')?;
        (setting == Setting::Rule.as_str())
            .then(|| Uuid::parse_str(site).ok().map(|id| Self::SitePriority(SiteId::new(id))))
            .flatten()
    }

    /// Reads a rule as people write it. `Err`: the words that come nearest.
    ///
    /// # Errors
    /// There is no such rule, or no such site.
    pub fn parse(words: &str, sites: &[(String, SiteId)]) -> Result<Self, String> {
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        if let Some(site) = words.strip_prefix(SITE_PRIORITY) {
            let site = site.trim_start();
            let by_name = sites.iter().find(|(name, _)| name == site).map(|(_, id)| *id);
            let known = by_name.or_else(|| {
                let id = SiteId::new(Uuid::parse_str(site).ok()?);
                sites.iter().any(|(_, known)| *known == id).then_some(id)
            });
            let nearest = || nearest(site, sites.iter().map(|(name, _)| name.as_str()));
            return known
                .map(Self::SitePriority)
                .ok_or_else(|| format!("{SITE_PRIORITY} {}", nearest().unwrap_or("SITE")));
        }
        let all: Vec<String> = WORDS.iter().map(|row| spelled(row.0, row.1)).collect();
        let found = all.iter().zip(&WORDS).find(|(spelled, _)| **spelled == words);
        found.map(|(_, row)| row.2).ok_or_else(|| {
            let all = all.iter().map(String::as_str);
            nearest(&words, all.chain([SITE_PRIORITY])).unwrap_or_default().to_owned()
        })
    }

    /// As people write it.
    pub fn spelled(self, site_name: impl Fn(SiteId) -> String) -> String {
        match self {
            Self::SitePriority(site) => format!("{SITE_PRIORITY} {}", site_name(site)),
            _ => self.words().map_or_else(String::new, |row| spelled(row.0, row.1)),
        }
    }

    /// Whether it can be chosen for a column, or for a table as a whole.
    pub fn fits(self, column: bool) -> bool {
        let place = self.words().map_or(Place::Column, |row| row.3);
        place == Place::Both || (place == Place::Column) == column
    }

    /// Whether it is what holds where nothing was chosen.
    pub fn is_default(self) -> bool {
        matches!(self, Self::LastWriter | Self::KeepParent | Self::Silent | Self::GiveBack)
    }

    fn words(self) -> Option<&'static (Setting, &'static str, Self, Place)> {
        WORDS.iter().find(|(.., choice, _)| *choice == self)
    }
}

fn spelled(setting: Setting, value: &str) -> String {
    match setting {
        Setting::Rule => value.to_owned(),
        _ => format!("{} {value}", setting.as_str()),
    }
}

/// The word that is most like another.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_ascii_lowercase();
    known.min_by_key(|known| strsim::levenshtein(&known.to_ascii_lowercase(), &word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_read_as_it_is_written() {
        let site = SiteId::from_bytes([7; 16]);
        let sites = [("uptown".to_owned(), site)];
        let all = WORDS.iter().map(|row| row.2).chain([Choice::SitePriority(site)]);
        for choice in all {
            let spelled = choice.spelled(|_| "uptown".into());
            assert_eq!(Choice::parse(&spelled, &sites), Ok(choice), "{spelled}");
            assert_eq!(Choice::read(choice.setting().as_str(), &choice.value()), Some(choice));
        }
        let by_id = format!("site-priority {site}");
        assert_eq!(Choice::parse(&by_id, &sites), Ok(Choice::SitePriority(site)));
        assert_eq!(Choice::parse(" Same-Key   COLLIDE ", &[]), Ok(Choice::Collide));
    }

    #[test]
    fn the_nearest_rule_is_named() {
        let sites = [("uptown".to_owned(), SiteId::from_bytes([7; 16]))];
        let nearest = |word| Choice::parse(word, &sites).unwrap_err();
        assert_eq!(nearest("conter"), "counter");
        assert_eq!(nearest("samekey merge"), "same-key merge");
        assert_eq!(nearest("site-priority uptwn"), "site-priority uptown");
        assert_eq!(nearest("site-prio"), "site-priority");
        assert_eq!(Choice::read("rule", "newer-than-this"), None);
        assert_eq!(Choice::read("same-key", "counter"), None);
    }
}
