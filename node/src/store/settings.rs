//! Single values by name: who this site is, where it listens, what its clock issued last.

use super::{Store, StoreError, fixed, loaded, stored};
use conflict::{SiteId, Timestamp};
use protocol::{GroupId, Name};
use rusqlite::{Connection, OptionalExtension, params};
use std::net::SocketAddr;
use uuid::Uuid;

/// Who this site is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub site: SiteId,
    /// The name that it was made with.
    pub name: Name,
    /// Its group.
    pub group: GroupId,
}

fn get(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT value FROM setting WHERE name = ?")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

fn set(connection: &Connection, name: &str, value: &[u8]) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO setting (name, value) VALUES (?, ?)")?
        .execute(params![name, value])?;
    Ok(())
}

fn text(name: &str, value: Vec<u8>) -> Result<String, StoreError> {
    String::from_utf8(value).map_err(|_| StoreError::Damaged(format!("{name} is not text")))
}

impl Store {
    /// Who this site is; `None` while `init` or `join` has not finished.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let connection = self.connection();
        let (Some(site), Some(name), Some(group)) =
            (get(connection, "site")?, get(connection, "name")?, get(connection, "group")?)
        else {
            return Ok(None);
        };
        Ok(Some(Identity {
            site: SiteId::from_bytes(fixed("site", site)?),
            name: text("name", name)?
                .parse()
                .map_err(|_| StoreError::Damaged("name is not a name".into()))?,
            group: GroupId(Uuid::from_bytes(fixed("group", group)?)),
        }))
    }

    /// Remembers the id under which this site asks to be admitted, so that asking again is asking
    /// for the same.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn set_site(&mut self, site: SiteId) -> Result<(), StoreError> {
        set(self.connection(), "site", site.as_bytes())
    }

    /// The id remembered by [`Store::set_site`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn site(&self) -> Result<Option<SiteId>, StoreError> {
        get(self.connection(), "site")?
            .map(|site| Ok(SiteId::from_bytes(fixed("site", site)?)))
            .transpose()
    }

    /// The greatest timestamp that this site ever issued.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn clock(&self) -> Result<Timestamp, StoreError> {
        let Some(bytes) = get(self.connection(), "clock")? else { return Ok(Timestamp::ZERO) };
        Timestamp::try_from(u64::from_be_bytes(fixed("clock", bytes)?))
            .map_err(|error| StoreError::Damaged(error.to_string()))
    }

    /// Where the site listens.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn listen(&self) -> Result<Option<SocketAddr>, StoreError> {
        get(self.connection(), "listen")?
            .map(|value| {
                text("listen", value)?
                    .parse()
                    .map_err(|_| StoreError::Damaged("listen is not an address".into()))
            })
            .transpose()
    }

    /// How others reach this site as its owner said; empty: by its interfaces.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn addresses(&self) -> Result<Vec<String>, StoreError> {
        Ok(match get(self.connection(), "addresses")? {
            Some(value) => text("addresses", value)?.lines().map(str::to_owned).collect(),
            None => Vec::new(),
        })
    }

    /// When this site's node last ran, by its own clock, in milliseconds since 1970.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn last_run(&self) -> Result<Option<i64>, StoreError> {
        get(self.connection(), "last_run")?
            .map(|bytes| {
                Ok(stored(loaded("last_run", i64::from_be_bytes(fixed("last_run", bytes)?))?))
            })
            .transpose()
    }
}

/// Writes who this site is.
///
/// # Errors
/// See [`StoreError`].
pub fn set_identity(connection: &Connection, identity: &Identity) -> Result<(), StoreError> {
    set(connection, "site", identity.site.as_bytes())?;
    set(connection, "name", identity.name.as_str().as_bytes())?;
    set(connection, "group", identity.group.0.as_bytes())
}

/// Writes where the site listens and how it is reached.
///
/// # Errors
/// See [`StoreError`].
pub fn set_listen(
    connection: &Connection,
    listen: SocketAddr,
    addresses: &[String],
) -> Result<(), StoreError> {
    set(connection, "listen", listen.to_string().as_bytes())?;
    set(connection, "addresses", addresses.join("\n").as_bytes())
}

/// Writes the greatest timestamp issued; in the transaction that uses it.
///
/// # Errors
/// See [`StoreError`].
pub fn set_clock(connection: &Connection, last: Timestamp) -> Result<(), StoreError> {
    set(connection, "clock", &last.as_u64().to_be_bytes())
}

/// Writes when the node ran.
///
/// # Errors
/// See [`StoreError`].
pub fn set_last_run(connection: &Connection, ms: i64) -> Result<(), StoreError> {
    set(connection, "last_run", &ms.to_be_bytes())
}
