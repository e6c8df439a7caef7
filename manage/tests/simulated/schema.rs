//! Whether an answer is what the API's own document says.

use serde_json::Value as Json;

/// Enough of JSON Schema for what the document uses; what it does not know is an error.
pub(crate) fn matches_schema(document: &Json, schema: &Json, value: &Json) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        return matches_schema(document, target, value);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let inner = any.iter().find(|one| (one["type"] == "null") == value.is_null()).unwrap();
        if !value.is_null() {
            matches_schema(document, inner, value);
        }
        return;
    }
    match schema["type"].as_str() {
        Some("object") => {
            let fields = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
            let Some(properties) = schema["properties"].as_object() else { return };
            assert!(
                fields.keys().eq(properties.keys()),
                "{:?}, expected {:?}",
                fields.keys(),
                properties.keys()
            );
            fields.iter().for_each(|(name, field)| matches_schema(document, &properties[name], field));
        }
        Some("array") => {
            let items = value.as_array().unwrap_or_else(|| panic!("{value} is no array"));
            items.iter().for_each(|item| matches_schema(document, &schema["items"], item));
        }
        Some("string") => {
            assert!(value.is_string());
            if let Some(words) = schema["enum"].as_array() {
                assert!(words.contains(value), "{value} is none of {words:?}");
            }
        }
        Some("integer") => assert!(value.is_u64()),
        Some("boolean") => assert!(value.is_boolean()),
        other => panic!("a schema of type {other:?}"),
    }
}
