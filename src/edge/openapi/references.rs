//! References from operations to the schemas of wire types.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, schema::Schema},
};

/// The schemas that operations refer to, by name.
pub(super) type Schemas = BTreeMap<String, RefOr<Schema>>;

/// A reference to the schema of `T`, and all schemas that it needs. Primitive types are written in place.
pub(super) fn reference_to<T: ToSchema>() -> (Value, Vec<(String, RefOr<Schema>)>) {
    let mut schemas = Vec::new();
    T::schemas(&mut schemas);
    let name = T::name();
    if name.starts_with(|c: char| c.is_ascii_uppercase()) && name != "String" && name != "Vec" {
        schemas.push((name.to_string(), T::schema()));
        (json!({ "$ref": format!("#/components/schemas/{name}") }), schemas)
    } else {
        (
            serde_json::to_value(T::schema()).expect("a schema is JSON"),
            schemas,
        )
    }
}
