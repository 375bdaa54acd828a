//! Whose request it is: the address that bounds and policies go by.
//!
//! What comes in is a socket's peer and what proxies say; what leaves is one address, or a refusal. Never
//! the address of a proxy for somebody behind it: all its clients would share one set of bounds, and one
//! that spoils its header would escape its own.

use std::net::{IpAddr, SocketAddr};

use actix_web::HttpRequest;

use super::problem::{Kind, Problem};

/// The address that asks: the socket's peer, or what a trusted proxy says of it.
///
/// Read from the last hop towards the first, as each proxy appends its own peer and whatever stands
/// before was written by that peer. A trusted proxy that names nobody speaks for itself, as do health
/// checks that run beside the server; the same holds where all hops are trusted proxies.
///
/// # Errors
/// When a trusted proxy sends a hop that is no address: then nobody knows who asks.
pub(super) fn peer(request: &HttpRequest, trusted: &[IpAddr]) -> Result<IpAddr, Problem> {
    let socket = request
        .peer_addr()
        .ok_or_else(|| Problem::new(Kind::Unavailable, "the peer has no address"))?;
    let mut address = socket.ip().to_canonical();
    let forwarded = request.headers().get_all("x-forwarded-for");
    // As bytes: a client may send any, and the proxy's part of the same line counts all the same.
    let mut hops: Vec<&[u8]> = forwarded
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .collect();
    while trusted.contains(&address) {
        let Some(hop) = hops.pop() else { break };
        address = parse(hop).ok_or_else(|| {
            Problem::new(
                Kind::Malformed,
                "`X-Forwarded-For`: a hop that a trusted proxy wrote is no IP address; the proxy must append the address of its peer",
            )
        })?;
    }
    Ok(address)
}

/// An address as proxies write it: alone, in brackets, or with a port.
fn parse(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    let address = bare.parse::<IpAddr>().or_else(|_| with_port()).ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use actix_web::test::TestRequest;

    use super::*;

    /// With header lines given as text in which `?` stands for a byte that is no UTF-8.
    fn asked(headers: &[&str]) -> Result<String, ()> {
        let mut request = TestRequest::default().peer_addr("127.0.0.1:5".parse().unwrap());
        for header in headers {
            let bytes: Vec<u8> = header.bytes().map(|b| if b == b'?' { 0xff } else { b }).collect();
            let value = HeaderValue::from_bytes(&bytes).unwrap();
            request = request.append_header(("x-forwarded-for", value));
        }
        let trusted = ["127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let found = peer(&request.to_http_request(), &trusted);
        found.map(|address| address.to_string()).map_err(|_| ())
    }

    #[test]
    fn the_last_hop_that_is_no_trusted_proxy_is_who_asks() {
        for (headers, expected) in [
            (&[] as &[&str], "127.0.0.1"),
            (&["192.0.2.1"], "192.0.2.1"),
            (&["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
            (&["198.51.100.9", "192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, 10.0.0.1"], "192.0.2.1"),
            (&["10.0.0.1"], "10.0.0.1"),
            (&["??, 192.0.2.1"], "192.0.2.1"),
            (&["?", "192.0.2.1"], "192.0.2.1"),
            (&["junk, 192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
        ] {
            assert_eq!(asked(headers).as_deref(), Ok(expected), "{headers:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_that_names_no_address_is_not_taken_for_its_client() {
        for headers in [
            &[""] as &[&str],
            &["unknown"],
            &["192.0.2.1,"],
            &["192.0.2.1, ?"],
            &["192.0.2.1, 10.0.0.1 10.0.0.2"],
            &["junk, 10.0.0.1"],
        ] {
            assert_eq!(asked(headers), Err(()), "{headers:?}");
        }
    }
}
