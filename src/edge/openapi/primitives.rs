//! Schemas of the kernel's types and of other texts with a fixed form, which know nothing of HTTP themselves.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type},
    },
};

use crate::{
    kernel::{Currency, HoldId, LocalText, Money, OrderId, PerformanceId, SaleId, Timestamp, VisitId},
    platform::drand::ChainKey,
    waiting_room::draw::Digest,
};

/// Implements the two traits of a named schema.
macro_rules! schemas {
    ($($type:ident = $schema:expr;)*) => {
        $(
            impl PartialSchema for $type {
                fn schema() -> RefOr<Schema> {
                    $schema.into()
                }
            }

            impl ToSchema for $type {
                fn name() -> std::borrow::Cow<'static, str> {
                    stringify!($type).into()
                }
            }
        )*
    };
}

schemas! {
    Timestamp = text("A moment in UTC (RFC 3339), to the millisecond.")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples(["2026-05-01T11:00:00Z"]);
    SaleId = slug("Id of a sale.", SaleId::LENGTH_MAX).examples(["summer-tour"]);
    PerformanceId = slug("Id of a performance within its sale.", PerformanceId::LENGTH_MAX)
        .examples(["day-1"]);
    HoldId = uuid("Id of a hold. Unguessable.");
    OrderId = uuid("Id of an order.");
    VisitId = uuid("Id of an admitted visit.");
    Currency = text("ISO 4217 code.").pattern(Some("^[A-Z]{3}$")).examples(["KRW"]);
    Digest = text("32 bytes as lower-case hexadecimal digits.").pattern(Some("^[0-9a-f]{64}$"));
    ChainKey = text("A drand chain's public key in hexadecimal digits.").pattern(Some("^[0-9a-f]+$"));
    LocalText = ObjectBuilder::new()
        .description(Some("A text by language code."))
        .additional_properties(Some(Schema::from(Object::with_type(Type::String))))
        .examples([serde_json::json!({ "ko": "여름 투어", "en": "Summer Tour" })]);
}

impl PartialSchema for Money {
    fn schema() -> RefOr<Schema> {
        let amount = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .description(Some("In the currency's minor unit."));
        ObjectBuilder::new()
            .description(Some("An amount of money."))
            .property("amount", amount)
            .required("amount")
            .property("currency", Currency::schema())
            .required("currency")
            .examples([serde_json::json!({ "amount": 132_000, "currency": "KRW" })])
            .into()
    }
}

impl ToSchema for Money {
    fn name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }
}

fn text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
}

fn slug(description: &str, length_max: usize) -> ObjectBuilder {
    text(description)
        .pattern(Some("^[a-z0-9-]+$"))
        .min_length(Some(1))
        .max_length(Some(length_max))
}

fn uuid(description: &str) -> ObjectBuilder {
    text(description).format(Some(SchemaFormat::Custom("uuid".to_owned())))
}
