//! The table as an OpenAPI 3.1 document: what stands in it is what is served.

use serde_json::{Map, Value, json};

use super::table::{Form, Parameter, ROUTES, Route};

pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(route.method.to_ascii_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "skillhook admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Answered on loopback and on the socket file only. What changes something needs \
                `Content-Type: application/json`, or no body and `X-Skillhook: 1`.",
        },
        "paths": paths,
        "components": { "schemas": { "Problem": problem_schema() } },
    })
}

fn operation(route: &Route) -> Value {
    let of_path = route.path.contains("{id}").then(|| {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 64 });
        json!({ "name": "id", "in": "path", "required": true, "schema": schema })
    });
    let command = (route.method == "POST").then(|| {
        let schema = json!({ "type": "string", "const": "1" });
        json!({ "name": "X-Skillhook", "in": "header", "required": true, "schema": schema })
    });
    let of_query = route.operation.parameters().iter().map(parameter);
    let parameters: Vec<Value> = of_path.into_iter().chain(command).chain(of_query).collect();
    let mut responses: Map<String, Value> = Map::new();
    for status in route.operation.statuses() {
        responses.insert(status.to_string(), json!({ "description": "done" }));
    }
    let problem = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    for status in [400, 403, 404, 409, 500, 503, 504] {
        responses.insert(status.to_string(), json!({ "description": "refused", "content": problem }));
    }
    json!({
        "operationId": format!("{:?}", route.operation),
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
    })
}

fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.form {
        Form::Text => json!({ "type": "string" }),
        Form::Flag => json!({ "type": "boolean" }),
        Form::Number { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
    };
    json!({ "name": parameter.name, "in": "query", "description": parameter.summary, "schema": schema })
}

/// RFC 9457, with our code and hint.
fn problem_schema() -> Value {
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string", "pattern": "^SH[0-9]{4}$" },
            "detail": { "type": "string" },
            "hint": { "type": "string" },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_described_with_all_it_takes() {
        let document = document();
        for route in ROUTES {
            let described = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            assert_eq!(described["summary"], route.summary);
            let names: Vec<&str> = (described["parameters"].as_array().unwrap().iter())
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let taken = route.operation.parameters().iter().all(|parameter| names.contains(&parameter.name));
            assert!(taken && names.contains(&"id") == route.path.contains("{id}"), "{}: {names:?}", route.path);
        }
    }
}
