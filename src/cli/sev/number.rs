//! Numbers as they are written on the command line.

use crate::sev::SevPolicy;
use crate::sev::launch_digest::CpuSignature;
use crate::sev::policy::Scheme;

/// Decimal, or hexadecimal with 0x.
fn number(text: &str) -> Option<u64> {
    // The parser would take a sign.
    if text.contains('+') {
        return None;
    }
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

pub(super) fn byte(text: &str) -> Result<u8, String> {
    number(text)
        .and_then(|number| u8::try_from(number).ok())
        .ok_or_else(|| "expected a number from 0 to 255, decimal or 0x…".to_owned())
}

pub(super) fn word(text: &str) -> Result<u64, String> {
    number(text).ok_or_else(|| "expected a number of 64 bits, decimal or 0x…".to_owned())
}

/// A SEV policy.
pub(in crate::cli) fn sev_policy(text: &str) -> Result<SevPolicy, String> {
    number(text)
        .and_then(|number| u32::try_from(number).ok())
        .map(SevPolicy)
        .ok_or_else(|| "expected a number of 32 bits, such as 7 or 0x7".to_owned())
}

pub(super) fn scheme(text: &str) -> Result<Scheme, String> {
    text.parse()
        .map_err(|_| "expected amd-sev or amd-sev-es".to_owned())
}

pub(super) fn signature(text: &str) -> Result<CpuSignature, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [family, model, stepping] = parts.as_slice() else {
        return Err("expected FAMILY,MODEL,STEPPING, such as 25,1,1".to_owned());
    };
    let parsed = (family.parse(), model.parse(), stepping.parse());
    match parsed {
        (Ok(family), Ok(model), Ok(stepping)) => {
            CpuSignature::new(family, model, stepping).map_err(|e| e.to_string())
        }
        _ => Err("expected three decimal numbers, such as 25,1,1".to_owned()),
    }
}
