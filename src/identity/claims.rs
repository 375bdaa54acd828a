//! What a verified token says: whether it is for this server and now, and who it is for.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::{ClaimRule, IdentityProvider};
use crate::domain::{Name, Role, Time};

/// The longest subject, in bytes (OpenID Connect Core, section 2).
const LONGEST_SUBJECT: usize = 255;

pub(super) type Claims = Map<String, Value>;

/// Whether the token is this provider's, for this server, and valid now.
///
/// # Errors
/// What it is not, with both values.
pub(super) fn check(claims: &Claims, config: &IdentityProvider, now: Time) -> Result<(), String> {
    if text(claims, "iss") != Some(&config.issuer) {
        return Err("the token's `iss` is another".to_owned());
    }
    let meant = match claims.get("aud") {
        Some(Value::String(one)) => *one == config.audience,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(&config.audience)),
        _ => false,
    };
    if !meant {
        return Err(format!("the token's `aud` is not {:?}", config.audience));
    }
    let leeway = Duration::from_secs(config.leeway_seconds.into());
    let expires = time(claims, "exp")?.ok_or_else(|| "the token has no `exp`".to_owned())?;
    if now >= expires.after(leeway) {
        return Err(format!("the token has expired: {expires}"));
    }
    if let Some(from) = time(claims, "nbf")?.filter(|from| now < from.before(leeway)) {
        return Err(format!("the token is not valid before {from}"));
    }
    let issued = time(claims, "iat")?;
    if let Some(issued) = issued.filter(|issued| now < issued.before(leeway)) {
        return Err(format!("the token was issued later than now: {issued}"));
    }
    let longest = Duration::from_secs(config.max_lifetime_seconds.into());
    // One that does not say when it was issued was so at the latest now.
    if expires > issued.unwrap_or_else(|| now.after(leeway)).after(longest) {
        return Err(format!(
            "the token is valid for longer than {} seconds: until {expires}",
            config.max_lifetime_seconds
        ));
    }
    Ok(())
}

/// Whom the token is for.
///
/// # Errors
/// It names nobody whom a record could name.
pub(super) fn subject(claims: &Claims) -> Result<&str, String> {
    let subject = text(claims, "sub").map_or("", String::as_str);
    let printable = subject.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT || !printable {
        return Err(format!(
            "the token's `sub` is not a text of 1 to {LONGEST_SUBJECT} printable ASCII characters"
        ));
    }
    Ok(subject)
}

/// The role and the owner of the first rule that the claims fulfil.
///
/// # Errors
/// None does, or the owner is not named as it should be.
pub(super) fn role(claims: &Claims, rules: &[ClaimRule]) -> Result<(Role, Option<Name>), String> {
    let fulfilled = |rule: &&ClaimRule| match find(claims, &rule.claim) {
        Some(Value::String(one)) => *one == rule.value,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(&rule.value)),
        _ => false,
    };
    let rule = rules
        .iter()
        .find(fulfilled)
        .ok_or_else(|| "no rule gives it a role".to_owned())?;
    let owner = match &rule.owner_claim {
        None => rule.owner.clone(),
        Some(claim) => {
            let named = find(claims, claim).and_then(Value::as_str);
            let named = named
                .ok_or_else(|| format!("it has no text as its claim `{claim}`, which names the owner"))?;
            let name = named.parse();
            Some(name.map_err(|_| format!("its claim `{claim}` is no owner's name"))?)
        }
    };
    Ok((rule.role, owner))
}

/// A claim by its name, or by a JSON pointer (RFC 6901).
fn find<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    let Some(pointer) = name.strip_prefix('/') else {
        return claims.get(name);
    };
    let (first, rest) = match pointer.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (pointer, None),
    };
    let inner = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    match rest {
        None => Some(inner),
        Some(rest) => inner.pointer(&format!("/{rest}")),
    }
}

fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a String> {
    match claims.get(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// A `NumericDate` (RFC 7519, section 2): seconds, of which there may be a fraction.
fn time(claims: &Claims, name: &str) -> Result<Option<Time>, String> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let wrong = || format!("the token's `{name}` is not a time in seconds since 1970");
    let seconds = value.as_f64().ok_or_else(wrong)?;
    if !(0.0..=253_402_300_799.0).contains(&seconds) {
        return Err(wrong());
    }
    // Within the years 1970 to 9999, so that nothing is cut off.
    #[expect(clippy::cast_possible_truncation, reason = "the bounds are just above")]
    let millis = (seconds * 1000.0) as i64;
    Ok(Some(Time::from_millis(millis)))
}
