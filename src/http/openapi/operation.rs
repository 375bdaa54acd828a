//! One operation of the document, and the parts that operations share.

use serde_json::{Map, Value, json};

use super::roles;
use crate::http::problem::Kind;
use crate::http::roles::{Endpoint, Who};

const JSON: &str = "application/json";

/// What is said of an endpoint besides who may call it.
pub(super) struct Operation {
    summary: &'static str,
    query: Vec<Value>,
    /// Parameters that several have, by their names in the document.
    shared: Vec<&'static str>,
    body: Option<Value>,
    answers: Vec<Answer>,
    problems: Vec<Kind>,
    /// It is a POST that changes nothing, and needs no idempotency key.
    only_asks: bool,
}

/// An answer of success.
struct Answer {
    status: u16,
    says: &'static str,
    content: Option<(&'static str, Value)>,
    headers: Vec<&'static str>,
}

impl Operation {
    pub(super) fn new(summary: &'static str) -> Self {
        Self {
            summary,
            query: Vec::new(),
            shared: Vec::new(),
            body: None,
            answers: Vec::new(),
            problems: Vec::new(),
            only_asks: false,
        }
    }

    /// It changes nothing, whatever its method.
    pub(super) fn only_asks(mut self) -> Self {
        self.only_asks = true;
        self
    }

    /// It may have this query.
    pub(super) fn query(mut self, parameters: Vec<Value>) -> Self {
        self.query = parameters;
        self.fails(&[Kind::Malformed])
    }

    /// It has this JSON body.
    pub(super) fn body(mut self, schema: Value) -> Self {
        self.body = Some(schema);
        self.fails(&[Kind::Malformed, Kind::TooLarge])
    }

    /// It answers with this JSON.
    pub(super) fn answers(self, status: u16, says: &'static str, schema: Value) -> Self {
        self.answers_with(status, says, Some((JSON, schema)))
    }

