//! Which values make sense? Every limit stands here and nowhere else.

use super::{Effective, Settings, Source};
use crate::base::{Code, Error, Result};
use tracing_subscriber::EnvFilter;
use url::Url;

/// The least a conditional PUT needs on S3: losers of a hot race may wait this long.
const S3_CAS_TIMEOUT_MS_MIN: u64 = 30_000;
const HOUR_MS: u64 = 3_600_000;
/// Larger than any store; keeps sums of sizes far from overflow.
const BYTES_MAX: u64 = 1 << 50;

/// The levels of log lines, the fewest lines first.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

struct Limit {
    key: &'static str,
    min: u64,
    max: u64,
    /// `None` where it is not set.
    get: fn(&Settings) -> Option<u64>,
}

macro_rules! limits {
    ($($key:ident: $min:expr, $max:expr;)* [optional] $($option:ident: $least:expr, $most:expr;)*) => {
        &[$(Limit {
            key: stringify!($key),
            min: $min,
            max: $max,
            get: |settings| Some(settings.$key as u64),
        },)* $(Limit {
            key: stringify!($option),
            min: $least,
            max: $most,
            get: |settings| settings.$option.map(u64::from),
        },)*]
    };
}

const LIMITS: &[Limit] = limits! {
    poll_interval_ms: 10, HOUR_MS;
    stale_max_ms: 0, 24 * HOUR_MS;
    collection_idle_ms: 1_000, 24 * HOUR_MS;
    wait_ms_max: 0, HOUR_MS;
    batch_max_bytes: 1, BYTES_MAX;
    batch_max_records: 1, 10_000_000;
    batch_linger_ms: 0, 60_000;
    wal_inline_max_bytes: 0, 1 << 30;
    upload_concurrency: 1, 1_024;
    write_queue_max_bytes: 1, BYTES_MAX;
    tail_max_bytes: 1, BYTES_MAX;
    tail_total_max_bytes: 1, BYTES_MAX;
    compaction_max_bytes: 1, BYTES_MAX;
    gc_grace_ms: 10_000, 30 * 24 * HOUR_MS;
    manifest_history_ms: 60_000, 3_650 * 24 * HOUR_MS;
    index_interval_ms: 10, HOUR_MS;
    index_after_bytes: 1, BYTES_MAX;
    index_after_ms: 0, 24 * HOUR_MS;
    index_scan_interval_ms: 1_000, 24 * HOUR_MS;
    segment_max_bytes: 1 << 20, 5 << 30;
    segment_max_rows: 1_000, 10_000_000;
    index_m: 4, 64;
    index_ef_construction: 16, 2_000;
    compaction_fanout: 2, 64;
    compaction_dead_percent: 1, 100;
    partition_max_vectors: 1_000, 1_000_000_000;
    lease_ttl_ms: 1_000, HOUR_MS;
    cache_max_bytes: 1, BYTES_MAX;
    store_concurrency: 1, 65_536;
    store_timeout_ms: 1, HOUR_MS;
    store_cas_timeout_ms: 1, HOUR_MS;
    store_retries: 0, 100;
    max_body_bytes: 1_024, BYTES_MAX;
    max_answer_bytes: 1_024, BYTES_MAX;
    request_memory_bytes: 1 << 20, BYTES_MAX;
    max_concurrent_requests: 1, 1_000_000;
    request_timeout_ms: 1, 24 * HOUR_MS;
    max_connections: 1, 1_000_000;
    idle_timeout_ms: 100, HOUR_MS;
    body_idle_timeout_ms: 100, HOUR_MS;
    shutdown_delay_ms: 0, HOUR_MS;
    shutdown_timeout_ms: 0, HOUR_MS;
    compute_threads: 0, 1_024;
    heartbeat_interval_ms: 100, HOUR_MS;
    instance_timeout_ms: 200, 24 * HOUR_MS;
    instance_remove_ms: 0, 30 * 24 * HOUR_MS;
    leader_lease_ms: 1_000, HOUR_MS;
    lag_max_ms: 0, 24 * HOUR_MS;
    lag_max_bytes: 0, BYTES_MAX;
    memory_max_bytes: 0, BYTES_MAX;
    replication_timeout_ms: 1, HOUR_MS;
    [optional]
    partition_count: 1, 4_096;
    dimensions: 1, 4_096;
    memory_limit_bytes: 16 << 20, BYTES_MAX;
};

