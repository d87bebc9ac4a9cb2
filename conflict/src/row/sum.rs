//! Adding to values as SQLite's `+` does, exactly where integers are concerned.
//!
//! Not which adds count: that is the cell's.

use crate::Value;

/// What a counter stands at. Integers are summed exactly, however far they go meanwhile; a single
/// REAL makes it REAL for good.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sum {
    Integer(i128),
    Real(f64),
}

impl Sum {
    /// What adding starts from: NULL counts as 0, text counts where all of it is one number.
    /// None: other text, and blobs, to which nothing can be added.
    pub(super) fn base(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(Self::Integer(0)),
            Value::Text(text) => numeral(text),
            _ => Self::amount(value),
        }
    }

    /// What is added. None: no number, which adds nothing.
    fn amount(value: &Value) -> Option<Self> {
        match value {
            Value::Integer(integer) => Some(Self::Integer((*integer).into())),
            Value::Real(real) => Some(Self::real(*real)),
            Value::Null | Value::Text(_) | Value::Blob(_) => None,
        }
    }

    /// `base` and what was summed onto it before, plus `adds` in the order given. None: nothing
    /// that counts was ever added, and `base` stands as it is.
    pub(super) fn onto<'a>(
        base: &Value,
        before: Option<Self>,
        adds: impl Iterator<Item = &'a Value>,
    ) -> Option<Self> {
        adds.filter_map(Self::amount).fold(before, |sum, amount| {
            sum.or_else(|| Self::base(base)).map(|sum| sum.plus(amount))
        })
    }

    /// As SQLite would store it: an integer beyond 64 bits is REAL, NaN is NULL.
    pub(super) fn value(self) -> Value {
        match self {
            Self::Integer(integer) => {
                i64::try_from(integer).map_or(Value::Real(integer as f64), Value::Integer)
            }
            Self::Real(real) if real.is_nan() => Value::Null,
            Self::Real(real) => Value::Real(real),
        }
    }

    /// The value that stands for it on disk: integers beyond 64 bits as 16 bytes.
    pub(super) fn packed(self) -> Value {
        match self {
            Self::Integer(integer) => i64::try_from(integer)
                .map_or_else(|_| Value::Blob(integer.to_be_bytes().to_vec()), Value::Integer),
            Self::Real(real) => Value::Real(real),
        }
    }

    /// Reads what [`Sum::packed`] gave.
    pub(super) fn unpacked(value: &Value) -> Option<Self> {
        match value {
            Value::Blob(bytes) => {
                Some(Self::Integer(i128::from_be_bytes(bytes.as_slice().try_into().ok()?)))
            }
            _ => Self::amount(value),
        }
    }

    fn plus(self, amount: Self) -> Self {
        match (self, amount) {
            (Self::Integer(a), Self::Integer(b)) => Self::Integer(a.saturating_add(b)),
            (a, b) => Self::real(a.as_f64() + b.as_f64()),
        }
    }

    /// Every NaN is one: which bits a processor gives it must not tell sites apart.
    fn real(real: f64) -> Self {
        Self::Real(if real.is_nan() { f64::NAN } else { real })
    }

    fn as_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Real(real) => real,
        }
    }
}

impl PartialEq for Sum {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        }
    }
}

impl Eq for Sum {}

/// Text that SQLite would take for a number as a whole, spaces around it aside.
fn numeral(text: &[u8]) -> Option<Sum> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.trim_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    // What Rust would read besides: inf and NaN, which are words to SQLite.
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
        return None;
    }
    let integer = text.parse::<i64>().map(|integer| Sum::Integer(integer.into()));
    integer.or_else(|_| text.parse().map(Sum::real)).ok()
}

#[cfg(test)]
mod tests {
    use super::Sum;
    use crate::Value;

    fn sum(base: &Value, adds: &[Value]) -> Value {
        Sum::onto(base, None, adds.iter()).map_or_else(|| base.clone(), Sum::value)
    }

    #[test]
    fn adding_is_sqlites() {
        use Value::{Integer, Null, Real};
        let text = Value::text;
        assert_eq!(sum(&Integer(10), &[Integer(-1), Integer(-3)]), Integer(6));
        assert_eq!(sum(&Integer(1), &[Real(0.5), Integer(1)]), Real(2.5));
        assert_eq!(sum(&Null, &[Integer(2)]), Integer(2));
        assert_eq!(sum(&Null, &[]), Null);
        assert_eq!(sum(&Null, &[Null, text("5")]), Null);
        assert_eq!(sum(&text(" 10 "), &[Integer(1)]), Integer(11));
        assert_eq!(sum(&text("1e1"), &[Integer(1)]), Real(11.0));
        for word in ["ten", "", "inf", "NaN", "1x", "1e", "0x10", "-"] {
            assert_eq!(sum(&text(word), &[Integer(1)]), text(word));
        }
        assert_eq!(sum(&Value::Blob(vec![0x31]), &[Integer(1)]), Value::Blob(vec![0x31]));
    }

    #[test]
    fn what_leaves_64_bits_is_real_and_may_come_back() {
        use Value::{Integer, Real};
        assert_eq!(sum(&Integer(i64::MAX), &[Integer(1)]), Real(9_223_372_036_854_775_808.0));
        assert_eq!(sum(&Integer(i64::MAX), &[Integer(1), Integer(-2)]), Integer(i64::MAX - 1));
        assert_eq!(sum(&Real(f64::INFINITY), &[Real(f64::NEG_INFINITY)]), Value::Null);
    }

    #[test]
    fn every_sum_survives_the_disk() {
        let far = i128::from(i64::MAX) + 1;
        let sums = [Sum::Integer(-7), Sum::Integer(far), Sum::Real(-0.0), Sum::real(f64::NAN)];
        for sum in sums {
            assert_eq!(Sum::unpacked(&sum.packed()), Some(sum));
        }
        assert_eq!(Sum::unpacked(&Value::Blob(vec![0; 15])), None);
        assert_eq!(Sum::unpacked(&Value::text("1")), None);
    }
}
