//! Bundles in OPA's form: what is in the file, what is hashed, and which signatures count.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keyward::policy::opa::{
    self, Claims, SignatureAlgorithm, SigningKey, VerificationKey, complete_manifest, pack, unpack,
};
use keyward::policy::{Bundle, Diagnostic};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sha::sha256;
use serde_json::{Value, json};
use zeroize::Zeroizing;

const NOW: i64 = 1_767_323_045;
const DATA: &str = r#"{ "b": [1.50, 1e3, -0, "\u00e9<\u2028\n"], "a": {"y": null, "x": true} }"#;

/// Files by path.
type Files = BTreeMap<String, Vec<u8>>;

fn files() -> Files {
    [
        (
            ".manifest",
            r#"{"revision": "r1", "roots": ["release", "b", "a"], "metadata": {"vcs_revision": "abc"}}"#,
        ),
        ("data.json", DATA),
        ("release/any.rego", "package release.any\n\nallow := true\n"),
        ("release/any_test.rego", "package release.any_test\n"),
    ]
    .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
    .into()
}

fn bundle() -> Bundle {
    Bundle::from_files(files()).unwrap()
}

pub(crate) fn ec(curve: Nid) -> PKey<Private> {
    let group = EcGroup::from_curve_name(curve).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn rsa() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

pub(crate) fn private(key: &PKey<Private>, algorithm: SignatureAlgorithm) -> SigningKey {
    let pem = Zeroizing::new(key.private_key_to_pem_pkcs8().unwrap());
    SigningKey::from_pem(&pem, algorithm).unwrap()
}

pub(crate) fn public_pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
}

fn public(key: &PKey<Private>, algorithm: SignatureAlgorithm) -> VerificationKey {
    VerificationKey::new(&public_pem(key), algorithm, None).unwrap()
}

fn verify(bundle: &Bundle, signatures: &str, id: &str, key: &VerificationKey) -> Result<String, Diagnostic> {
    opa::verify(
        bundle,
        signatures.as_bytes(),
        &BTreeMap::from([(id.to_owned(), key)]),
        NOW,
    )
}

/// The parts of the only token.
fn token(signatures: &str) -> (Value, Value, String, Vec<u8>) {
    let file: Value = serde_json::from_str(signatures).unwrap();
    let text = file["signatures"][0].as_str().unwrap().to_owned();
    let parts: Vec<_> = text.split('.').collect();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let json = |part: &str| serde_json::from_slice(&decode(part)).unwrap();
    let signed = format!("{}.{}", parts[0], parts[1]);
    (json(parts[0]), json(parts[1]), signed, decode(parts[2]))
}

/// A token with any header and payload, signed with ES256.
fn forged(header: &Value, payload: &Value, key: &PKey<Private>) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature =
        openssl::ecdsa::EcdsaSig::sign(&sha256(signed.as_bytes()), &key.ec_key().unwrap()).unwrap();
    let raw = [
        signature.r().to_vec_padded(32).unwrap(),
        signature.s().to_vec_padded(32).unwrap(),
    ]
    .concat();
    json!({"signatures": [format!("{signed}.{}", URL_SAFE_NO_PAD.encode(raw))]}).to_string()
}

#[test]
fn a_packed_bundle_is_opa_s_layout_the_same_each_time_and_comes_back() {
    let mut files = files();
    let long = format!("release/{}/deep.rego", "long".repeat(30));
    files.insert(long.clone(), b"package release.deep\n".to_vec());
    let packed = pack(&files).unwrap();
    assert_eq!(packed, pack(&files.clone()).unwrap());
    assert_eq!(unpack(&packed).unwrap(), files);

    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
    let names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "/.manifest",
            "/data.json",
            "/release/any.rego",
            "/release/any_test.rego",
            &format!("/{long}")
        ]
    );
}

#[test]
fn the_manifest_is_completed_and_keeps_what_it_says() {
    let mut with = files();
    complete_manifest(&mut with, Some("r2")).unwrap();
    let manifest: Value = serde_json::from_slice(&with[".manifest"]).unwrap();
    assert_eq!(
        manifest,
        json!({"revision": "r2", "roots": ["release", "b", "a"], "rego_version": 1, "metadata": {"vcs_revision": "abc"}})
    );
    let again = with.clone();
    complete_manifest(&mut with, None).unwrap();
    assert_eq!(with, again);
    let mut none = BTreeMap::new();
    complete_manifest(&mut none, None).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&none[".manifest"]).unwrap(),
        json!({"revision": "", "roots": [""], "rego_version": 1})
    );
}

