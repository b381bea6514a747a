//! Variables that Kubernetes sets by itself: for each Service of a namespace, in every container there.
//!
//! A Service called `brainy` makes `BRAINY_SERVICE_HOST`, `BRAINY_SERVICE_PORT`, `BRAINY_PORT`,
//! `BRAINY_PORT_7700_TCP` and more; one called `brainy-writer` the same behind `BRAINY_WRITER_`. Nobody wrote
//! them, so they are no settings with a wrong name. They are known by name and value together: what a person
//! writes, `BRAINY_PORT=8080` for example, has another value and stays an error.

use std::collections::BTreeSet;
use std::net::IpAddr;
use url::Url;

/// The Service that made a variable, as it stands in the names: `BRAINY_WRITER`.
pub(super) fn service<'a>(name: &'a str, value: &str) -> Option<&'a str> {
    if let Some(service) = name.strip_suffix("_SERVICE_HOST") {
        return is_address(value).then_some(service);
    }
    // A port of the Service may have a name, which comes last.
    if let Some((service, port_name)) = name.split_once("_SERVICE_PORT")
        && (port_name.is_empty() || port_name.starts_with('_'))
        && is_port(value)
    {
        return Some(service);
    }
    if let Some(service) = name.strip_suffix("_PORT")
        && is_url(value)
    {
        return Some(service);
    }
    // X_PORT_7700_TCP and X_PORT_7700_TCP_PROTO, _PORT, _ADDR.
    let (service, rest) = name.rsplit_once("_PORT_")?;
    let mut parts = rest.split('_');
    let (port, protocol) = (parts.next()?, parts.next()?);
    if !is_port(port) || !is_protocol(&protocol.to_ascii_lowercase()) {
        return None;
    }
    let valid = match (parts.next(), parts.next()) {
        (None, _) => is_url(value),
        (Some("PROTO"), None) => is_protocol(value),
        (Some("PORT"), None) => is_port(value),
        (Some("ADDR"), None) => is_address(value),
        _ => false,
    };
    valid.then_some(service)
}

/// What to say once of all variables that were left alone.
pub(super) fn notice(names: &[&str], services: &BTreeSet<&str>) -> String {
    let list = |names: &mut dyn Iterator<Item = String>| names.collect::<Vec<_>>().join(", ");
    format!(
        "left {} variables alone that Kubernetes sets for the services {}: {}; with enableServiceLinks: \
         false in the pod's spec it sets none",
        names.len(),
        list(&mut services.iter().map(|name| name.to_ascii_lowercase().replace('_', "-"))),
        list(&mut names.iter().map(|name| (*name).to_owned())),
    )
}

fn is_protocol(text: &str) -> bool {
    matches!(text, "tcp" | "udp" | "sctp")
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// `tcp://10.0.0.1:7700`, and nothing behind the port.
fn is_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        is_protocol(url.scheme())
            && url.port().is_some()
            && url.host_str().is_some_and(|host| is_address(host.trim_matches(['[', ']'])))
            && matches!(url.path(), "" | "/")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_sets_is_known_by_name_and_value() {
        for (name, value, made_by) in [
            ("BRAINY_SERVICE_HOST", "10.0.0.1", "BRAINY"),
            ("BRAINY_SERVICE_HOST", "fd00::1", "BRAINY"),
            ("BRAINY_SERVICE_PORT", "7700", "BRAINY"),
            ("BRAINY_SERVICE_PORT_HTTP_API", "7700", "BRAINY"),
            ("BRAINY_PORT", "tcp://10.0.0.1:7700", "BRAINY"),
            ("BRAINY_PORT", "tcp://[fd00::1]:7700", "BRAINY"),
            ("BRAINY_PORT_7700_TCP", "tcp://10.0.0.1:7700", "BRAINY"),
            ("BRAINY_PORT_7700_TCP_PROTO", "tcp", "BRAINY"),
            ("BRAINY_PORT_7700_TCP_PORT", "7700", "BRAINY"),
            ("BRAINY_PORT_7700_TCP_ADDR", "10.0.0.1", "BRAINY"),
            ("BRAINY_PORT_53_UDP_ADDR", "10.0.0.1", "BRAINY"),
            ("BRAINY_SERVICE_PORT", "tcp://10.0.0.1:7700", "BRAINY_SERVICE"),
            ("BRAINY_WRITER_SERVICE_HOST", "10.0.0.1", "BRAINY_WRITER"),
            ("BRAINY_WRITER_PORT", "tcp://10.0.0.1:80", "BRAINY_WRITER"),
            ("BRAINY_WRITER_PORT_80_SCTP", "sctp://10.0.0.1:80", "BRAINY_WRITER"),
        ] {
            assert_eq!(service(name, value), Some(made_by), "{name}={value}");
        }
    }

    #[test]
    fn what_a_person_writes_is_not() {
        for (name, value) in [
            ("BRAINY_PORT", "8080"),
            ("BRAINY_PORT", "http://10.0.0.1:7700"),
            ("BRAINY_PORT", "tcp://somewhere:7700"),
            ("BRAINY_SERVICE_HOST", "writer.example.com"),
            ("BRAINY_SERVICE_PORTS", "7700"),
            ("BRAINY_LISTEN_PORT", "7700"),
            ("BRAINY_PORT_7700_TCP_NAME", "tcp"),
            ("BRAINY_PORT_7700_TCP_ADDR", "somewhere"),
            ("BRAINY_PORT_HTTP_TCP", "tcp://10.0.0.1:7700"),
            ("BRAINY_SERVICE_ENDPOINTS", "http://10.0.0.1"),
        ] {
            assert_eq!(service(name, value), None, "{name}={value}");
        }
    }
}
