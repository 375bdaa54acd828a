//! The built-ins that policies may call: pure, deterministic, and bounded in time and memory.
//!
//! Left out on purpose: what reaches the world (`http.send`, `opa.runtime`, `net.*`), the clock and chance
//! (`time.now_ns`, `rand.intn`, `uuid.*`), what verifies in the wrong place (`io.jwt.*`), and what a few bytes of
//! text keep busy for ever or make allocate without bound (`numbers.range`, `net.cidr_expand`,
//! `graph.reachable_paths`, `units.parse*`, `object.union_n`, `strings.replace_n`, `regex.replace`, `walk`).
//! Some of those that stay are guarded: see [`guards`](super::guards).

/// Name and number of arguments, sorted by name.
pub(super) const ALLOWED: &[(&str, usize)] = &[
    ("abs", 1),
    ("array.concat", 2),
    ("array.reverse", 1),
    ("array.slice", 3),
    ("base64.decode", 1),
    ("base64.encode", 1),
    ("base64.is_valid", 1),
    ("bits.and", 2),
    ("bits.lsh", 2),
    ("bits.negate", 1),
    ("bits.or", 2),
    ("bits.rsh", 2),
    ("bits.xor", 2),
    ("ceil", 1),
    ("concat", 2),
    ("contains", 2),
    ("count", 1),
    ("endswith", 2),
    ("floor", 1),
    ("format_int", 2),
    ("hex.decode", 1),
    ("hex.encode", 1),
    ("indexof", 2),
    ("intersection", 1),
    ("is_array", 1),
    ("is_boolean", 1),
    ("is_null", 1),
    ("is_number", 1),
    ("is_object", 1),
    ("is_set", 1),
    ("is_string", 1),
    ("json.filter", 2),
    ("json.is_valid", 1),
    ("json.marshal", 1),
    ("json.remove", 2),
    ("json.unmarshal", 1),
    ("lower", 1),
    ("max", 1),
    ("min", 1),
    ("object.filter", 2),
    ("object.get", 3),
    ("object.keys", 1),
    ("object.remove", 2),
    ("object.subset", 2),
    ("object.union", 2),
    ("regex.find_n", 3),
    ("regex.is_valid", 1),
    ("regex.match", 2),
    ("regex.split", 2),
    ("replace", 3),
    ("round", 1),
    ("semver.compare", 2),
    ("semver.is_valid", 1),
    ("sort", 1),
    ("split", 2),
    ("sprintf", 2),
    ("startswith", 2),
    ("strings.any_prefix_match", 2),
    ("strings.any_suffix_match", 2),
    ("strings.count", 2),
    ("strings.reverse", 1),
    ("substring", 3),
    ("sum", 1),
    ("time.add_date", 4),
    ("time.clock", 1),
    ("time.date", 1),
    ("time.parse_duration_ns", 1),
    ("time.parse_rfc3339_ns", 1),
    ("time.weekday", 1),
    ("to_number", 1),
    ("trim", 2),
    ("trim_left", 2),
    ("trim_prefix", 2),
    ("trim_right", 2),
    ("trim_space", 1),
    ("trim_suffix", 2),
    ("type_name", 1),
    ("union", 1),
    ("upper", 1),
];

/// How many arguments an allowed built-in takes; nothing for any other. `print` takes any number and is checked
/// apart.
pub(super) fn arity(name: &str) -> Option<usize> {
    ALLOWED
        .iter()
        .find(|(allowed, _)| *allowed == name)
        .map(|(_, arity)| *arity)
}

/// The allowed built-ins: name and number of arguments, sorted by name. `print` is allowed besides: it prints in
/// tests and does nothing on the server.
pub fn allowed_builtins() -> impl Iterator<Item = (&'static str, usize)> {
    ALLOWED.iter().copied()
}

/// Built-ins that OPA or the engine knows and that are left out, with the reason that a policy's author reads.
pub(super) fn why_not(name: &str) -> Option<&'static str> {
    Some(match name {
        "http.send" | "opa.runtime" => "policies can't reach the network or the server's environment",
        "time.now_ns" => "a decision depends on its input only; the server's clock is `input.time`",
        "rand.intn" | "uuid.rfc4122" => "a decision depends on its input only, never on chance",
        "trace" => "use print in tests",
        "walk" | "regex.replace" | "strings.replace_n" | "object.union_n" | "numbers.range"
        | "numbers.range_step" | "units.parse" | "units.parse_bytes" | "product" => {
            "it can't be bounded in time and memory"
        }
        _ if name.starts_with("io.jwt.") => "tokens are verified by the server, not by policies",
        _ if name.starts_with("net.") => "it reaches the network or can't be bounded",
        _ if name.starts_with("graph.") || name.starts_with("graphql.") => "it can't be bounded in time",
        _ if name.starts_with("crypto.") || name.starts_with("rego.") || name.starts_with("glob.") => {
            "this engine does not have it"
        }
        _ if regorus::unstable::BUILTINS.contains_key(name) => "it is not among the allowed built-ins",
        _ => return None,
    })
}
