//! Requests that chance has damaged: whatever it did, the answer is a client's error or a right answer, never a
//! server's fault.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::bad_input::{Calls, problem};

/// What chance does to the text of a request.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index, Index),
    Insert(Index, Vec<u8>),
    Replace(Index, Value),
    Remove(Index),
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[A-Za-z0-9+/]{0,80}={0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z-]{0,8}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<Index>(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Cut(from, to)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, b)| Damage::Insert(at, b)),
        (any::<Index>(), any_value()).prop_map(|(at, value)| Damage::Replace(at, value)),
        any::<Index>().prop_map(Damage::Remove),
    ]
}

fn damaged(valid: &Value, damage: &Damage) -> Vec<u8> {
    let mut bytes = valid.to_string().into_bytes();
    match damage {
        Damage::Flip(at, bits) => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Damage::Cut(from, to) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            bytes.drain(from.min(to)..from.max(to));
        }
        Damage::Insert(at, more) => {
            let at = at.index(bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }
        Damage::Replace(at, value) => {
            let mut changed = valid.clone();
            let mut places = pointers(&changed, String::new());
            let place = places.swap_remove(at.index(places.len()));
            *changed.pointer_mut(&place).unwrap() = value.clone();
            bytes = changed.to_string().into_bytes();
        }
        Damage::Remove(at) => {
            let mut changed = valid.clone();
            let members = changed.as_object_mut().unwrap();
            let name = members.keys().nth(at.index(members.len())).unwrap().clone();
            members.remove(&name);
            bytes = changed.to_string().into_bytes();
        }
    }
    bytes
}

/// Every place in a document.
fn pointers(value: &Value, here: String) -> Vec<String> {
    let mut all = Vec::new();
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(k, v)| (k.replace('~', "~0").replace('/', "~1"), v))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(n, v)| (n.to_string(), v))
            .collect(),
        _ => Vec::new(),
    };
    for (name, value) in inside {
        all.extend(pointers(value, format!("{here}/{name}")));
    }
    all.push(here);
    all
}

#[test]
fn no_damage_to_a_request_is_a_server_s_fault() {
    let calls = Calls::new();
    let config = Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&(0..4_usize, damage()), |(call, damage)| {
        let (path, valid) = &calls.valid[call];
        let body = damaged(valid, &damage);
        if body.is_empty() {
            return Ok(());
        }
        let reply = calls.send(path, &body);
        prop_assert!(
            reply.status < 500,
            "{}: {}",
            String::from_utf8_lossy(&body),
            reply.body
        );
        if reply.status >= 400 && reply.status != 429 {
            problem(&reply);
        }
        Ok(())
    });
    outcome.unwrap();
}