#[test]
fn archives_that_are_hostile_are_refused_with_their_entry() {
    let packed = |kind: tar::EntryType, path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append(&header, content).unwrap();
        tar.append(&header, content).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, &tar.into_inner().unwrap()).unwrap();
        gzip.finish().unwrap()
    };
    for (kind, path, content, expected) in [
        (
            tar::EntryType::Symlink,
            "data.json",
            &b""[..],
            "links and devices",
        ),
        (tar::EntryType::Link, "data.json", b"", "links and devices"),
        (tar::EntryType::Char, "data.json", b"", "links and devices"),
        (
            tar::EntryType::Regular,
            "../data.json",
            b"{}",
            "must not contain `..`",
        ),
        (tar::EntryType::Regular, "//etc/data.json", b"{}", "absolute path"),
        (tar::EntryType::Regular, "/data.json", b"{}", "twice"),
        (
            tar::EntryType::Regular,
            "big.rego",
            &[b' '; 17 << 20],
            "larger than a bundle",
        ),
    ] {
        let refused = unpack(&packed(kind, path, content)).unwrap_err();
        assert!(refused.message.contains(expected), "{path}: {refused}");
    }
    assert!(unpack(b"PK\x03\x04").unwrap_err().message.contains("gzip"));
}

#[test]
fn data_is_hashed_by_what_it_says_and_rego_by_its_bytes() {
    let key = private(&ec(Nid::X9_62_PRIME256V1), SignatureAlgorithm::Es256);
    let mut files = files();
    files.insert(
        "a/z/data.yaml".to_owned(),
        b"n: 2.50\nsmall: 1.5e-9\ni: 7\n".to_vec(),
    );
    let bundle = Bundle::from_files(files.clone()).unwrap();
    let signatures = opa::sign(&bundle, "k", &key, &Claims::default()).unwrap();
    let (_, payload, ..) = token(&signatures);
    let hash = |name: &str| {
        let listed = payload["files"].as_array().unwrap();
        let file = listed.iter().find(|file| file["name"] == name).unwrap();
        assert_eq!(file["algorithm"], "SHA-256");
        file["hash"].as_str().unwrap().to_owned()
    };
    // By hand: keys sorted, no space, numbers as written, no escaping of HTML, U+2028 escaped as Go does.
    let canonical = "{\"a\":{\"x\":true,\"y\":null},\"b\":[1.50,1e3,-0,\"é<\\u2028\\n\"]}";
    assert_eq!(hash("data.json"), hex::encode(sha256(canonical.as_bytes())));
    let manifest = r#"{"metadata":{"vcs_revision":"abc"},"revision":"r1","roots":["release","b","a"]}"#;
    assert_eq!(hash(".manifest"), hex::encode(sha256(manifest.as_bytes())));
    // YAML is made JSON first, with Go's numbers.
    assert_eq!(
        hash("a/z/data.yaml"),
        hex::encode(sha256(br#"{"i":7,"n":2.5,"small":1.5e-9}"#))
    );
    let rego = &files["release/any.rego"];
    assert_eq!(hash("release/any.rego"), hex::encode(sha256(rego)));
}

#[test]
fn every_algorithm_signs_so_that_others_verify_it() {
    for algorithm in SignatureAlgorithm::ALL {
        let key = match algorithm {
            SignatureAlgorithm::Es256 => ec(Nid::X9_62_PRIME256V1),
            SignatureAlgorithm::Es384 => ec(Nid::SECP384R1),
            SignatureAlgorithm::Es512 => ec(Nid::SECP521R1),
            _ => rsa(),
        };
        let claims = Claims {
            issued_at: Some(NOW),
            ..Claims::default()
        };
        let signatures = opa::sign(&bundle(), "release", &private(&key, algorithm), &claims).unwrap();
        let trusted = public(&key, algorithm);
        assert_eq!(
            verify(&bundle(), &signatures, "release", &trusted).unwrap(),
            "release",
            "{algorithm}"
        );

        let (header, payload, signed, signature) = token(&signatures);
        assert_eq!(header, json!({"alg": algorithm.as_str(), "kid": "release"}));
        assert_eq!(
            (&payload["keyid"], &payload["iat"]),
            (&json!("release"), &json!(NOW))
        );
        let digest = match &algorithm.as_str()[2..] {
            "256" => MessageDigest::sha256(),
            "384" => MessageDigest::sha384(),
            _ => MessageDigest::sha512(),
        };
        let signature = match algorithm.as_str().starts_with("ES") {
            true => {
                let (r, s) = signature.split_at(signature.len() / 2);
                let number = |bytes| openssl::bn::BigNum::from_slice(bytes).unwrap();
                let pair = openssl::ecdsa::EcdsaSig::from_private_components(number(r), number(s));
                pair.unwrap().to_der().unwrap()
            }
            false => signature,
        };
        let mut verifier = openssl::sign::Verifier::new(digest, &key).unwrap();
        if algorithm.as_str().starts_with("PS") {
            verifier
                .set_rsa_padding(openssl::rsa::Padding::PKCS1_PSS)
                .unwrap();
            verifier
                .set_rsa_pss_saltlen(openssl::sign::RsaPssSaltlen::DIGEST_LENGTH)
                .unwrap();
        }
        assert!(
            verifier.verify_oneshot(&signature, signed.as_bytes()).unwrap(),
            "{algorithm}"
        );
    }
}

#[test]
fn a_bundle_that_is_not_the_one_that_was_signed_is_refused_with_its_file() {
    let key = ec(Nid::X9_62_PRIME256V1);
    let trusted = public(&key, SignatureAlgorithm::Es256);
    let signatures = opa::sign(
        &bundle(),
        "k",
        &private(&key, SignatureAlgorithm::Es256),
        &Claims::default(),
    )
    .unwrap();
    let altered = |change: &dyn Fn(&mut Files)| {
        let mut files = files();
        change(&mut files);
        verify(&Bundle::from_files(files).unwrap(), &signatures, "k", &trusted)
    };
    let put = |path: &'static str, text: &'static str| {
        move |files: &mut BTreeMap<String, Vec<u8>>| {
            drop(files.insert(path.to_owned(), text.as_bytes().to_vec()))
        }
    };
    // Another layout of the same data is the same to OPA.
    altered(&put(
        "data.json",
        "{\"a\":{\"x\":true,\"y\":null},\"b\":[1.50,1e3,-0,\"é<\u{2028}\\n\"]}",
    ))
    .unwrap();
    for (change, file, expected) in [
        (
            &put("release/any.rego", "package release.any\n\nallow := false\n") as &dyn Fn(&mut _),
            "release/any.rego",
            "digest differs",
        ),
        (
            &put("release/any_test.rego", "package t\n"),
            "release/any_test.rego",
            "digest differs",
        ),
        (
            &put("data.json", r#"{"b": [1.5]}"#),
            "data.json",
            "digest differs",
        ),
        (&put(".manifest", "{}"), ".manifest", "digest differs"),
        (
            &put("release/more.rego", "package release.more\n"),
            "release/more.rego",
            "does not cover",
        ),
        (
            &|files: &mut BTreeMap<_, _>| drop(files.remove("data.json")),
            "data.json",
            "not in the bundle",
        ),
    ] {
        let refused = altered(change).unwrap_err();
        assert_eq!(refused.file, file, "{refused}");
        assert!(
            refused.message.contains(expected) && refused.message.contains("\"k\""),
            "{refused}"
        );
    }
}

#[test]
fn a_signature_that_proves_nothing_is_refused() {
    let key = ec(Nid::X9_62_PRIME256V1);
    let trusted = public(&key, SignatureAlgorithm::Es256);
    let good = opa::sign(
        &bundle(),
        "k",
        &private(&key, SignatureAlgorithm::Es256),
        &Claims::default(),
    )
    .unwrap();
    let (_, payload, signed, _) = token(&good);
    let header = json!({"alg": "ES256", "kid": "k"});
    let with = |member: &str, value: Value| {
        let mut payload = payload.clone();
        payload[member] = value;
        payload
    };
    let alone = |token: String| json!({"signatures": [token]}).to_string();
    let hmac = {
        let secret = PKey::hmac(trusted.public_key.as_bytes()).unwrap();
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            encode(&json!({"alg": "HS256", "kid": "k"})),
            encode(&payload)
        );
        let mut signer = openssl::sign::Signer::new(MessageDigest::sha256(), &secret).unwrap();
        let tag = signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap();
        alone(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag)))
    };
    let none = {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"k"}"#);
        alone(format!(
            "{header}.{}.",
            URL_SAFE_NO_PAD.encode(payload.to_string())
        ))
    };
    let two = {
        let one: Value = serde_json::from_str(&good).unwrap();
        json!({"signatures": [one["signatures"][0], one["signatures"][0]]}).to_string()
    };
    let twice = {
        let mut payload = payload.clone();
        let first = payload["files"][0].clone();
        payload["files"].as_array_mut().unwrap().push(first);
        payload
    };
    let mut weak = payload.clone();
    weak["files"][0]["algorithm"] = json!("MD5");
    let other = ec(Nid::X9_62_PRIME256V1);
    assert_eq!(
        verify(&bundle(), &forged(&header, &payload, &key), "k", &trusted).unwrap(),
        "k"
    );
    for (name, signatures, expected) in [
        (
            "another key's",
            forged(&header, &payload, &other),
            "key \"k\": the signature is not by this key",
        ),
        (
            "zeros",
            alone(format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64]))),
            "not by this key",
        ),
        (
            "cut",
            alone(format!("{signed}.{}", URL_SAFE_NO_PAD.encode([1; 63]))),
            "not by this key",
        ),
        ("none", none, "\"none\" as its algorithm"),
        ("HMAC with the public key", hmac, "\"HS256\" as its algorithm"),
        (
            "another algorithm",
            forged(&json!({"alg": "ES384", "kid": "k"}), &payload, &key),
            "registered for ES256",
        ),
        (
            "an unknown key",
            forged(
                &json!({"alg": "ES256", "kid": "x"}),
                &with("keyid", json!("x")),
                &key,
            ),
            "no key \"x\"",
        ),
        (
            "two names",
            forged(&json!({"alg": "ES256", "kid": "x"}), &payload, &key),
            "names two keys",
        ),
        (
            "no name",
            forged(&json!({"alg": "ES256"}), &with("keyid", Value::Null), &key),
            "names no key",
        ),
        (
            "crit",
            forged(
                &json!({"alg": "ES256", "kid": "k", "crit": ["b64"]}),
                &payload,
                &key,
            ),
            "crit",
        ),
        (
            "another scope",
            forged(&header, &with("scope", json!("write")), &key),
            "scope is \"write\"",
        ),
        (
            "expired",
            forged(&header, &with("exp", json!(NOW)), &key),
            "has expired",
        ),
        (
            "not yet",
            forged(&header, &with("nbf", json!(NOW + 1)), &key),
            "not valid yet",
        ),
        ("a file twice", forged(&header, &twice, &key), "twice"),
        ("MD5", forged(&header, &weak, &key), "MD5"),
        ("two tokens", two, "holds 2 tokens"),
        (
            "no token",
            json!({"signatures": []}).to_string(),
            "holds 0 tokens",
        ),
        (
            "a plugin",
            json!({"signatures": [], "plugin": "p"}).to_string(),
            "plugin",
        ),
        ("no JSON", "signed".to_owned(), "not what OPA writes"),
        ("no token's shape", alone("a.b".to_owned()), "three parts"),
    ] {
        let refused = verify(&bundle(), &signatures, "k", &trusted).unwrap_err();
        assert!(refused.message.contains(expected), "{name}: {refused}");
    }
    let scoped = VerificationKey::new(
        &public_pem(&key),
        SignatureAlgorithm::Es256,
        Some("write".to_owned()),
    )
    .unwrap();
    verify(&bundle(), &good, "k", &scoped).unwrap_err();
    verify(
        &bundle(),
        &forged(&header, &with("scope", json!("write")), &key),
        "k",
        &scoped,
    )
    .unwrap();
}

