//! node.db.
