//! One value of a column on the wire, as its difference to the one before.
//!
//! ```text
//! NULL                nil
//! INTEGER i           i - (the integer before it in this column of this group, or 0), mod 2^64
//! REAL n / 10^k       n - (the n before it in this column of this group, or 0)
//!                     where the division gives the very bits, |n| <= 2^53 and k <= 4
//! other REAL          float 64
//! TEXT                str; ext 1 where it is not UTF-8
//! BLOB                bin
//! ```
//!
//! What a difference means depends on the one before: at the beginning of a column it is an
//! INTEGER's. `[k, difference]` is a REAL's, and makes those after it REALs with the same k;
//! `[difference]` is an INTEGER's, and makes those after it INTEGERs. Other values in between do
//! not matter.

use super::read::next_plain;
use conflict::Value;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// The most decimal places of a real that is written as an integer.
pub const PLACES: u8 = 4;
const POWERS: [f64; PLACES as usize + 1] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0];
/// The integers up to here are exact as floats.
const EXACT: i64 = 1 << 53;

/// `n / 10^places`, if that is within the form.
fn undecimal(places: u8, n: i64) -> Option<f64> {
    let power = POWERS.get(usize::from(places))?;
    if n.unsigned_abs() > EXACT.unsigned_abs() { None } else { Some(n as f64 / power) }
}

/// The `n` for which `n / 10^places` has the bits of `real`.
fn decimal(real: f64, places: u8) -> Option<i64> {
    // The cast saturates, and NaN becomes 0: the comparison of bits catches both.
    let n = (real * POWERS.get(usize::from(places))?).round() as i64;
    (undecimal(places, n)?.to_bits() == real.to_bits()).then_some(n)
}

/// The least number of places with which a real has the decimal form.
fn places(real: f64) -> Option<u8> {
    (0..=PLACES).find(|places| decimal(real, *places).is_some())
}

/// What a bare difference is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Difference {
    #[default]
    Integer,
    /// Of reals with so many places.
    Decimal(u8),
}

/// Writes the values of one column, in order.
#[derive(Default)]
pub(crate) struct Writer {
    current: Difference,
    integer: i64,
    decimal: i64,
    /// As many places as any value of the column needs, so that differences are small.
    places: u8,
}

impl Writer {
    pub(crate) fn new<'a>(values: impl Iterator<Item = &'a Value>) -> Self {
        let real = |value: &Value| match value {
            Value::Real(real) => places(*real),
            _ => None,
        };
        Self { places: values.filter_map(real).max().unwrap_or(0), ..Self::default() }
    }

    pub(crate) fn cell<'a>(&mut self, value: &'a Value) -> Cell<'a> {
        match value {
            Value::Integer(integer) => {
                let difference = integer.wrapping_sub(self.integer);
                self.integer = *integer;
                self.difference(Difference::Integer, difference)
            }
            Value::Real(real) => {
                let common = decimal(*real, self.places).map(|n| (self.places, n));
                let own = || places(*real).and_then(|p| decimal(*real, p).map(|n| (p, n)));
                match common.or_else(own) {
                    Some((places, n)) => {
                        let difference = n.wrapping_sub(self.decimal);
                        self.decimal = n;
                        self.difference(Difference::Decimal(places), difference)
                    }
                    None => Cell::Plain(value),
                }
            }
            _ => Cell::Plain(value),
        }
    }
}

impl Writer {
    fn difference<'a>(&mut self, meant: Difference, difference: i64) -> Cell<'a> {
        match (std::mem::replace(&mut self.current, meant), meant) {
            (before, now) if before == now => Cell::Bare(difference),
            (_, Difference::Integer) => Cell::Integer(difference),
            (_, Difference::Decimal(places)) => Cell::Decimal(places, difference),
        }
    }
}

/// A value as it is written.
pub(crate) enum Cell<'a> {
    Plain(&'a Value),
    Bare(i64),
    Integer(i64),
    Decimal(u8, i64),
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(value) => value.serialize(serializer),
            Self::Bare(difference) => serializer.serialize_i64(*difference),
            Self::Integer(difference) => [difference].serialize(serializer),
            Self::Decimal(places, difference) => (places, difference).serialize(serializer),
        }
    }
}

/// Reads the values of one column, in order.
#[derive(Default)]
pub(crate) struct Reader {
    current: Difference,
    integer: i64,
    decimal: i64,
}

impl Reader {
    fn difference<E: Error>(&mut self, difference: i64) -> Result<Value, E> {
        match self.current {
            Difference::Integer => {
                self.integer = self.integer.wrapping_add(difference);
                Ok(Value::Integer(self.integer))
            }
            Difference::Decimal(places) => {
                self.decimal = self.decimal.wrapping_add(difference);
                undecimal(places, self.decimal)
                    .map(Value::Real)
                    .ok_or_else(|| E::custom("a decimal out of range"))
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of a column")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E: Error>(self, difference: i64) -> Result<Value, E> {
        self.difference(difference)
    }

    fn visit_u64<E: Error>(self, difference: u64) -> Result<Value, E> {
        self.difference(i64::try_from(difference).map_err(|_| E::custom("a number over 2^63"))?)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.current = match seq.size_hint() {
            Some(1) => Difference::Integer,
            Some(2) => Difference::Decimal(next_plain(&mut seq)?),
            _ => return Err(A::Error::custom("neither [difference] nor [places, difference]")),
        };
        let difference = next_plain(&mut seq)?;
        self.difference(difference)
    }

    fn visit_f64<E>(self, real: f64) -> Result<Value, E> {
        Ok(Value::Real(real))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Blob(bytes.to_vec()))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let (tag, bytes) = <(i8, &[u8])>::deserialize(from)?;
        Value::from_extension(tag, bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_is_a_decimal_only_if_it_comes_back_bit_for_bit() {
        for (real, places_and_n) in [
            (19.99, Some((2, 1_999))),
            (-0.0001, Some((4, -1))),
            (0.1 + 0.2, None),
            (0.0, Some((0, 0))),
            (-0.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
            (9_007_199_254_740_992.0, Some((0, EXACT))),
            (9_007_199_254_740_994.0, None),
            (1e300, None),
            (5e-324, None),
        ] {
            assert_eq!(
                places(real).map(|p| (p, decimal(real, p).unwrap())),
                places_and_n,
                "{real}"
            );
        }
    }

    #[test]
    fn reals_of_a_column_share_their_places() {
        let values = [Value::Real(12.5), Value::Real(12.99)];
        let mut writer = Writer::new(values.iter());
        let cells: Vec<_> = values.iter().map(|value| writer.cell(value)).collect();
        assert!(matches!(cells[..], [Cell::Decimal(2, 1_250), Cell::Bare(49)]));
    }
}