/// Least and greatest value of a setting that is a number.
pub fn range(key: &str) -> Option<(u64, u64)> {
    let limit = LIMITS.iter().find(|limit| limit.key == key)?;
    Some((limit.min, limit.max))
}

impl Settings {
    /// Checks every limit and every rule between settings; the error names all faults.
    pub fn validate(&self) -> Result<()> {
        validate(&Effective::from(self.clone()))
    }
}

/// As [`Settings::validate`], and says where each faulty value came from.
pub(super) fn validate(effective: &Effective) -> Result<()> {
    let faults = faults(&effective.settings);
    let mut errors = faults.iter().map(|(key, fault)| invalid(key, effective.source(key), fault));
    let Some(first) = errors.next() else {
        return Ok(());
    };
    let mut message = first.message().to_owned();
    for error in errors {
        message.push_str("; ");
        message.push_str(error.message());
    }
    Err(Error::new(Code::InvalidSettings, message).with("key", faults[0].0))
}

/// The error about one setting.
pub(super) fn invalid(key: &str, source: &Source, fault: &str) -> Error {
    let message = match source {
        Source::Default => format!("setting {key} {fault}"),
        source => format!("setting {key} ({source}) {fault}"),
    };
    Error::new(Code::InvalidSettings, message).with("key", key).with("source", source.to_string())
}

type Faults = Vec<(&'static str, String)>;

fn faults(settings: &Settings) -> Faults {
    let mut faults = Faults::new();
    for limit in LIMITS {
        if let Some(value) = (limit.get)(settings)
            && !(limit.min..=limit.max).contains(&value)
        {
            let (min, max) = (limit.min, limit.max);
            faults.push((limit.key, format!("is {value}: use {min} to {max}")));
        }
    }
    let mut check = |key, fault: Option<String>| faults.extend(fault.map(|fault| (key, fault)));
    check("store", store_fault(&settings.store));
    check("listen", listen_fault(&settings.listen));
    let endpoint = settings.service_endpoint.as_deref();
    check("service_endpoint", endpoint.and_then(public_endpoint_fault));
    let instance = settings.instance_id.as_deref();
    check("instance_id", instance.and_then(instance_fault));
    check("log_level", log_level_fault(&settings.log_level));
    check("data_dir", settings.data_dir.as_deref().and_then(data_dir_fault));
    check("config_path", config_path_fault(&settings.config_path));
    check("instance_timeout_ms", instance_timeout_fault(settings));
    check("embedding_model", settings.embedding_model.as_deref().and_then(model_fault));
    check("otlp_endpoint", settings.otlp_endpoint.as_deref().and_then(endpoint_fault));
    check("cors_allowed_origins", origins_fault(settings));
    check("batch_max_bytes", batch_fault(settings));
    check("request_memory_bytes", request_memory_fault(settings));
    check("store_cas_timeout_ms", cas_timeout_fault(settings));
    faults
}

fn origins_fault(settings: &Settings) -> Option<String> {
    let is_origin = |origin: &String| {
        origin == "*"
            || Url::parse(origin).is_ok_and(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.origin().ascii_serialization() == *origin
            })
    };
    let wrong = settings.allowed_origins().into_iter().find(|origin| !is_origin(origin))?;
    Some(format!(
        "has {wrong:?}: use origins as browsers write them, such as https://app.example.com"
    ))
}

