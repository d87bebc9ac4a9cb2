//! Holds what a change may cost in bytes: LINK is the scarce thing.
#![allow(clippy::unwrap_used, clippy::panic)]

mod shop;

#[track_caller]
fn hold(sales: usize, batches: usize, most: f64) {
    let cost = shop::measure(11, sales, batches);
    let a_change = cost.body as f64 / cost.changes as f64;
    assert!(a_change <= most, "{sales} sales: {a_change:.2} bytes a change, {most} allowed");
    let header = cost.header as f64 / batches as f64;
    assert!(header <= 32.0, "{header} bytes of header a batch");
}

#[test]
fn one_sale() {
    hold(1, 200, 13.0);
}

#[test]
fn five_sales() {
    hold(5, 100, 7.5);
}

#[test]
fn three_hundred_sales() {
    hold(300, 5, 5.0);
}
