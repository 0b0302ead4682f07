//! The description of everything that REST serves, for machines.
//!
//! Written by hand, because what it promises is decided and not derived; a test in [`super::routes`] holds
//! its paths against the table, and `cargo xtask test` its answers against a broker.

use actix_web::{HttpResponse, http::header};

const DESCRIPTION: &str = include_str!("openapi.json");

/// `GET /api/v1/openapi.json`
pub async fn openapi() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(header::ContentType::json())
        .body(DESCRIPTION)
}

/// Every path and method of the description.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(super) fn described() -> std::collections::BTreeSet<(String, String)> {
    let description: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let methods = |(path, item): (&String, &serde_json::Value)| {
        let path = path.clone();
        let names = item
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| *name != "parameters");
        names
            .map(move |method| (path.clone(), method.clone()))
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(methods).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use callboard_protocol::ErrorCode;
    use serde_json::Value;

    use super::*;

    fn description() -> Value {
        serde_json::from_str(DESCRIPTION).unwrap()
    }

    #[test]
    fn description_has_the_version_of_the_program() {
        assert_eq!(description()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn description_has_every_error_code() {
        let described = description()["components"]["schemas"]["ErrorCode"]["enum"].clone();
        let described: BTreeSet<String> = serde_json::from_value(described).unwrap();
        let known = ErrorCode::ALL
            .iter()
            .map(|code| code.as_str().to_owned())
            .collect();
        assert_eq!(described, known);
    }

    #[test]
    fn every_reference_of_the_description_leads_somewhere() {
        fn check(value: &Value, root: &Value, count: &mut usize) {
            match value {
                Value::Object(fields) => {
                    if let Some(reference) = fields.get("$ref") {
                        let path = reference.as_str().unwrap().strip_prefix('#').unwrap();
                        assert!(root.pointer(path).is_some(), "{reference}");
                        *count += 1;
                    }
                    fields.values().for_each(|value| check(value, root, count));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, root, count)),
                _ => {}
            }
        }
        let mut count = 0;
        check(&description(), &description(), &mut count);
        assert!(count > 20);
    }
}