    /// It answers with this content.
    pub(super) fn answers_with(
        mut self,
        status: u16,
        says: &'static str,
        content: Option<(&'static str, Value)>,
    ) -> Self {
        self.answers.push(Answer {
            status,
            says,
            content,
            headers: Vec::new(),
        });
        self
    }

    /// It shows an object in a state.
    pub(super) fn tagged(mut self) -> Self {
        self.answers
            .iter_mut()
            .for_each(|answer| answer.headers.push("ETag"));
        self.shared.push("IfNoneMatch");
        self.answers_with(304, "The caller has it as it is", None)
            .fails(&[Kind::Malformed])
    }

    /// It changes an object that may have to be in a state.
    pub(super) fn conditional(mut self) -> Self {
        for answer in &mut self.answers {
            if answer.content.is_some() {
                answer.headers.push("ETag");
            }
        }
        self.shared.extend(["IfMatch", "IfNoneMatch"]);
        self.fails(&[Kind::Malformed, Kind::PreconditionFailed])
    }

    /// It may have this header or parameter, that others have too.
    pub(super) fn with(mut self, parameter: &'static str) -> Self {
        self.shared.push(parameter);
        self
    }

    /// It may fail with these besides those that all of its kind do.
    pub(super) fn fails(mut self, kinds: &[Kind]) -> Self {
        self.problems.extend(kinds);
        self
    }

    pub(super) fn render(mut self, endpoint: &Endpoint, parts: &mut Parts) -> Value {
        let roles = roles(endpoint);
        if roles.is_some() {
            self.problems
                .extend([Kind::Unauthorized, Kind::Forbidden, Kind::Unavailable]);
        }
        let acts = (endpoint.method, roles.is_some(), self.only_asks) == ("POST", true, false);
        if acts && endpoint.path.starts_with("/v1/") {
            self.shared.push("IdempotencyKey");
            self.problems
                .extend([Kind::Malformed, Kind::KeyUsed, Kind::TooManyRequests]);
        }
        let security = match endpoint.who {
            Who::Anybody => json!([]),
            // Who shows nothing is let in too.
            Who::Hosts => {
                self.problems.push(Kind::Unauthorized);
                json!([{}, {"token": []}])
            }
            Who::Roles(_) => json!([{"token": []}]),
        };
        let path = in_path(endpoint);
        if !path.is_empty() {
            self.problems.push(Kind::NotFound);
        }
        let shared = self.shared.iter();
        let shared = shared.map(|name| json!({"$ref": format!("#/components/parameters/{name}")}));
        let parameters: Vec<_> = path.into_iter().chain(self.query).chain(shared).collect();
        let mut responses = Map::new();
        for answer in self.answers {
            responses.insert(answer.status.to_string(), answer.render());
        }
        for (status, kinds) in by_status(&self.problems) {
            responses.insert(status.to_string(), parts.problem(&kinds));
        }
        let mut operation = json!({
            "operationId": id(endpoint),
            "summary": self.summary,
            "tags": [tag(endpoint)],
            "parameters": parameters,
            "responses": responses,
            "security": security,
        });
        if let Some(body) = self.body {
            set(
                &mut operation,
                "requestBody",
                json!({"required": true, "content": {JSON: {"schema": body}}}),
            );
        }
        if let Some(roles) = roles {
            set(&mut operation, "x-keyward-roles", json!(roles));
        }
        operation
    }
}

impl Answer {
    fn render(self) -> Value {
        let mut answer = json!({"description": self.says});
        if let Some((form, schema)) = self.content {
            set(&mut answer, "content", json!({form: {"schema": schema}}));
        }
        let header = |name: &str| {
            (
                name.to_owned(),
                json!({"$ref": format!("#/components/headers/{name}")}),
            )
        };
        let headers: Map<_, _> = self.headers.into_iter().map(header).collect();
        if !headers.is_empty() {
            set(&mut answer, "headers", Value::Object(headers));
        }
        answer
    }
}

/// Answers that tell of problems, each set of problems once.
pub(super) struct Parts {
    document: Value,
    responses: Map<String, Value>,
}

impl Parts {
    /// `document` is the schema of all problem documents.
    pub(super) fn new(document: Value) -> Self {
        Self {
            document,
            responses: Map::new(),
        }
    }

    pub(super) fn responses(self) -> Map<String, Value> {
        self.responses
    }

    /// An answer with one of these problems, which have one status.
    fn problem(&mut self, kinds: &[Kind]) -> Value {
        let facts = || kinds.iter().map(|kind| kind.facts());
        let name = facts().map(|(name, ..)| name).collect::<Vec<_>>().join(".");
        let place = json!({"$ref": format!("#/components/responses/{name}")});
        let titles = facts()
            .map(|(_, _, title, _)| title)
            .collect::<Vec<_>>()
            .join("; or: ");
        let types: Vec<_> = facts().map(|(name, ..)| format!("/problems/{name}")).collect();
        let status = facts().map(|(_, status, ..)| status).next();
        let schema = json!({
            "allOf": [self.document, {"properties": {"type": {"enum": types}, "status": {"const": status}}}],
        });
        let mut response = json!({
            "description": titles,
            "content": {"application/problem+json": {"schema": schema}},
        });
        let header = match status {
            Some(401) => Some("WWW-Authenticate"),
            Some(429 | 503) => Some("Retry-After"),
            _ => None,
        };
        if let Some(header) = header {
            let place = json!({"$ref": format!("#/components/headers/{header}")});
            set(&mut response, "headers", json!({header: place}));
        }
        self.responses.entry(name).or_insert(response);
        place
    }
}

/// Gives an object a member.
pub(super) fn set(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value);
    }
}

/// Headers of answers.
pub(super) fn headers() -> Value {
    let header = |says: &str, schema: Value| json!({"description": says, "required": true, "schema": schema});
    json!({
        "ETag": header("The state that the object is in", json!({"type": "string", "pattern": "^\"[0-9a-f]{32}\"$"})),
        "Retry-After": header("Seconds after which it may be tried again", json!({"type": "integer", "minimum": 1})),
        "WWW-Authenticate": header("How to say who is calling", json!({"type": "string", "const": "Bearer"})),
    })
}

