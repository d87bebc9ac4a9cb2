//! The shop whose bytes are measured: orders, lines, payments, stock. The dictionary was trained
//! on other schemas; nothing here may be copied from `examples/train_dictionary.rs`.

use conflict::Value;
use protocol::change::{Assignment, Body, Operation, RowChange, SchemaReference};
use protocol::schema::{ColumnIndex, TableIndex};
use protocol::{Frame, Header, Meta, Sequence};
use std::collections::BTreeMap;

const CUSTOMERS: TableIndex = TableIndex(0);
const LINES: TableIndex = TableIndex(1);
const ORDERS: TableIndex = TableIndex(2);
const PAYMENTS: TableIndex = TableIndex(3);
const STOCK: TableIndex = TableIndex(5);
const QUANTITY: ColumnIndex = ColumnIndex(2);

const PRODUCTS: usize = 3_000;

/// A shop in the middle of its life: it has a history of ids, customers, prices and stock.
pub struct Shop {
    random: u64,
    now: u64,
    order: i64,
    line: i64,
    payment: i64,
    customer: i64,
    prices: Vec<i64>,
    stock: Vec<i64>,
}

impl Shop {
    pub fn new(seed: u64) -> Self {
        let mut shop = Self {
            random: seed,
            now: 1_773_478_800,
            order: 48_213,
            line: 192_604,
            payment: 47_980,
            customer: 6_120,
            prices: Vec::new(),
            stock: Vec::new(),
        };
        shop.prices = (0..PRODUCTS)
            .map(|_| match shop.below(3) {
                0 => 99 + 100 * shop.below(60) as i64,
                1 => 50 * (1 + shop.below(200)) as i64,
                _ => 5 * (7 + shop.below(900)) as i64,
            })
            .collect();
        shop.stock = (0..PRODUCTS).map(|_| 3 + shop.below(240) as i64).collect();
        shop
    }

    /// SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn clock(&self) -> Value {
        let (days, seconds) = (self.now / 86_400, self.now % 86_400);
        // Civil from days, for the years at hand.
        let z = days + 719_468;
        let day_of_era = z % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let mp = (5 * day_of_year + 2) / 153;
        let (day, month) = (day_of_year - (153 * mp + 2) / 5 + 1, (mp + 2) % 12 + 1);
        let year = year_of_era + z / 146_097 * 400 + u64::from(month <= 2);
        let (h, m, s) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        Value::text(&format!("{year:04}-{month:02}-{day:02} {h:02}:{m:02}:{s:02}"))
    }

    fn money(cents: i64) -> Value {
        Value::Real(cents as f64 / 100.0)
    }

    /// What a number of sales change, folded into one body.
    pub fn sell(&mut self, sales: usize) -> Body {
        let [mut customers, mut orders, mut lines, mut payments] = [const { Vec::new() }; 4];
        let mut stock: BTreeMap<usize, i64> = BTreeMap::new();
        for _ in 0..sales {
            self.now += 20 + self.below(400);
            if self.below(10) == 0 {
                self.customer += 1;
                let letters: String =
                    (0..7).map(|_| char::from(b'a' + self.below(26) as u8)).collect();
                let phone = format!("555-{:04}", self.below(10_000));
                customers.push(RowChange::plain(
                    CUSTOMERS,
                    vec![Value::Integer(self.customer)],
                    Operation::Insert(vec![
                        Value::text(&letters),
                        Value::text(&phone),
                        self.clock(),
                    ]),
                ));
            }
            self.order += 1;
            let mut total = 0;
            let count = 2 + self.below(5);
            let mut sold = Vec::new();
            while sold.len() < count as usize {
                // Popular products sell more.
                let most = self.below(PRODUCTS as u64) + 1;
                let product = self.below(most) as usize;
                if !sold.contains(&product) {
                    sold.push(product);
                }
            }
            for product in sold {
                self.line += 1;
                let quantity = [1, 1, 1, 1, 2, 2, 3, 6][self.below(8) as usize];
                let price = self.prices[product];
                let discount = if self.below(8) == 0 { price / 10 } else { 0 };
                total += quantity * (price - discount);
                lines.push(RowChange::plain(
                    LINES,
                    vec![Value::Integer(self.line)],
                    Operation::Insert(vec![
                        Value::Integer(self.order),
                        Value::Integer(product as i64 + 1),
                        Value::Integer(quantity),
                        Self::money(price),
                        Self::money(discount),
                    ]),
                ));
                self.stock[product] -= quantity;
                if self.stock[product] < 0 {
                    self.stock[product] += 144;
                }
                stock.insert(product, self.stock[product]);
            }
            let customer = match self.below(3) {
                0 => Value::Null,
                _ => Value::Integer(1 + self.below(self.customer as u64) as i64),
            };
            let store = ["Riverside", "Market Hall", "Old Town"][self.below(3) as usize];
            orders.push(RowChange::plain(
                ORDERS,
                vec![Value::Integer(self.order)],
                Operation::Insert(vec![
                    customer,
                    Value::text(store),
                    self.clock(),
                    Self::money(total),
                    Value::text(if self.below(12) == 0 { "to collect" } else { "done" }),
                ]),
            ));
            self.payment += 1;
            payments.push(RowChange::plain(
                PAYMENTS,
                vec![Value::Integer(self.payment)],
                Operation::Insert(vec![
                    Value::Integer(self.order),
                    Value::text(["cash", "card", "card", "voucher"][self.below(4) as usize]),
                    Self::money(total),
                    self.clock(),
                ]),
            ));
        }
        let stock = stock.into_iter().map(|(product, quantity)| {
            let quantity = Assignment::Set(Value::Integer(quantity));
            RowChange::plain(
                STOCK,
                vec![Value::Integer(product as i64 + 1)],
                Operation::Update(vec![(QUANTITY, quantity)]),
            )
        });
        Body {
            schema: SchemaReference::At(Sequence(1)),
            changes: [customers, lines, orders, payments, stock.collect()].concat(),
            ..Body::default()
        }
    }
}

/// What batches of a size cost.
pub struct Cost {
    pub changes: usize,
    pub raw: usize,
    pub body: usize,
    pub header: usize,
}

/// The sum over `batches` batches of `sales` sales each.
pub fn measure(seed: u64, sales: usize, batches: usize) -> Cost {
    let mut shop = Shop::new(seed);
    let mut cost = Cost { changes: 0, raw: 0, body: 0, header: 0 };
    for batch in 0..batches {
        let body = shop.sell(sales);
        let meta = Meta {
            sequence: Sequence(5_000 + batch as u64),
            timestamp: conflict::Timestamp::try_from(290_000_000_000_000_000).unwrap(),
            more: false,
            last: false,
        };
        let frame = Frame::encode(&meta, &body).unwrap();
        assert_eq!(frame.body(&protocol::limits::Limits::default()).unwrap(), body);
        let Header { raw_length, .. } = frame.header().unwrap();
        let packed = Header::body_length(frame.as_bytes()).unwrap();
        cost.changes += body.changes.len();
        cost.raw += raw_length as usize;
        cost.body += packed;
        cost.header += frame.as_bytes().len() - packed;
    }
    cost
}
