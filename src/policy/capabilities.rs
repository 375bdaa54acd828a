//! The built-ins that policies may call, in the form that OPA's `--capabilities` reads, so that `opa check` refuses
//! what the server refuses.
//!
//! Types are those of OPA's own published file, `capabilities/v1.5.0.json` of its repository; for the built-ins here
//! it is the same as 1.4's.

use serde_json::{Value, json};

/// Argument and result types by name, in a short notation: `s`tring, `n`umber, `b`oolean, `*` any, `0` null, `o`bject,
/// `[t]` array, `{t}` set, `(t|t)` one of them, `<t,t>` an array of exactly these.
const DECLARED: &[(&str, &[&str], &str)] = &[
    ("abs", &["n"], "n"),
    ("array.concat", &["[*]", "[*]"], "[*]"),
    ("array.reverse", &["[*]"], "[*]"),
    ("array.slice", &["[*]", "n", "n"], "[*]"),
    ("base64.decode", &["s"], "s"),
    ("base64.encode", &["s"], "s"),
    ("base64.is_valid", &["s"], "b"),
    ("bits.and", &["n", "n"], "n"),
    ("bits.lsh", &["n", "n"], "n"),
    ("bits.negate", &["n"], "n"),
    ("bits.or", &["n", "n"], "n"),
    ("bits.rsh", &["n", "n"], "n"),
    ("bits.xor", &["n", "n"], "n"),
    ("ceil", &["n"], "n"),
    ("concat", &["s", "([s]|{s})"], "s"),
    ("contains", &["s", "s"], "b"),
    ("count", &["(s|[*]|o|{*})"], "n"),
    ("endswith", &["s", "s"], "b"),
    ("floor", &["n"], "n"),
    ("format_int", &["n", "n"], "s"),
    ("hex.decode", &["s"], "s"),
    ("hex.encode", &["s"], "s"),
    ("indexof", &["s", "s"], "n"),
    ("intersection", &["{{*}}"], "{*}"),
    ("is_array", &["*"], "b"),
    ("is_boolean", &["*"], "b"),
    ("is_null", &["*"], "b"),
    ("is_number", &["*"], "b"),
    ("is_object", &["*"], "b"),
    ("is_set", &["*"], "b"),
    ("is_string", &["*"], "b"),
    ("json.filter", &["o", "([(s|[*])]|{(s|[*])})"], "*"),
    ("json.is_valid", &["s"], "b"),
    ("json.marshal", &["*"], "s"),
    ("json.remove", &["o", "([(s|[*])]|{(s|[*])})"], "*"),
    ("json.unmarshal", &["s"], "*"),
    ("lower", &["s"], "s"),
    ("max", &["([*]|{*})"], "*"),
    ("min", &["([*]|{*})"], "*"),
    ("object.filter", &["o", "([*]|o|{*})"], "*"),
    ("object.get", &["o", "*", "*"], "*"),
    ("object.keys", &["o"], "{*}"),
    ("object.remove", &["o", "([*]|o|{*})"], "*"),
    ("object.subset", &["([*]|o|{*})", "([*]|o|{*})"], "*"),
    ("object.union", &["o", "o"], "*"),
    ("regex.find_n", &["s", "s", "n"], "[s]"),
    ("regex.is_valid", &["s"], "b"),
    ("regex.match", &["s", "s"], "b"),
    ("regex.split", &["s", "s"], "[s]"),
    ("replace", &["s", "s", "s"], "s"),
    ("round", &["n"], "n"),
    ("semver.compare", &["s", "s"], "n"),
    ("semver.is_valid", &["*"], "b"),
    ("sort", &["([*]|{*})"], "[*]"),
    ("split", &["s", "s"], "[s]"),
    ("sprintf", &["s", "[*]"], "s"),
    ("startswith", &["s", "s"], "b"),
    ("strings.any_prefix_match", &["(s|[s]|{s})", "(s|[s]|{s})"], "b"),
    ("strings.any_suffix_match", &["(s|[s]|{s})", "(s|[s]|{s})"], "b"),
    ("strings.count", &["s", "s"], "n"),
    ("strings.reverse", &["s"], "s"),
    ("substring", &["s", "n", "n"], "s"),
    ("sum", &["([n]|{n})"], "n"),
    ("time.add_date", &["n", "n", "n", "n"], "n"),
    ("time.clock", &["(n|<n,s>)"], "<n,n,n>"),
    ("time.date", &["(n|<n,s>)"], "<n,n,n>"),
    ("time.parse_duration_ns", &["s"], "n"),
    ("time.parse_rfc3339_ns", &["s"], "n"),
    ("time.weekday", &["(n|<n,s>)"], "s"),
    ("to_number", &["(0|b|n|s)"], "n"),
    ("trim", &["s", "s"], "s"),
    ("trim_left", &["s", "s"], "s"),
    ("trim_prefix", &["s", "s"], "s"),
    ("trim_right", &["s", "s"], "s"),
    ("trim_space", &["s"], "s"),
    ("trim_suffix", &["s", "s"], "s"),
    ("type_name", &["*"], "s"),
    ("union", &["{{*}}"], "{*}"),
    ("upper", &["s"], "s"),
];

