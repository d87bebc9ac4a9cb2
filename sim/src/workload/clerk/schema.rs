//! The schema of a shared database, small, and how the ledger reads it.

use crate::oracle::ledger::{Kind, Known};

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
CREATE TABLE till (
  name TEXT PRIMARY KEY NOT NULL,
  done INTEGER NOT NULL
);
";

/// The column that counts what every site adds.
pub const COUNTER: (&str, &str) = ("stock.n", "counter");

/// How the ledger reads them.
pub const TABLES: &[Known] = &[
    Known {
        name: "customer",
        select: "SELECT token, name, phone, note FROM customer",
        columns: &[("name", Kind::Plain), ("phone", Kind::Plain), ("note", Kind::Plain)],
    },
    Known {
        name: "stock",
        select: "SELECT sku, title, price, n FROM stock",
        columns: &[("title", Kind::Plain), ("price", Kind::Plain), ("n", Kind::Counter)],
    },
    Known {
        name: "sale",
        select: "SELECT sale.token, customer.token, number, total FROM sale
                 LEFT JOIN customer ON customer.id = sale.customer",
        columns: &[("customer", Kind::Reference), ("number", Kind::Unique), ("total", Kind::Plain)],
    },
    Known {
        name: "line",
        select: "SELECT line.token, sale.token, sku, quantity FROM line
                 LEFT JOIN sale ON sale.id = line.sale",
        columns: &[("sale", Kind::Reference), ("sku", Kind::Reference), ("quantity", Kind::Plain)],
    },
    Known {
        name: "till",
        select: "SELECT name, done FROM till",
        columns: &[("done", Kind::Plain)],
    },
];