fn batch_fault(settings: &Settings) -> Option<String> {
    let (batch, queue) = (settings.batch_max_bytes, settings.write_queue_max_bytes);
    (batch > queue).then(|| {
        format!("is {batch}: use at most write_queue_max_bytes ({queue}), or no batch ever fills")
    })
}

/// A body, or an answer, takes twice its size: as bytes and as values. Each kind has half of the memory.
const MEMORY_PER_BYTE: u64 = 4;

fn request_memory_fault(settings: &Settings) -> Option<String> {
    let value = settings.request_memory_bytes;
    let (body, answer) = (settings.max_body_bytes, settings.max_answer_bytes);
    let (name, largest) = match body >= answer {
        true => ("max_body_bytes", body),
        false => ("max_answer_bytes", answer),
    };
    let least = largest.saturating_mul(MEMORY_PER_BYTE);
    (value < least).then(|| {
        format!(
            "is {value}: use at least {MEMORY_PER_BYTE} times {name} ({largest}), which is {least}, or the \
             largest never fits"
        )
    })
}

fn cas_timeout_fault(settings: &Settings) -> Option<String> {
    let value = settings.store_cas_timeout_ms;
    (settings.store_is_s3() && value < S3_CAS_TIMEOUT_MS_MIN).then(|| {
        format!("is {value}: use at least {S3_CAS_TIMEOUT_MS_MIN} on S3, where a conditional PUT may wait that long")
    })
}

fn instance_timeout_fault(settings: &Settings) -> Option<String> {
    let (timeout, interval) = (settings.instance_timeout_ms, settings.heartbeat_interval_ms);
    (timeout < 2 * interval).then(|| {
        format!(
            "is {timeout}: use at least twice heartbeat_interval_ms ({interval}), or one heartbeat that \
             is late makes an instance that is alive count as dead"
        )
    })
}

fn data_dir_fault(folder: &str) -> Option<String> {
    let fault = if folder.trim().is_empty() {
        "is empty"
    } else if folder.contains("://") {
        "is a URL"
    } else {
        return None;
    };
    Some(format!("{fault}: use a folder of this instance alone, for example /var/lib/brainy"))
}

fn config_path_fault(path: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(plain);
    let valid = path.len() <= 512
        && path.strip_suffix(".json").is_some_and(|name| !name.is_empty() && !name.ends_with('/'))
        && path.split('/').all(part);
    (!valid).then(|| {
        format!(
            "is {path:?}: use a key in the store of a-z, A-Z, 0-9, '.', '_', '-' and '/', without '/' at \
             the start, '.' or '..', that ends in .json, for example _brainy/config.json"
        )
    })
}

fn model_fault(model: &str) -> Option<String> {
    let valid = (1..=256).contains(&model.len()) && !model.contains(char::is_control);
    (!valid).then(|| "must be 1 to 256 bytes without control characters".to_owned())
}

fn store_fault(store: &str) -> Option<String> {
    let advice = "use s3://bucket/prefix, file:///folder, a folder or memory:";
    if store.trim().is_empty() {
        return Some(format!("is empty: {advice}"));
    }
    let (scheme, rest) = store.split_once("://")?;
    match scheme.to_ascii_lowercase().as_str() {
        "s3" if rest.split('/').next().is_none_or(str::is_empty) => {
            Some(format!("names no bucket: {advice}"))
        }
        "file" if rest.is_empty() => Some(format!("names no folder: {advice}")),
        "s3" | "file" | "memory" => None,
        other => Some(format!("has the unknown scheme {other:?}: {advice}")),
    }
}

fn listen_fault(listen: &str) -> Option<String> {
    let port = listen
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .and_then(|(_, port)| port.parse::<u16>().ok());
    port.is_none().then(|| format!("is {listen:?}: use ADDRESS:PORT, for example 0.0.0.0:3000"))
}

fn endpoint_fault(endpoint: &str) -> Option<String> {
    let valid = Url::parse(endpoint)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    (!valid).then(|| "must be a URL such as http://host:3000".to_owned())
}

