//! Which machines a call may reach whose address somebody else has a say in: those of the public internet alone.
//!
//! A name is resolved once, by the connection itself, and every address that it has must be public: there is no second
//! look-up that could answer something else (<https://cwe.mitre.org/data/definitions/918.html>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::{Code, Error, Result};

/// Resolves names to public addresses, or not at all.
#[derive(Clone, Copy, Debug)]
pub struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if found.is_empty() || !found.iter().all(|address| is_public(address.ip())) {
                return Err(Box::from(refused()));
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Refuses addresses that name a machine by number which is not public; names are judged when they are resolved.
pub fn check(url: &Url) -> Result<()> {
    let number = match url.host() {
        Some(url::Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(url::Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(url::Host::Domain(_)) | None => None,
    };
    if number.is_some_and(|address| !is_public(address)) {
        return Err(refused());
    }
    if url.scheme() != "https" {
        return Err(Error::new(Code::ReplyTarget, "a call to this address must be encrypted"));
    }
    Ok(())
}

fn refused() -> Error {
    Error::new(Code::ReplyTarget, "the address lies in a private network")
        .hint("only public addresses are called unless the operator allows this one")
}

/// Whether an address belongs to the public internet, by the special-purpose registries of IANA
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>, <https://www.iana.org/assignments/iana-ipv6-special-registry>).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19));
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        // Of IPv4 in other clothes the address inside counts: mapped, NAT64, 6to4.
        _ if (a, b, c, d, e, f) == (0, 0, 0, 0, 0, 0xffff) => is_public_v4(embedded(g, h)),
        _ if (a, b, c, d, e, f) == (0x64, 0xff9b, 0, 0, 0, 0) => is_public_v4(embedded(g, h)),
        (0x2002, _) => is_public_v4(embedded(b, c)),
        // Teredo, benchmarking, ORCHID and documentation.
        (0x2001, 0..0x0200) | (0x2001, 0x0db8) | (0x3fff, _) => false,
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for public in
            ["1.1.1.1", "140.82.112.3", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.0.0.1",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.170",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "203.0.113.7",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fec0::1",
            "100::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn numbers_in_every_spelling_are_seen_through() {
        for address in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/",
            "https://%31%32%37.0.0.1/",
            "https://①②⑦.0.0.1/",
            "http://1.1.1.1/",
        ] {
            let url = Url::parse(address).unwrap();
            assert_eq!(check(&url).unwrap_err().code(), Code::ReplyTarget, "{address}");
        }
        assert!(check(&Url::parse("https://1.1.1.1/x").unwrap()).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_home_is_not_resolved() {
        let name: Name = "localhost".parse().unwrap();
        let Err(error) = PublicOnly.resolve(name).await else { panic!("resolved") };
        assert!(error.to_string().contains("private network"), "{error}");
    }
}