/// Parameters that several operations have.
pub(super) fn parameters() -> Value {
    let header = |name: &str, says: &str, schema: Value| json!({"name": name, "in": "header", "required": false, "description": says, "schema": schema});
    let tags = json!({"type": "string", "pattern": r#"^(\*|(W/)?"[^",]*"(, *(W/)?"[^",]*")*)$"#});
    json!({
        "IfMatch": header(
            "If-Match",
            "Only if the object is in the state of one of these `ETag`s; `*`: only if it is there",
            tags.clone(),
        ),
        "IfNoneMatch": header(
            "If-None-Match",
            "Only if the object is in the state of none of these `ETag`s; `*`: only if it is not there",
            tags,
        ),
        "IdempotencyKey": header(
            "Idempotency-Key",
            "What the request asks for is done once: sent again by the same caller within a day, it is given the same \
             answer. An answer with a token in it is not kept, and the second request refused",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
        ),
        "HostIdempotencyKey": header(
            "Idempotency-Key",
            "The same request with the same key is given the same answer until the launch expires",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
        ),
    })
}

/// The path without the router's patterns.
pub(super) fn plain(path: &str) -> String {
    path.replace(":.+", "")
}

/// The parameters in the path.
fn in_path(endpoint: &Endpoint) -> Vec<Value> {
    let names = endpoint.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(name.strip_suffix(":.+").unwrap_or(name))
    });
    let parameter = |name: &str| {
        let text = json!({"type": "string", "minLength": 1, "maxLength": 128});
        let named = json!({"type": "string", "maxLength": 128, "pattern": "^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$"});
        let (says, schema) = match (name, endpoint.path, endpoint.method) {
            ("uuid", "/v1/workloads/{uuid}", "GET") => ("The workload's UUID, or its name", text),
            ("uuid", ..) => ("The workload's UUID", json!({"type": "string", "format": "uuid"})),
            ("id", ..) => ("Its id", json!({"type": "string", "format": "uuid"})),
            ("digest", ..) => (
                "The bundle's digest",
                json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
            ),
            ("number", ..) => ("The revision's number", json!({"type": "integer", "minimum": 1})),
            ("name", "/problems/{name}", _) => ("The last part of the problem's `type`", text),
            ("name", ..) => ("Its name", named),
            _ => ("Which", text),
        };
        json!({"name": name, "in": "path", "required": true, "description": says, "schema": schema})
    };
    names.map(parameter).collect()
}

/// Kinds by their status, each once, in the order of their names.
fn by_status(problems: &[Kind]) -> Vec<(u16, Vec<Kind>)> {
    let mut statuses: Vec<u16> = problems.iter().map(|kind| kind.facts().1).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let kinds = |status| {
        let of_status = problems.iter().filter(move |kind| kind.facts().1 == status);
        let mut kinds: Vec<_> = of_status.copied().collect();
        kinds.sort_by_key(|kind| kind.facts().0);
        kinds.dedup();
        (status, kinds)
    };
    statuses.into_iter().map(kinds).collect()
}

/// A name for programs: the method and the words of the path.
fn id(endpoint: &Endpoint) -> String {
    let path = plain(endpoint.path);
    let words = path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let method = endpoint.method.to_ascii_lowercase();
    std::iter::once(method.as_str())
        .chain(words)
        .collect::<Vec<_>>()
        .join("-")
}

/// What the endpoint is about: the first word of its path, after the version.
fn tag(endpoint: &Endpoint) -> &'static str {
    let mut words = endpoint.path.split('/').filter(|word| !word.is_empty());
    match words.next() {
        Some("v1") => words.next().unwrap_or("owners"),
        Some("vm") => "hosts",
        _ => "server",
    }
}
