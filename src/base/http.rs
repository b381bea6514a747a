//! A client for HTTP, on a machine with the certificates of authorities or without.
//!
//! Where a machine has none, as an image made from scratch, only `https://` cannot be used: that is said when
//! somebody tries to, and is no reason not to start.

use reqwest::{Client, ClientBuilder};

/// The client that `configured` builds; where that fails for want of certificates, the same one that trusts
/// nobody: `http://` works, and `https://` fails with its reason.
pub fn client(configured: impl Fn() -> ClientBuilder) -> reqwest::Result<Client> {
    configured().build().or_else(|error| {
        tracing::warn!(
            %error,
            "no certificates of authorities were found, so https:// cannot be used: install ca-certificates, or set \
             SSL_CERT_FILE"
        );
        configured().tls_certs_only([]).build()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn without_certificates_there_is_a_client_all_the_same() {
        // A certificate that cannot be read stands for a machine without any: the first client cannot be built.
        let tries = Cell::new(0);
        let made = client(|| {
            tries.set(tries.get() + 1);
            match tries.get() {
                1 => Client::builder().user_agent("\n"),
                _ => Client::builder(),
            }
        });
        made.unwrap();
        assert_eq!(tries.get(), 2);
        assert!(client(|| Client::builder().user_agent("\n")).is_err(), "another fault stays one");
    }
}
