//! What must not be shown: passwords and keys, by name or inside a URL.

use serde_json::Value;
use url::Url;

const HIDDEN: &str = "***";

/// Whether something with this name is a secret by its name, in settings and in URL parameters.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    [
        "password",
        "passwd",
        "secret",
        "token",
        "credential",
        "signature",
        "access_key",
        "accesskey",
        "api_key",
        "apikey",
        "private_key",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// The value as it may be shown: secrets by name are hidden, and so are passwords and secret
/// parameters inside URLs.
pub fn redact(name: &str, value: &Value) -> Value {
    match value {
        Value::Null => Value::Null,
        _ if is_secret(name) => HIDDEN.into(),
        Value::String(text) => redact_url(text).into(),
        other => other.clone(),
    }
}

fn redact_url(text: &str) -> String {
    if !text.contains("://") {
        return text.to_owned();
    }
    let Ok(mut url) = Url::parse(text) else {
        return redact_unparsed(text);
    };
    let secret_query = url.query_pairs().any(|(name, _)| is_secret(&name));
    if url.password().is_none() && !secret_query {
        // Not the parsed URL: it may be written differently from what the operator wrote.
        return text.to_owned();
    }
    if url.password().is_some() && url.set_password(Some(HIDDEN)).is_err() {
        return redact_unparsed(text);
    }
    if secret_query {
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let hide = is_secret(&name);
                let value = if hide { HIDDEN.into() } else { value };
                (name.into_owned(), value.into_owned())
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.into()
}

/// Hides everything before the last `@` of the authority of something that is not a valid URL.
fn redact_unparsed(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, tail)) => format!("{scheme}://{HIDDEN}@{tail}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, value: &str) -> String {
        match redact(name, &value.into()) {
            Value::String(text) => text,
            other => other.to_string(),
        }
    }

    #[test]
    fn passwords_and_secret_parameters_disappear() {
        assert_eq!(shown("store", "s3://key:hunter2@bucket/prefix"), "s3://key:***@bucket/prefix");
        let url = shown("store", "s3://bucket/p?region=eu&secret_access_key=hunter2");
        assert!(!url.contains("hunter2"), "{url}");
        assert!(url.contains("region=eu"), "{url}");
        assert!(!shown("store", "s3://a:hunter2@:bad:/x").contains("hunter2"));
        assert_eq!(shown("auth_token", "hunter2"), "***");
        assert_eq!(redact("auth_token", &Value::Null), Value::Null);
    }

    #[test]
    fn what_is_not_secret_stays_as_written() {
        for text in ["s3://Bucket/a", "file://./data", "memory:", "./a@b:c", "s3://user@bucket/a"] {
            assert_eq!(shown("store", text), text);
        }
    }
}
