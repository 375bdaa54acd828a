//! Schemas of the types that travel, each defined once.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

/// Where the document has its schemas.
const DEFINITIONS: &str = "/components/schemas";

pub(super) struct Types(SchemaGenerator);

impl Types {
    pub(super) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = DEFINITIONS.into();
            settings.meta_schema = None;
        });
        Self(settings.into_generator())
    }

    /// The schema of a type, or where it is.
    pub(super) fn of<T: JsonSchema + ?Sized>(&mut self) -> Value {
        self.0.subschema_for::<T>().to_value()
    }

    /// Every type that was asked for, and those that they are made of.
    pub(super) fn definitions(&mut self) -> Map<String, Value> {
        self.0.take_definitions(true)
    }

    /// The members of a type as parameters of a query.
    pub(super) fn parameters<T: JsonSchema>(&mut self) -> Vec<Value> {
        let schema: Schema = T::json_schema(&mut self.0);
        let required = schema.get("required").and_then(Value::as_array).cloned();
        let required = required.unwrap_or_default();
        let members = schema.get("properties").and_then(Value::as_object).cloned();
        let parameter = |(name, mut schema): (String, Value)| {
            let description = schema
                .as_object_mut()
                .and_then(|schema| schema.remove("description"));
            json!({
                "name": name,
                "in": "query",
                "required": required.contains(&Value::from(name.as_str())),
                "description": description,
                "schema": without_null(schema),
            })
        };
        members.into_iter().flatten().map(parameter).collect()
    }
}

/// What a query has is never null; it is left out.
fn without_null(mut schema: Value) -> Value {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            super::operation::set(&mut schema, "type", only);
        }
    }
    let Some(Value::Array(choices)) = schema.get("anyOf") else {
        return schema;
    };
    let some = choices
        .iter()
        .find(|choice| choice.get("type") != Some(&json!("null")));
    some.cloned().unwrap_or(schema)
}
