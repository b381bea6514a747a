//! How OpenAPI describes a vector: an array of numbers, or base64 of little-endian `f32`.

use crate::engine::model::DIMENSIONS_MAX;
use serde_json::json;
use std::borrow::Cow;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type,
};
use utoipa::{PartialSchema, ToSchema};

/// Describes what [`VectorInput`](crate::engine::writing::vector_json::VectorInput) reads.
pub struct VectorSchema;

impl PartialSchema for VectorSchema {
    fn schema() -> RefOr<Schema> {
        let numbers = ArrayBuilder::new()
            .items(
                ObjectBuilder::new()
                    .schema_type(Type::Number)
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::Float))),
            )
            .min_items(Some(1))
            .max_items(Some(DIMENSIONS_MAX as usize))
            .description(Some("One finite number a dimension"))
            .examples([json!([0.12, -0.5, 0.33])]);
        let base64 = ObjectBuilder::new()
            .schema_type(Type::String)
            .content_encoding("base64")
            .description(Some("Base64 (standard alphabet, padded) of little-endian 32-bit floats"))
            .examples([json!("j8L1PQAAAL/D9ag+")]);
        OneOfBuilder::new()
            .item(numbers)
            .item(base64)
            .description(Some("A vector, in either form"))
            .into()
    }
}

impl ToSchema for VectorSchema {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Vector")
    }
}
