//! The till's schema: small, and of each kind something.

/// The tables, with what is around them.
pub const SCHEMA: &str = "
CREATE TABLE products (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sku TEXT NOT NULL UNIQUE,
  barcode TEXT COLLATE NOCASE,
  name TEXT NOT NULL,
  cents INTEGER NOT NULL CHECK (cents >= 0),
  weight REAL,
  picture BLOB,
  label TEXT GENERATED ALWAYS AS (sku || ': ' || name) VIRTUAL,
  gross INTEGER GENERATED ALWAYS AS (cents * 119 / 100) STORED
);
CREATE UNIQUE INDEX products_barcode ON products (barcode);
CREATE INDEX products_short ON products (lower(substr(name, 1, 4)));
CREATE TABLE customers (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  email TEXT COLLATE NOCASE UNIQUE,
  points INTEGER NOT NULL DEFAULT 0 CHECK (points >= 0)
);
CREATE TABLE sales (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  customer INTEGER REFERENCES customers (id) ON DELETE SET NULL ON UPDATE CASCADE,
  at INTEGER NOT NULL,
  lines INTEGER NOT NULL DEFAULT 0,
  total REAL NOT NULL DEFAULT 0.0
);
CREATE TABLE lines (
  sale INTEGER NOT NULL REFERENCES sales (id) ON DELETE CASCADE ON UPDATE CASCADE,
  line INTEGER NOT NULL,
  product INTEGER NOT NULL REFERENCES products (id) ON DELETE CASCADE ON UPDATE CASCADE,
  quantity INTEGER NOT NULL CHECK (quantity > 0),
  cents INTEGER NOT NULL,
  PRIMARY KEY (sale, line)
) WITHOUT ROWID;
CREATE INDEX lines_product ON lines (product);
CREATE TABLE shelves (
  hall TEXT NOT NULL COLLATE NOCASE,
  place INTEGER NOT NULL,
  product INTEGER UNIQUE REFERENCES products (id) ON DELETE SET NULL ON UPDATE CASCADE,
  PRIMARY KEY (hall, place)
);
CREATE TABLE events (at INTEGER, what TEXT, detail);
CREATE TABLE settings (key PRIMARY KEY NOT NULL, value, note BLOB);
CREATE TABLE odd (id INTEGER PRIMARY KEY, v, r REAL, t TEXT, b BLOB);
CREATE TABLE imports (id INTEGER PRIMARY KEY, lot INTEGER NOT NULL, line TEXT, amount REAL);
CREATE VIEW takings AS SELECT customer, count(*) AS sales, sum(total) AS total FROM sales
  GROUP BY customer;
CREATE TRIGGER lines_total AFTER INSERT ON lines BEGIN
  UPDATE sales SET lines = lines + 1, total = total + new.quantity * new.cents / 100.0
  WHERE id = new.sale;
  INSERT INTO events VALUES (new.sale, 'line', new.line);
END;
PRAGMA user_version = 1;
";

/// How many products there are at the beginning.
pub const PRODUCTS: u64 = 30;
/// How many customers.
pub const CUSTOMERS: u64 = 20;
/// How many shelves.
pub const SHELVES: u64 = 12;