/// What others are told stands in the store, and every node shows it.
fn public_endpoint_fault(endpoint: &str) -> Option<String> {
    endpoint_fault(endpoint).or_else(|| {
        let url = Url::parse(endpoint).ok()?;
        let secret = !url.username().is_empty() || url.password().is_some();
        let fault = if secret {
            "holds a user or a password"
        } else if url.query().is_some() || url.fragment().is_some() {
            "has something behind its path"
        } else {
            return None;
        };
        Some(format!(
            "{fault}, and all nodes of the cluster can read it: use the bare address, such as \
             http://host:3000"
        ))
    })
}

/// Checks the URL under which others are told to reach this instance.
pub fn check_service_endpoint(endpoint: &str) -> Result<()> {
    match public_endpoint_fault(endpoint) {
        Some(fault) => Err(invalid("service_endpoint", &Source::Default, &fault)),
        None => Ok(()),
    }
}

/// The URL without what must not be shown, where somebody has written that into the store all the same.
pub fn bare_endpoint(endpoint: &str) -> String {
    match (public_endpoint_fault(endpoint), Url::parse(endpoint)) {
        (Some(_), Ok(mut url)) => {
            // Only a URL without a host has no place for a user, and then there is none.
            let _ = (url.set_username(""), url.set_password(None));
            url.set_query(None);
            url.set_fragment(None);
            url.to_string().trim_end_matches('/').to_owned()
        }
        _ => endpoint.to_owned(),
    }
}

fn instance_fault(id: &str) -> Option<String> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let valid = (1..=128).contains(&id.len())
        && id.bytes().all(letter)
        && id.as_bytes()[0].is_ascii_alphanumeric();
    (!valid).then(|| {
        format!(
            "is {id:?}: use 1 to 128 characters of a-z, A-Z, 0-9, '.', '_' and '-', \
             starting with a letter or digit"
        )
    })
}

/// Checks an instance's name.
pub fn check_instance_id(id: &str) -> Result<()> {
    match instance_fault(id) {
        Some(fault) => Err(invalid("instance_id", &Source::Default, &fault)),
        None => Ok(()),
    }
}

fn log_level_fault(level: &str) -> Option<String> {
    if let Err(error) = EnvFilter::try_new(level) {
        return Some(format!("is {level:?}: use for example info or brainy=debug ({error})"));
    }
    // A word alone would be a target from which everything is written, and nothing from all others.
    let word = level.split(',').map(str::trim).find(|part| {
        let target = part.contains(['=', '[', ':']) || part.is_empty();
        !target && !LEVELS.contains(&part.to_ascii_lowercase().as_str())
    })?;
    Some(format!(
        "has {word:?}, which is no level: use {}, or {word}=debug where it is a target",
        LEVELS.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_with_a_slip_is_no_target() {
        for good in
            ["info", "WARN", "off", "info,brainy=debug", "brainy::role=trace", "a::b", "[x]=info"]
        {
            assert_eq!(log_level_fault(good), None, "{good}");
        }
        for bad in ["deubg", "info,warning", "brainy=loud", "verbose"] {
            assert!(log_level_fault(bad).is_some(), "{bad}");
        }
        assert!(log_level_fault("deubg").unwrap().contains("debug"));
    }

    #[test]
    fn an_endpoint_that_all_can_read_holds_no_secret() {
        for good in ["http://writer:3000", "https://writer.example.com/brainy", "http://[::1]:3000"]
        {
            assert_eq!(public_endpoint_fault(good), None, "{good}");
            assert_eq!(bare_endpoint(good), good);
        }
        for bad in [
            "http://ada:hunter2@writer:3000",
            "http://hunter2@writer:3000",
            "http://writer:3000?token=hunter2",
            "http://writer:3000#hunter2",
        ] {
            let error = check_service_endpoint(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidSettings);
            assert!(!error.message().contains("hunter2"), "{error}");
            assert_eq!(bare_endpoint(bad), "http://writer:3000");
        }
    }
}
