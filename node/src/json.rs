//! SQLite values as JSON shows them to people and scripts. Only outwards: nothing is read back.

use conflict::Value;
use data_encoding::BASE64;
use serde_json::{Value as Json, json};

/// The integers that every reader of JSON takes exactly.
const EXACT: u64 = 1 << 53;

/// A value: integers beyond 2^53, REALs that JSON lacks, text that is not UTF-8 and blobs as an
/// object that says so.
pub fn from_value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(integer) if integer.unsigned_abs() <= EXACT => json!(integer),
        Value::Integer(integer) => json!({ "integer": integer.to_string() }),
        Value::Real(real) if real.is_finite() => json!(real),
        Value::Real(real) => json!({ "real": real.to_string().to_lowercase() }),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "text": BASE64.encode(bytes) }),
        },
        Value::Blob(bytes) => json!({ "blob": BASE64.encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_the_form_that_is_promised() {
        let shown = |value| from_value(&value).to_string();
        assert_eq!(shown(Value::Null), "null");
        assert_eq!(shown(Value::Integer(-7)), "-7");
        assert_eq!(shown(Value::Integer(1 << 53)), "9007199254740992");
        assert_eq!(shown(Value::Integer((1 << 53) + 1)), r#"{"integer":"9007199254740993"}"#);
        assert_eq!(shown(Value::Integer(i64::MIN)), r#"{"integer":"-9223372036854775808"}"#);
        assert_eq!(shown(Value::Real(1.0)), "1.0");
        assert_eq!(shown(Value::Real(f64::INFINITY)), r#"{"real":"inf"}"#);
        assert_eq!(shown(Value::Real(f64::NEG_INFINITY)), r#"{"real":"-inf"}"#);
        assert_eq!(shown(Value::text("né")), r#""né""#);
        assert_eq!(shown(Value::Text(vec![0xff])), r#"{"text":"/w=="}"#);
        assert_eq!(shown(Value::Blob(vec![1, 2])), r#"{"blob":"AQI="}"#);
    }
}
