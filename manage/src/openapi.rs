//! The OpenAPI document, made from the table of routes and the model's types.

use crate::api::content;
use crate::model::{Problem, Schema, TYPES, Type};
use crate::routes::{Answer, Method, Query, REFUSALS, ROUTES, Route};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_json::{Value as Json, json};

/// The document: OpenAPI 3.1, as JSON.
pub fn document() -> String {
    let mut paths: BTreeMap<&str, BTreeMap<String, Json>> = BTreeMap::new();
    for route in ROUTES {
        paths
            .entry(route.path)
            .or_default()
            .insert(route.method.name().to_ascii_lowercase(), operation(route));
    }
    let mut schemas: BTreeMap<&str, Json> = BTreeMap::new();
    schemas.extend(TYPES.iter().map(|of| (of.name, record(of))));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A router: what it is and does, and its configuration. Refusals are problems (RFC 9457).",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
    .to_string()
}

fn operation(route: &Route) -> Json {
    let mut responses: BTreeMap<String, Json> = BTreeMap::new();
    let (status, description, answer) = match route.answer {
        Answer::Model(of) => {
            let of = json!({ content::JSON: { "schema": schema(&of) }, "text/plain": { "schema": text() } });
            ("200", "It.", of)
        }
        Answer::Configuration => {
            ("200", "It, with its ETag.", json!({ content::TOML: { "schema": text() } }))
        }
        Answer::Stream(of) => {
            ("200", "Events.", json!({ "text/event-stream": { "itemSchema": schema(&of) } }))
        }
        Answer::Either(one, other) => {
            let either = json!({ "anyOf": [schema(&one), schema(&other)] });
            ("200", "It.", json!({ content::JSON: { "schema": either }, "text/plain": { "schema": text() } }))
        }
        Answer::Capture => ("200", "Packets.", json!({ content::PCAPNG: {} })),
        Answer::OpenApi => ("200", "It.", json!({ content::JSON: { "schema": { "type": "object" } } })),
        Answer::Metrics => (
            "200",
            "It.",
            json!({ "application/openmetrics-text": { "schema": text() }, "text/plain": { "schema": text() } }),
        ),
        Answer::Nothing => ("204", "Done.", Json::Null),
    };
    let mut good = json!({ "description": description });
    if let (Some(good), false) = (good.as_object_mut(), answer.is_null()) {
        good.insert("content".into(), answer);
    }
    responses.insert(status.into(), good);
    for status in route.refusals.iter().chain(REFUSALS) {
        let refusal = match status {
            304 => json!({ "description": "It has the ETag of If-None-Match." }),
            _ => json!({
                "description": "Refused; nothing has changed.",
                "content": { content::PROBLEM: { "schema": schema(&Schema::Record(<Problem as crate::model::Model>::TYPE)) } },
            }),
        };
        responses.insert(status.to_string(), refusal);
    }
    let mut operation = json!({
        "operationId": format!("{:?}", route.operation),
        "summary": route.doc,
        "responses": responses,
    });
    let Some(fields) = operation.as_object_mut() else { return operation };
    if !route.query.is_empty() {
        fields.insert("parameters".into(), route.query.iter().map(parameter).collect());
    }
    if route.method == Method::Put {
        let body = json!({ "required": true, "content": { content::TOML: { "schema": text() } } });
        fields.insert("requestBody".into(), body);
    }
    operation
}

fn parameter(query: &Query) -> Json {
    let Query { name, doc, text, range: (least, most), default, needed } = query;
    let mut schema = match text {
        true => json!({ "type": "string", "maxLength": most }),
        false => json!({ "type": "integer", "minimum": least }),
    };
    if let (Some(schema), false) = (schema.as_object_mut(), *text) {
        if *most != u64::MAX {
            schema.insert("maximum".into(), (*most).into());
        }
        if let Some(default) = default {
            schema.insert("default".into(), (*default).into());
        }
    }
    json!({ "name": name, "in": "query", "description": doc, "required": needed, "schema": schema })
}

fn record(of: &Type) -> Json {
    let described = |schema: Json, doc: &str| match schema {
        Json::Object(mut fields) => {
            fields.insert("description".into(), doc.into());
            Json::Object(fields)
        }
        other => other,
    };
    let mut properties: BTreeMap<&str, Json> = BTreeMap::new();
    properties
        .extend(of.fields.iter().map(|field| (field.name, described(schema(&field.schema), field.doc()))));
    let names: Vec<&str> = of.fields.iter().map(|field| field.name).collect();
    json!({
        "type": "object",
        "description": of.doc(),
        "properties": properties,
        "required": names,
        "additionalProperties": false,
    })
}

fn text() -> Json {
    json!({ "type": "string" })
}

fn schema(of: &Schema) -> Json {
    match of {
        Schema::Boolean => json!({ "type": "boolean" }),
        Schema::Integer => json!({ "type": "integer", "minimum": 0 }),
        Schema::Text => text(),
        Schema::Choice(words) => json!({ "type": "string", "enum": words }),
        Schema::Texts => json!({ "type": "array", "items": text() }),
        Schema::Optional(inner) => json!({ "anyOf": [schema(inner), { "type": "null" }] }),
        Schema::Record(of) => json!({ "$ref": format!("#/components/schemas/{}", of.name) }),
        Schema::Table(of) => json!({ "type": "array", "items": schema(&Schema::Record(of)) }),
    }
}
