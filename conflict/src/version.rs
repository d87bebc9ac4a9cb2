//! What a value is stamped with: when, and by whom. Not the rules that compare values.

use crate::{SiteId, Timestamp};
use serde::{Deserialize, Serialize};

/// A timestamp and the site that issued it; ordered by timestamp, then by site.
///
/// No two changes of one row share a version, since a site never issues a timestamp twice for
/// the same row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// When the change was made, on the clock of `origin`.
    pub timestamp: Timestamp,
    /// The site at which the change was committed.
    pub origin: SiteId,
}
