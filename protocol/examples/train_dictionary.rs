//! Makes a compression dictionary from bodies of small businesses' databases, always the same.
//!
//! `cargo run --release -p protocol --example train_dictionary -- protocol/dictionaries/N.dict`
//!
//! A dictionary in use is part of the wire format and is never made anew: it gets a successor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use conflict::Value;
use protocol::change::{Assignment, Body, Operation, RowChange, SchemaReference};
use protocol::schema::{ColumnIndex, TableIndex};
use protocol::{Sequence, codec};

const BYTES: usize = 4 << 10;

/// How a column's values come about.
#[derive(Clone, Copy)]
enum Kind {
    /// The number of the document that the row belongs to.
    Document,
    /// One of so many things.
    Of(u64),
    /// Mostly 1.
    Few,
    /// Money in hundredths, as a real.
    Money,
    /// Mostly none, as a real.
    Rebate,
    /// Money as an integer.
    Cents,
    /// Date and time in some form.
    When(Form),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A reference, or NULL.
    Maybe(u64),
    /// Something that nobody can guess.
    Name,
    /// 0 or 1.
    Flag,
}

#[derive(Clone, Copy)]
enum Form {
    Space,
    Iso,
    Millis,
    Epoch,
    Day,
}

/// A table: its number, how many rows a document has, its columns beside the key.
struct Inserted(u32, u64, &'static [Kind]);

/// A table whose rows are updated: its number, columns, among how many rows, how many a document.
struct Updated(u32, &'static [(u32, Kind)], u64, u64);

/// A business: what one of its documents inserts, and what it then counts.
struct Business {
    inserts: &'static [Inserted],
    updates: &'static [Updated],
}

use Form::*;
use Kind::*;

const BUSINESSES: &[Business] = &[
    // A workshop's invoices.
    Business {
        inserts: &[
            Inserted(4, 1, &[Of(900), Document, When(Day), Money, Money, Flag, When(Space)]),
            Inserted(5, 3, &[Document, Of(4_000), Name, Few, Money, Money]),
            Inserted(9, 1, &[Document, Money, Word(&["bank", "bar", "ec"]), When(Space)]),
        ],
        updates: &[Updated(1, &[(6, Of(90))], 4_000, 3), Updated(4, &[(5, Flag)], 1 << 16, 1)],
    },
    // A café's tickets, money in cents.
    Business {
        inserts: &[
            Inserted(7, 1, &[When(Epoch), Of(25), Of(6), Cents, Word(&["open", "paid", "void"])]),
            Inserted(8, 4, &[Document, Of(160), Few, Cents, Maybe(8)]),
            Inserted(2, 1, &[Document, Word(&["CASH", "VISA", "TWINT"]), Cents, When(Epoch)]),
        ],
        updates: &[
            Updated(3, &[(1, Of(400))], 160, 4),
            Updated(6, &[(2, Word(&["free", "busy"]))], 25, 1),
        ],
    },
    // A webshop of the usual framework.
    Business {
        inserts: &[
            Inserted(11, 1, &[When(Millis), When(Millis), Of(7_000), Money, Rebate, Money, Flag]),
            Inserted(12, 2, &[When(Millis), Document, Of(1_200), Few, Money, Rebate, Rebate]),
            Inserted(15, 1, &[When(Millis), Word(&["stripe", "paypal"]), Document, Money, Name]),
        ],
        updates: &[Updated(13, &[(4, Of(60)), (8, When(Millis))], 1_200, 2)],
    },
    // A wholesaler's movements.
    Business {
        inserts: &[
            Inserted(3, 6, &[Of(9_000), Of(4), Few, Money, When(Iso), Document]),
            Inserted(2, 1, &[Maybe(500), When(Iso), Money, Word(&["pedido", "albarán"]), Name]),
        ],
        updates: &[
            Updated(0, &[(3, Of(800))], 9_000, 6),
            Updated(6, &[(2, Money), (3, When(Iso))], 500, 1),
        ],
    },
    // A hairdresser's appointments.
    Business {
        inserts: &[
            Inserted(0, 1, &[Maybe(1_500), Of(5), When(Space), Word(&["booked", "came"]), Name]),
            Inserted(1, 2, &[Document, Of(40), Money, Few]),
            Inserted(3, 1, &[When(Space), Document, Money, Word(&["cash", "card"]), Flag]),
        ],
        updates: &[Updated(2, &[(1, Of(50))], 300, 2)],
    },
    // A shop that keeps a journal of receipts.
    Business {
        inserts: &[
            Inserted(6, 1, &[Word(&["Main Street", "Station"]), Maybe(3_000), When(Space), Money]),
            Inserted(7, 4, &[Document, Of(2_500), Money, Few, Rebate]),
            Inserted(9, 1, &[Document, When(Space), Money, Word(&["card", "cash", "gift"])]),
        ],
        updates: &[Updated(10, &[(3, Of(150))], 2_500, 4)],
    },
];

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// A price as people make them.
    fn cents(&mut self) -> i64 {
        match self.below(4) {
            0 => 99 + 100 * self.below(80) as i64,
            1 => 50 * (1 + self.below(300)) as i64,
            2 => 10 * (1 + self.below(900)) as i64,
            _ => 1 + self.below(20_000) as i64,
        }
    }

    fn value(&mut self, kind: Kind, document: i64, now: u64) -> Value {
        match kind {
            Document => Value::Integer(document),
            Of(many) => Value::Integer(1 + self.below(many) as i64),
            Few => Value::Integer([1, 1, 1, 1, 2, 3, 4, 10][self.below(8) as usize]),
            Money => Value::Real(self.cents() as f64 / 100.0),
            Rebate if self.below(6) > 0 => Value::Real(0.0),
            Rebate => Value::Real(self.cents() as f64 / 100.0),
            Cents => Value::Integer(self.cents()),
            When(Epoch) => Value::Integer(now as i64),
            When(form) => Value::text(&written(form, now, self.below(1_000))),
            Word(words) => Value::text(words[self.below(words.len() as u64) as usize]),
            Maybe(many) if self.below(3) > 0 => Value::Integer(1 + self.below(many) as i64),
            Maybe(_) => Value::Null,
            Name => {
                let letters = 3 + self.below(12);
                let letter = |_| char::from(b'a' + self.below(26) as u8);
                Value::text(&(0..letters).map(letter).collect::<String>())
            }
            Flag => Value::Integer(self.below(2) as i64),
        }
    }
}

fn written(form: Form, now: u64, millis: u64) -> String {
    // Every month has 28 days here: only the look matters.
    let days = now / 86_400;
    let (year, month, day) = (2024 + days / 336 % 5, 1 + days / 28 % 12, 1 + days % 28);
    let (h, m, s) = (now / 3_600 % 24, now / 60 % 60, now % 60);
    let date = format!("{year}-{month:02}-{day:02}");
    match form {
        Space => format!("{date} {h:02}:{m:02}:{s:02}"),
        Iso => format!("{date}T{h:02}:{m:02}:{s:02}Z"),
        Millis => format!("{date} {h:02}:{m:02}:{s:02}.{millis:03}"),
        Epoch | Day => date,
    }
}

fn body(random: &mut Random, business: &Business, documents: u64) -> Body {
    let mut changes = Vec::new();
    let mut now = 1_700_000_000 + random.below(150_000_000);
    let first = 1 + random.below(120_000) as i64;
    let mut ids: Vec<i64> =
        business.inserts.iter().map(|Inserted(_, rows, _)| first * *rows as i64 + 17).collect();
    for document in first..first + documents as i64 {
        now += 15 + random.below(900);
        // Morning to evening only.
        now = if now / 3_600 % 24 < 7 { now + 8 * 3_600 } else { now };
        for (Inserted(table, rows, columns), id) in business.inserts.iter().zip(&mut ids) {
            let rows = if *rows == 1 { 1 } else { 1 + random.below(2 * rows) };
            for _ in 0..rows {
                *id += 1;
                let own = columns.iter().any(|kind| matches!(kind, Document));
                let key = if own { *id } else { document };
                let values = columns.iter().map(|kind| random.value(*kind, document, now));
                changes.push(RowChange::plain(
                    TableIndex(*table),
                    vec![Value::Integer(key)],
                    Operation::Insert(values.collect()),
                ));
            }
        }
    }
    for Updated(table, columns, among, a_document) in business.updates {
        let mut keys: Vec<u64> =
            (0..a_document * documents).map(|_| 1 + random.below(*among)).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let set = |(column, kind): &(u32, Kind)| {
                (ColumnIndex(*column), Assignment::Set(random.value(*kind, first, now)))
            };
            changes.push(RowChange::plain(
                TableIndex(*table),
                vec![Value::Integer(key as i64)],
                Operation::Update(columns.iter().map(set).collect()),
            ));
        }
    }
    let at = Sequence(1 + random.below(3));
    Body { schema: SchemaReference::At(at), changes, ..Body::default() }
}

fn main() {
    let path = std::env::args().nth(1).expect("the path of the dictionary to write");
    let mut random = Random(2_026);
    let mut samples = Vec::new();
    for _ in 0..400 {
        for business in BUSINESSES {
            for documents in [1, 1, 1, 2, 5] {
                samples.push(codec::encode(&body(&mut random, business, documents)).unwrap());
            }
        }
    }
    let dictionary = zstd::dict::from_samples(&samples, BYTES).unwrap();
    std::fs::write(path, dictionary).unwrap();
}
