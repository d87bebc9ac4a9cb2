//! stub
use protocol::schema::{ObjectKind, Schema};

/// stub
pub fn autoincrements(schema: &Schema) -> Vec<bool> {
    schema
        .tables
        .iter()
        .map(|table| {
            schema.objects.iter().any(|object| {
                object.kind == ObjectKind::Table
                    && object.name == table.name
                    && object.sql.to_uppercase().contains("AUTOINCREMENT")
            })
        })
        .collect()
}
