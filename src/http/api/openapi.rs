//! The table as an OpenAPI 3.1 document: what stands in it is what is served.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::table::{Form, Parameter, ROUTES, Route, names_in};

pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(methods) = path.as_object_mut() {
            methods.insert(route.method.to_ascii_lowercase(), operation(route, &mut generator));
        }
    }
    let mut schemas: Map<String, Value> = generator.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "skillhook admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Tokens are made by `skillhook token create`; the socket file in the data directory needs \
                none. What changes something needs a token, `Content-Type: application/json`, or `X-Skillhook: 1`.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "shk_<id>_<secret>" },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let of_path = names_in(route.path).map(|name| {
        let schema = json!({ "type": "string", "minLength": 1, "maxLength": 128 });
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let command = (route.method != "GET").then(|| {
        let schema = json!({ "type": "string", "const": "1" });
        json!({ "name": "X-Skillhook", "in": "header", "required": false, "schema": schema })
    });
    let of_query = route.operation.parameters().iter().map(parameter);
    let parameters: Vec<Value> = of_path.chain(command).chain(of_query).collect();
    let mut responses: Map<String, Value> = Map::new();
    for status in route.operation.statuses() {
        responses.insert(status.to_string(), json!({ "description": "done" }));
    }
    let problem = json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
    for status in PROBLEMS {
        responses.insert(status.to_string(), json!({ "description": "refused", "content": problem }));
    }
    let mut value = json!({
        "operationId": format!("{:?}", route.operation),
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
    });
    let Some(fields) = value.as_object_mut() else { return value };
    match route.operation.scope() {
        Some(scope) => fields.insert("x-scope".to_owned(), json!(scope)),
        None => fields.insert("security".to_owned(), json!([])),
    };
    if let Some(schema) = route.operation.body() {
        let mut content = json!({ "application/json": { "schema": schema(generator) } });
        for media in route.operation.other_media() {
            content[*media] = json!({ "schema": { "type": "string" } });
        }
        fields.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
    }
    value
}

/// Statuses of problems that any address may answer.
const PROBLEMS: [u16; 14] = [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503, 504];

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
    fn everything_that_is_described_is_served() {
        let document = document();
        let described = document["paths"].as_object().unwrap().iter().flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (path.clone(), method.to_ascii_uppercase()))
        });
        for (path, method) in described {
            assert!(ROUTES.iter().any(|route| route.path == path && route.method == method), "{method} {path}");
        }
    }

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
            assert!(taken && names_in(route.path).all(|name| names.contains(&name)), "{}: {names:?}", route.path);
            assert_eq!(described["requestBody"].is_object(), route.operation.body().is_some(), "{}", route.path);
            assert_eq!(described["x-scope"].is_string(), route.operation.scope().is_some(), "{}", route.path);
        }
    }
}
