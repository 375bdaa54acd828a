//! What the log says of callers that somebody vouches for, and that it never has their tokens.

use keyward::domain::{Clock as _, SystemClock};
use serde_json::json;

use crate::support::Shell;
use crate::support::idp::{Key, claims, jwks, provider};

#[test]
fn why_a_token_is_refused_is_in_the_log_and_the_token_never_is() {
    let mut shell = Shell::initialised();
    shell.set("KEYWARD_LOG", "trace");
    let key = Key::shared_rsa();
    shell.write("data/jwks.json", jwks(&[key]));
    let config = json!({
        "listen": "127.0.0.1:0", "kds": {"url": ""}, "identity_providers": [provider(json!({"file": "jwks.json"}))],
    });
    shell.write("data/keyward.yaml", config.to_string());
    let server = shell.served();
    let now = SystemClock.now();
    let past = now.millis() / 1000 - 60;
    let token = |changes| key.token(&claims(now, changes));
    let good = token(json!({"roles": ["auditor"]}));
    let tokens = [
        good.clone(),
        token(json!({"roles": ["auditor"], "exp": past})),
        token(json!({"sub": "carol"})),
        token(json!({"scope": "tenant-owner", "tenant": "nobody"})),
        Key::rsa("rsa").token(&claims(now, json!({"roles": ["auditor"]}))),
        token(json!({"filler": "x".repeat(9000)})),
    ];
    let mut statuses = Vec::new();
    for token in &tokens {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let (status, answer) = server.send("GET", "/v1/secrets", &headers, b"");
        assert!(!answer.contains(token.as_str()));
        statuses.push(status);
        server.send(
            "POST",
            "/vm/11111111-2222-4333-8444-555555555555/launch",
            &headers,
            b"{}",
        );
    }
    assert_eq!(statuses, [200, 401, 401, 401, 401, 401]);
    // The command takes such a token from a file as well.
    shell.write("jwt", &good);
    let listed = shell.run(&["decision", "list", "--token-file", "jwt", "-o", "json"]);
    assert_eq!(listed.json(), json!([]));
    shell.write("jwt", &tokens[1]);
    let refused = shell.run(&["decision", "list", "--token-file", "jwt"]).failed();
    assert!(refused.contains("does not know this token"), "{refused}");
    shell.write("jwt", "one.two\nthree.four");
    let refused = shell.run(&["decision", "list", "--token-file", "jwt"]).failed();
    assert!(
        refused.starts_with("error: token file jwt: not a token: "),
        "{refused}"
    );

    let (code, log) = server.stop();
    assert_eq!(code, 0);
    for reason in [
        "the caller is unknown: corp: the token has expired: ",
        "the caller is unknown: corp: subject \"carol\": no rule gives it a role",
        "the caller is unknown: \"corp/alice\": there is no owner nobody",
        "the caller is unknown: corp: the signature is not by its key",
        " bytes, at most 8192 are looked at",
    ] {
        assert!(log.contains(reason), "{reason}: {log}");
    }
    assert!(log.contains(" TRACE "), "nothing was logged");
    for part in tokens.iter().flat_map(|token| token.split('.').skip(1)) {
        assert!(!log.contains(part), "a part of a token is in the log");
    }
}