#[test]
fn keys_are_held_to_their_algorithm() {
    let (p256, p384, rsa) = (ec(Nid::X9_62_PRIME256V1), ec(Nid::SECP384R1), rsa());
    let small = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    for (key, algorithm) in [
        (&p256, SignatureAlgorithm::Es384),
        (&p384, SignatureAlgorithm::Es256),
        (&p256, SignatureAlgorithm::Rs256),
        (&rsa, SignatureAlgorithm::Es256),
        (&small, SignatureAlgorithm::Rs256),
        (&small, SignatureAlgorithm::Ps256),
    ] {
        let error = VerificationKey::new(&public_pem(key), algorithm, None).unwrap_err();
        assert!(
            error.to_string().contains(&format!("{algorithm} needs")),
            "{error}"
        );
    }
    let secret = String::from_utf8(p256.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let error = VerificationKey::new(&secret, SignatureAlgorithm::Es256, None).unwrap_err();
    assert!(error.to_string().contains("private key"), "{error}");
    assert_eq!(
        VerificationKey::usual_algorithm(&public_pem(&p384)),
        Ok(SignatureAlgorithm::Es384)
    );
    assert_eq!(
        VerificationKey::usual_algorithm(&public_pem(&rsa)),
        Ok(SignatureAlgorithm::Rs256)
    );
    assert!(VerificationKey::usual_algorithm("no key").is_err());
}
