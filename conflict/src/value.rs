//! SQLite values, bit for bit: what SQLite stores is what comes back, at every site.
//!
//! Equality here is identity of stored bits, not SQL equality: 1 is not 1.0, 0.0 is not -0.0,
//! 'a' is not 'A', and text that is not UTF-8 is kept as it is. SQLite itself stores NaN as NULL.
//! See <https://www.sqlite.org/datatype3.html>.

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use thiserror::Error;

/// One value of one column.
#[derive(Clone)]
pub enum Value {
    /// NULL.
    Null,
    /// A 64-bit signed integer.
    Integer(i64),
    /// An IEEE 754 double.
    Real(f64),
    /// Text as its bytes, which SQLite does not force to be UTF-8 and which may contain NUL.
    Text(Vec<u8>),
    /// Bytes. Empty is not NULL.
    Blob(Vec<u8>),
}

/// Why a MessagePack extension is not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExtensionError {
    /// Valid text must be written as text.
    #[error("valid text in the form for broken text")]
    ValidText,
    /// An extension that this version does not know.
    #[error("unknown extension {0}")]
    Unknown(i8),
}

/// Marks, as a MessagePack extension, text that is not UTF-8.
const BROKEN_TEXT: i8 = 1;
/// The name under which rmp-serde recognises an extension value.
const EXTENSION: &str = "_ExtStruct";

impl Value {
    /// Text from a string.
    pub fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    /// The value that a MessagePack extension stands for: text that is not UTF-8.
    ///
    /// # Errors
    /// Another extension, or text that has a form of its own.
    pub fn from_extension(tag: i8, bytes: &[u8]) -> Result<Self, ExtensionError> {
        match tag {
            BROKEN_TEXT if std::str::from_utf8(bytes).is_err() => Ok(Self::Text(bytes.to_vec())),
            BROKEN_TEXT => Err(ExtensionError::ValidText),
            other => Err(ExtensionError::Unknown(other)),
        }
    }

    /// The length of text and blobs in bytes; 8 for numbers, 0 for NULL. An estimate of size.
    pub fn size(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(bytes) | Self::Blob(bytes) => bytes.len(),
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Real(a), Self::Real(b)) => a.to_bits() == b.to_bits(),
            (Self::Text(a), Self::Text(b)) | (Self::Blob(a), Self::Blob(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Integer(integer) => integer.fmt(f),
            Self::Real(real) => write!(f, "{real:?}"),
            Self::Text(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Self::Blob(bytes) => {
                f.write_str("x'")?;
                for byte in bytes.iter().take(32) {
                    write!(f, "{byte:02x}")?;
                }
                f.write_str(if bytes.len() > 32 { "…'" } else { "'" })
            }
        }
    }
}

/// Bytes as bytes: serde would write a slice as a list of numbers.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// NULL as nil, INTEGER as int, REAL as a 64-bit float, TEXT as str (as extension 1 where it is
/// not UTF-8), BLOB as bin.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Integer(integer) => serializer.serialize_i64(*integer),
            Self::Real(real) => serializer.serialize_f64(*real),
            Self::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => serializer.serialize_str(text),
                Err(_) => {
                    serializer.serialize_newtype_struct(EXTENSION, &(BROKEN_TEXT, Bytes(bytes)))
                }
            },
            Self::Blob(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a SQLite value")
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_i64<E>(self, integer: i64) -> Result<Value, E> {
                Ok(Value::Integer(integer))
            }

            fn visit_u64<E: serde::de::Error>(self, integer: u64) -> Result<Value, E> {
                i64::try_from(integer)
                    .map(Value::Integer)
                    .map_err(|_| E::custom("an integer beyond 63 bits"))
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

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Value, D::Error> {
                let (tag, BytesBuf(bytes)) = <(i8, BytesBuf)>::deserialize(deserializer)?;
                Value::from_extension(tag, &bytes).map_err(D::Error::custom)
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Owned bytes, the counterpart of [`Bytes`].
struct BytesBuf(Vec<u8>);

impl<'de> Deserialize<'de> for BytesBuf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl Visitor<'_> for BytesVisitor {
            type Value = BytesBuf;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<BytesBuf, E> {
                Ok(BytesBuf(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(BytesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::Value;
    use proptest::prelude::*;

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            any::<u64>().prop_map(|bits| Value::Real(f64::from_bits(bits))),
            any::<Vec<u8>>().prop_map(Value::Text),
            any::<String>().prop_map(|text| Value::text(&text)),
            any::<Vec<u8>>().prop_map(Value::Blob),
        ]
    }

    proptest! {
        #[test]
        fn every_value_survives_messagepack(value in any_value()) {
            let bytes = rmp_serde::to_vec(&value).unwrap();
            prop_assert_eq!(rmp_serde::from_slice::<Value>(&bytes).unwrap(), value);
        }
    }

    #[test]
    fn equality_is_of_bits() {
        assert_ne!(Value::Integer(1), Value::Real(1.0));
        assert_ne!(Value::Real(0.0), Value::Real(-0.0));
        assert_ne!(Value::Blob(Vec::new()), Value::Null);
        assert_ne!(Value::text("a"), Value::Blob(b"a".to_vec()));
    }
}