/// What the language's operators stand for: name, types, and how it is written where that is no call.
const OPERATORS: &[(&str, &[&str], &str, &str)] = &[
    ("and", &["{*}", "{*}"], "{*}", "&"),
    ("assign", &["*", "*"], "b", ":="),
    ("div", &["n", "n"], "n", "/"),
    ("eq", &["*", "*"], "b", "="),
    ("equal", &["*", "*"], "b", "=="),
    ("gt", &["*", "*"], "b", ">"),
    ("gte", &["*", "*"], "b", ">="),
    ("internal.member_2", &["*", "*"], "b", "in"),
    ("internal.member_3", &["*", "*", "*"], "b", "in"),
    ("lt", &["*", "*"], "b", "<"),
    ("lte", &["*", "*"], "b", "<="),
    ("minus", &["(n|{*})", "(n|{*})"], "(n|{*})", "-"),
    ("mul", &["n", "n"], "n", "*"),
    ("neq", &["*", "*"], "b", "!="),
    ("or", &["{*}", "{*}"], "{*}", "|"),
    ("plus", &["n", "n"], "n", "+"),
    ("rem", &["n", "n"], "n", "%"),
];

/// The capabilities file: what the server's evaluator allows, and nothing that reaches the network.
pub fn capabilities() -> Value {
    let declared = DECLARED.iter().map(|(name, arguments, result)| {
        let decl = json!({"args": types(arguments), "result": typed(result), "type": "function"});
        json!({"name": name, "decl": decl})
    });
    let operators = OPERATORS.iter().map(|(name, arguments, result, infix)| {
        let decl = json!({"args": types(arguments), "result": typed(result), "type": "function"});
        json!({"name": name, "decl": decl, "infix": infix})
    });
    // What `print` is compiled to, and itself: a call with any arguments and no result.
    let printing = [
        json!({"name": "internal.print", "decl": {"args": types(&["[{*}]"]), "type": "function"}}),
        json!({"name": "print", "decl": {"type": "function", "variadic": {"type": "any"}}}),
    ];
    let mut builtins: Vec<Value> = declared.chain(operators).chain(printing).collect();
    builtins.sort_by_key(|builtin| builtin.get("name").and_then(Value::as_str).map(str::to_owned));
    json!({
        "builtins": builtins,
        "future_keywords": ["contains", "every", "if", "in"],
        "features": ["rego_v1"],
        "wasm_abi_versions": [],
        "allow_net": [],
    })
}

fn types(short: &[&str]) -> Vec<Value> {
    short.iter().map(|short| typed(short)).collect()
}

/// A type in OPA's form.
fn typed(short: &str) -> Value {
    let inner = |open: char, close: char| short.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    if let Some(of) = inner('[', ']') {
        return json!({"type": "array", "dynamic": typed(of)});
    }
    if let Some(of) = inner('{', '}') {
        return json!({"type": "set", "of": typed(of)});
    }
    if let Some(of) = inner('(', ')') {
        return json!({"type": "any", "of": parts(of, '|')});
    }
    if let Some(of) = inner('<', '>') {
        return json!({"type": "array", "static": parts(of, ',')});
    }
    match short {
        "s" => json!({"type": "string"}),
        "n" => json!({"type": "number"}),
        "b" => json!({"type": "boolean"}),
        "0" => json!({"type": "null"}),
        "o" => json!({"type": "object", "dynamic": {"key": {"type": "any"}, "value": {"type": "any"}}}),
        _ => json!({"type": "any"}),
    }
}

/// Types in a list, split where no bracket is open.
fn parts(short: &str, between: char) -> Vec<Value> {
    let mut depth = 0_i32;
    let split = short.split(|c: char| {
        match c {
            '[' | '{' | '(' | '<' => depth += 1,
            ']' | '}' | ')' | '>' => depth -= 1,
            _ => {}
        }
        c == between && depth == 0
    });
    split.map(typed).collect()
}
