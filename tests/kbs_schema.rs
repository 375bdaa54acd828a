//! The messages are those of `schemas/keybroker.proto`: every field, by its number and its type.

use keyward::grpc::messages::{
    BundleRequest, BundleResponse, OnlineSecretRequest, OnlineSecretResponse, RequestDetails, SecretRequest,
    SecretResponse,
};
use prost::Message;

/// The fields of a message as the schema has them: name, whether repeated, type, number.
fn fields(message: &str) -> Vec<(String, bool, String, u32)> {
    let schema = include_str!("../schemas/keybroker.proto");
    let start = format!("message {message} {{");
    let body = schema.split(&start).nth(1).expect(message);
    let body = body.split("\n}").next().unwrap();
    let lines = body.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("//"));
    lines
        .map(|line| {
            let words: Vec<_> = line.trim_end_matches(';').split_whitespace().collect();
            let repeated = words[0] == "repeated";
            let at = usize::from(repeated);
            assert_eq!(words[at + 2], "=", "{line}");
            (
                words[at + 1].to_owned(),
                repeated,
                words[at].to_owned(),
                words[at + 3].parse().unwrap(),
            )
        })
        .collect()
}

/// Holds a message whose fields are all set to what the schema says of it, and its names to ours.
#[track_caller]
fn agrees<M: Message + Default + std::fmt::Debug>(name: &str) {
    let mut all = Vec::new();
    for (_, _, kind, number) in fields(name) {
        match kind.as_str() {
            "uint32" => all.extend([u8::try_from(number << 3).unwrap(), 7]),
            "string" => all.extend([u8::try_from(number << 3 | 2).unwrap(), 1, b'x']),
            // A message without fields.
            _ => all.extend([u8::try_from(number << 3 | 2).unwrap(), 0]),
        }
    }
    let read = M::decode(all.as_slice()).unwrap();
    // Nothing was passed over as unknown, and nothing is there that the schema has not.
    assert_eq!(read.encode_to_vec(), all, "{name}");
    let ours = format!("{read:?}");
    for (field, repeated, kind, _) in fields(name) {
        let mut snake = String::new();
        for (at, letter) in field.char_indices() {
            let after_a_small_one = at > 0 && field.as_bytes()[at - 1].is_ascii_lowercase();
            if letter.is_ascii_uppercase() && after_a_small_one {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        }
        let value = match (repeated, kind.as_str()) {
            (false, "uint32") => "7".to_owned(),
            (false, "string") => "\"x\"".to_owned(),
            (true, of) => format!("[{of}"),
            other => panic!("{other:?}"),
        };
        assert!(ours.contains(&format!("{snake}: {value}")), "{field} in {ours}");
    }
}

#[test]
fn messages_agree_with_the_schema() {
    agrees::<BundleRequest>("BundleRequest");
    agrees::<BundleResponse>("BundleResponse");
    agrees::<RequestDetails>("RequestDetails");
    agrees::<SecretRequest>("SecretRequest");
    agrees::<SecretResponse>("SecretResponse");
    agrees::<OnlineSecretRequest>("OnlineSecretRequest");
    agrees::<OnlineSecretResponse>("OnlineSecretResponse");
}

#[test]
fn names_and_numbers_are_those_of_simple_kbs() {
    let of = |message: &str| {
        let fields = fields(message).into_iter();
        fields
            .map(|(name, _, _, number)| format!("{name}={number}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(of("BundleRequest"), "CertificateChain=1 Policy=2");
    assert_eq!(
        of("BundleResponse"),
        "GuestOwnerPublicKey=1 LaunchBlob=2 LaunchId=3"
    );
    assert_eq!(of("RequestDetails"), "Guid=1 Format=2 SecretType=3 Id=4");
    assert_eq!(
        of("SecretRequest"),
        "LaunchMeasurement=1 LaunchId=2 Policy=3 ApiMajor=4 ApiMinor=5 BuildId=6 FwDigest=7 LaunchDescription=8 SecretRequests=9"
    );
    assert_eq!(of("SecretResponse"), "LaunchSecretHeader=1 LaunchSecretData=2");
    assert_eq!(of("OnlineSecretRequest"), "ClientId=1 SecretRequests=2");
    assert_eq!(of("OnlineSecretResponse"), "Payload=1 IV=2");
    let schema = include_str!("../schemas/keybroker.proto");
    assert!(schema.contains("package keybroker;"));
    assert!(schema.contains("service KeyBrokerService {"));
}
