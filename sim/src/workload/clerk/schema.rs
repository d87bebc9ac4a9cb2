//! The schema of a shared database, small, and how the ledger reads it.

use crate::oracle::ledger::{Kind, Known};
use crate::oracle::visible::Shape;

/// The tables. Every row has a token that no other has.
pub const SCHEMA: &str = "
CREATE TABLE customer (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  token TEXT NOT NULL,
  name TEXT NOT NULL,
  phone TEXT,
  note TEXT
);
CREATE TABLE stock (
  sku TEXT PRIMARY KEY NOT NULL,
  title TEXT NOT NULL,
  price TEXT NOT NULL,
  n INTEGER NOT NULL
);
CREATE TABLE sale (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  token TEXT NOT NULL,
  customer INTEGER REFERENCES customer (id) ON DELETE SET NULL,
  number TEXT UNIQUE,
  total TEXT
);
CREATE INDEX sale_customer ON sale (customer);
CREATE TABLE line (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  token TEXT NOT NULL,
  sale INTEGER NOT NULL REFERENCES sale (id) ON DELETE CASCADE,
  sku TEXT NOT NULL REFERENCES stock (sku),
  quantity INTEGER NOT NULL CHECK (quantity > 0)
);
CREATE INDEX line_sale ON line (sale);
CREATE TABLE badge (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  token TEXT NOT NULL,
  code TEXT UNIQUE,
  colour TEXT
);
CREATE TABLE voucher (
  code TEXT PRIMARY KEY NOT NULL,
  owner TEXT NOT NULL,
  worth INTEGER NOT NULL CHECK (worth >= 0)
);
CREATE TABLE oddity (
  id TEXT PRIMARY KEY NOT NULL,
  v
);
CREATE TABLE till (
  name TEXT PRIMARY KEY NOT NULL,
  done INTEGER NOT NULL
);
CREATE TABLE glance (
  by TEXT NOT NULL,
  of TEXT NOT NULL,
  done INTEGER NOT NULL,
  PRIMARY KEY (by, of)
) WITHOUT ROWID;
";

/// The rules that are not the usual ones: what every site adds counts, and an invoice's number does
/// not change twice.
pub const RULES: [(&str, &str); 3] =
    [("stock.n", "counter"), ("voucher.worth", "counter"), ("sale.number", "give-back no")];

/// What the versions of the application after the first do to the schema. Values of these columns
/// are nobody's but the fold's.
pub const UPGRADES: [&str; 4] = [
    "ALTER TABLE customer ADD COLUMN email TEXT",
    "ALTER TABLE customer RENAME COLUMN email TO mail",
    "ALTER TABLE customer ADD COLUMN extra TEXT",
    "ALTER TABLE customer DROP COLUMN extra",
];

/// The same for the oracle: keys, and what holds rows back or marks them.
pub const SHAPES: &[Shape] = &[
    shape("customer", &["id"], &[], &[]),
    shape("stock", &["sku"], &[], &[]),
    shape("sale", &["id"], &["number"], &[("customer", "customer")]),
    shape("line", &["id"], &[], &[("sale", "sale"), ("sku", "stock")]),
    shape("badge", &["id"], &["code"], &[]),
    Shape { at_least: Some(("worth", 0)), ..shape("voucher", &["code"], &[], &[]) },
    shape("oddity", &["id"], &[], &[]),
    shape("till", &["name"], &[], &[]),
    shape("glance", &["by", "of"], &[], &[]),
];

const fn shape(
    table: &'static str,
    key: &'static [&'static str],
    unique: &'static [&'static str],
    parents: &'static [(&'static str, &'static str)],
) -> Shape {
    Shape { table, key, unique, parents, at_least: None }
}

/// How the ledger reads them.
pub const TABLES: &[Known] = &[
    Known {
        name: "customer",
        select: "SELECT token, name, phone, note FROM customer",
        by_key: false,
        columns: &[("name", Kind::Plain), ("phone", Kind::Plain), ("note", Kind::Plain)],
    },
    Known {
        name: "stock",
        select: "SELECT sku, title, price, n FROM stock",
        by_key: true,
        columns: &[("title", Kind::Plain), ("price", Kind::Plain), ("n", Kind::Counter)],
    },
    Known {
        name: "sale",
        select: "SELECT sale.token, customer.token, number, total FROM sale
                 LEFT JOIN customer ON customer.id = sale.customer",
        by_key: false,
        columns: &[("customer", Kind::Reference), ("number", Kind::Unique), ("total", Kind::Plain)],
    },
    Known {
        name: "line",
        select: "SELECT line.token, sale.token, sku, quantity FROM line
                 LEFT JOIN sale ON sale.id = line.sale",
        by_key: false,
        columns: &[("sale", Kind::Reference), ("sku", Kind::Reference), ("quantity", Kind::Plain)],
    },
    Known {
        name: "till",
        select: "SELECT name, done FROM till",
        by_key: true,
        columns: &[("done", Kind::Plain)],
    },
    Known {
        name: "glance",
        select: "SELECT by || '/' || of, done FROM glance",
        by_key: true,
        columns: &[("done", Kind::Plain)],
    },
    Known {
        name: "badge",
        select: "SELECT token, code, colour FROM badge",
        by_key: false,
        columns: &[("code", Kind::Unique), ("colour", Kind::Plain)],
    },
    Known {
        name: "voucher",
        select: "SELECT code, owner, worth FROM voucher",
        by_key: true,
        columns: &[("owner", Kind::Plain), ("worth", Kind::Counter)],
    },
    Known {
        name: "oddity",
        select: "SELECT id, v FROM oddity",
        by_key: true,
        columns: &[("v", Kind::Odd)],
    },
];
