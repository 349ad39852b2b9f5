//! Chatwoot's OpenAPI document, and what of an exchange isn't as it says.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Mutex,
};

use http::Method;
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

/// A request and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    pub method: Method,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub token: bool,
    pub request: Option<Value>,
    pub status: u16,
    /// The answer's JSON; `Err` is another text.
    pub answer: Result<Value, String>,
}

/// Something that isn't as the document says, as one line: operation, part, pointer, problem.
pub type Finding = String;

pub struct Document {
    root: Value,
    validators: Mutex<HashMap<String, Validator>>,
}

/// An operation of the document that an exchange is of.
struct Operation<'a> {
    /// `GET /api/v1/accounts/{account_id}/agents`
    name: String,
    /// What stands in the path for the parameters of the template.
    path_values: Vec<(&'a str, &'a str)>,
    value: &'a Value,
    parameters: Vec<&'a Value>,
}

impl Document {
    /// The document where it is kept; `None` where it isn't there.
    pub fn open() -> Option<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../../../shared/contracts/chatwoot-4.15.1.openapi.json");
        let text = std::fs::read_to_string(path).ok()?;
        let root: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(root["openapi"], "3.1.0");
        Some(Self { root, validators: Mutex::default() })
    }

    /// What of `exchange` isn't as the document says.
    pub fn check(&self, exchange: &Exchange) -> BTreeSet<Finding> {
        let mut findings = BTreeSet::new();
        let Some(operation) = self.operation(&exchange.method, &exchange.path) else {
            findings.insert(format!("{} {}: no such operation", exchange.method, exchange.path));
            return findings;
        };
        self.check_request(&operation, exchange, &mut findings);
        self.check_answer(&operation, exchange, &mut findings);
        findings
    }

    fn operation<'a>(&'a self, method: &Method, path: &'a str) -> Option<Operation<'a>> {
        let paths = self.root["paths"].as_object().unwrap();
        paths
            .iter()
            .filter_map(|(template, item)| {
                let path_values = values(template, path)?;
                let value = item.get(method.as_str().to_lowercase())?;
                let own = value.get("parameters").and_then(Value::as_array).into_iter().flatten();
                let shared = item.get("parameters").and_then(Value::as_array).into_iter().flatten();
                let parameters = own.chain(shared).map(|parameter| self.resolve(parameter)).collect();
                Some(Operation { name: format!("{method} {template}"), path_values, value, parameters })
            })
            // Of `/a/{b}` and `/a/meta` the second is meant.
            .min_by_key(|operation| operation.path_values.len())
    }

    fn check_request(
        &self,
        operation: &Operation<'_>,
        exchange: &Exchange,
        findings: &mut BTreeSet<Finding>,
    ) {
        let name = &operation.name;
        let of = |place: &str| -> HashMap<&str, &Value> {
            let parameters = operation.parameters.iter().filter(|parameter| parameter["in"] == place);
            parameters.map(|parameter| (parameter["name"].as_str().unwrap(), *parameter)).collect()
        };
        let in_path = of("path");
        for (parameter, value) in &operation.path_values {
            match in_path.get(parameter) {
                Some(parameter) => self.check_text(name, "path", parameter, value, findings),
                None => {
                    findings.insert(format!("{name} path {parameter}: not in the document"));
                }
            }
        }
        let in_query = of("query");
        for (parameter, value) in &exchange.query {
            match in_query.get(parameter.as_str()) {
                Some(parameter) => self.check_text(name, "query", parameter, value, findings),
                None => {
                    findings.insert(format!("{name} query {parameter}: not in the document"));
                }
            }
        }
        for (parameter, value) in &in_query {
            let is_there = exchange.query.iter().any(|(name, _)| name == parameter);
            if value["required"] == true && !is_there {
                findings.insert(format!("{name} query {parameter}: required"));
            }
        }
        let takes_token = operation.value.get("security").is_some_and(|security| security != &json!([]));
        if takes_token != exchange.token {
            let said = if takes_token { "takes" } else { "does not take" };
            findings.insert(format!("{name} header: {said} a token"));
        }
        let schema = operation.value.pointer("/requestBody/content/application~1json/schema");
        let is_required = operation.value.pointer("/requestBody/required") == Some(&json!(true));
        match (schema, &exchange.request) {
            (Some(schema), Some(body)) => {
                self.check_value(name, "request", schema, body, findings);
                // A key that the document doesn't know may be ignored by the server.
                let mut known = BTreeSet::new();
                self.properties(schema, &mut known);
                for key in body.as_object().into_iter().flat_map(Map::keys) {
                    if !known.contains(key.as_str()) {
                        findings.insert(format!("{name} request /{key}: not in the document"));
                    }
                }
            }
            (None, Some(body)) if body != &json!({}) => {
                findings.insert(format!("{name} request: takes no body"));
            }
            (Some(_), None) if is_required => {
                findings.insert(format!("{name} request: needs a body"));
            }
            _ => {}
        }
    }

    fn check_answer(&self, operation: &Operation<'_>, exchange: &Exchange, findings: &mut BTreeSet<Finding>) {
        let (name, status) = (&operation.name, exchange.status);
        let part = format!("answer {status}");
        let Some(described) = operation.value["responses"].get(status.to_string()) else {
            findings.insert(format!("{name} {part}: no such status"));
            return;
        };
        match (described.pointer("/content/application~1json/schema"), &exchange.answer) {
            (Some(schema), Ok(body)) => self.check_value(name, &part, schema, body, findings),
            (Some(_), Err(_)) => {
                findings.insert(format!("{name} {part}: should be JSON"));
            }
            (None, _) => {}
        }
    }

    /// A parameter of path or query, which are text: what looks like a number may be meant as one.
    fn check_text(
        &self,
        operation: &str,
        part: &str,
        parameter: &Value,
        text: &str,
        findings: &mut BTreeSet<Finding>,
    ) {
        let name = parameter["name"].as_str().unwrap();
        let schema = &parameter["schema"];
        let value = match schema["type"].as_str() {
            Some("integer" | "number") => text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from),
            Some("array") => json!([text]),
            _ => Value::from(text),
        };
        self.check_value(operation, &format!("{part} {name}"), schema, &value, findings);
    }

    fn check_value(
        &self,
        operation: &str,
        part: &str,
        schema: &Value,
        value: &Value,
        findings: &mut BTreeSet<Finding>,
    ) {
        let mut validators = self.validators.lock().unwrap();
        let validator = validators.entry(schema.to_string()).or_insert_with(|| {
            let mut schema = schema.as_object().unwrap().clone();
            // References lead into the document's components.
            schema.insert("components".to_owned(), self.root["components"].clone());
            jsonschema::options().with_draft(Draft::Draft202012).build(&Value::Object(schema)).unwrap()
        });
        for error in validator.iter_errors(value) {
            // Which one of a list it is doesn't matter.
            let pointer: String = error
                .instance_path()
                .to_string()
                .split('/')
                .map(|step| if step.parse::<usize>().is_ok() { "*" } else { step })
                .collect::<Vec<_>>()
                .join("/");
            let keyword = error.schema_path().to_string();
            let keyword = keyword.rsplit('/').find(|step| step.parse::<usize>().is_err()).unwrap_or_default();
            let found = value.pointer(&error.instance_path().to_string()).map_or("nothing", kind);
            findings.insert(format!("{operation} {part} {pointer}: {keyword}, found {found}"));
        }
    }

    /// The names of the properties that a schema knows.
    fn properties<'a>(&'a self, schema: &'a Value, known: &mut BTreeSet<&'a str>) {
        let schema = self.resolve(schema);
        let properties = schema.get("properties").and_then(Value::as_object);
        known.extend(properties.into_iter().flatten().map(|(name, _)| name.as_str()));
        for list in ["allOf", "anyOf", "oneOf"] {
            for part in schema.get(list).and_then(Value::as_array).into_iter().flatten() {
                self.properties(part, known);
            }
        }
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.root.pointer(reference.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What stands in `path` for the parameters of `template`, where it is of it.
fn values<'a>(template: &'a str, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    if template.len() != path.len() {
        return None;
    }
    let mut values = Vec::new();
    for (wanted, found) in template.into_iter().zip(path) {
        match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => values.push((name, found)),
            None if wanted == found => {}
            None => return None,
        }
    }
    Some(values)
}
