//! The table as an OpenAPI 3.1 document: what stands in it is what is served.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::table::{self, Form, Good, Operation, Parameter, ROUTES, Route, names_in};

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
    schemas.extend(table::schemas().into_iter().map(|(name, schema)| (name.to_owned(), schema)));
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
    let parameters: Vec<Value> = of_path.chain(command).chain(of_query).chain(headers(route)).collect();
    let responses = responses(route.operation);
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
        let required = route.operation != Operation::TestWebhook;
        fields.insert("requestBody".to_owned(), json!({ "required": required, "content": content }));
    }
    value
}

/// What an address answers, by status.
fn responses(operation: Operation) -> Map<String, Value> {
    let mut responses: Map<String, Value> = Map::new();
    for status in operation.statuses() {
        let mut response = json!({ "description": "done", "content": content(operation.good()) });
        if operation.has_versions() || matches!(operation, Operation::SkillContent | Operation::AgentContent) {
            response["headers"] = json!({ "ETag": { "schema": { "type": "string", "pattern": VERSION } } });
        }
        let links = operation.links().iter().map(|(name, to, parameter, value)| {
            let link = json!({ "operationId": format!("{to:?}"), "parameters": { (*parameter): value } });
            ((*name).to_owned(), link)
        });
        response["links"] = Value::Object(links.collect());
        responses.insert(status.to_string(), response);
    }
    for status in operation.problems() {
        let mut content =
            json!({ "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } });
        if operation == Operation::Health && status == 503 {
            content["application/json"] = json!({ "schema": { "$ref": "#/components/schemas/Status" } });
        }
        let response = json!({ "description": "refused", "content": content });
        responses.entry(status.to_string()).or_insert(response);
    }
    responses
}

fn content(good: Good) -> Value {
    match good {
        Good::One(name) => {
            json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{name}") } } })
        }
        Good::Page(name) => json!({ "application/json": { "schema": table::page_schema(name) } }),
        Good::Object => json!({ "application/json": { "schema": { "type": "object" } } }),
        Good::Text(media) => json!({ (media): { "schema": { "type": "string" } } }),
        Good::Stream => json!({ "text/event-stream": { "schema": { "type": "string" } } }),
    }
}

/// How a version of a file reads.
const VERSION: &str = "^\"[0-9a-f]{64}\"$";

fn headers(route: &Route) -> Vec<Value> {
    let header = |name: &str, about: &str, pattern: &str| {
        let schema = json!({ "type": "string", "pattern": pattern });
        json!({ "name": name, "in": "header", "required": false, "description": about, "schema": schema })
    };
    let mut headers = Vec::new();
    if route.operation.has_versions() {
        headers.push(header(
            "If-Match",
            "The `ETag` that was read: of another version nothing is changed (412)",
            VERSION,
        ));
        headers.push(header("If-None-Match", "`*`: only if there is none yet (412)", "^\\*$"));
    }
    if route.method != "GET" && !route.operation.shows_secrets() {
        headers.push(header("Idempotency-Key", "The same request with the same key is done once", "^[!-~]{1,200}$"));
    }
    headers
}

fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.form {
        Form::Text => json!({ "type": "string" }),
        Form::Flag => json!({ "type": "boolean" }),
        Form::Number { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Form::OneOf(words) => json!({ "type": "string", "enum": words }),
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
