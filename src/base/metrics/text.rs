//! The two texts that scrapers read: OpenMetrics 1.0, and Prometheus' own format 0.0.4.
//!
//! The client library writes the first. The second differs in what stands in comments: a counter's type is given
//! under the name of its sample, which ends in `_total`; there are no units and no end mark; what has no type is
//! `untyped`.

use std::fmt::Write;

/// A text format for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    Prometheus,
    /// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>
    OpenMetrics,
}

impl TextFormat {
    /// The media type of an answer in this format.
    pub fn media_type(self) -> &'static str {
        match self {
            TextFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            TextFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a client would rather have, by its header `accept`: Prometheus' own format where it does not say, or
    /// takes both alike.
    pub fn accepted_by(accept: &str) -> TextFormat {
        let open = weight(accept, "application", "openmetrics-text", &["1.0.0", "0.0.1"]);
        let plain = weight(accept, "text", "plain", &["0.0.4"]);
        if open > plain { TextFormat::OpenMetrics } else { TextFormat::Prometheus }
    }
}

/// How much a client wants a media type: the weight of the range that says most about it (RFC 9110, 12.5.1).
fn weight(accept: &str, kind: &str, subtype: &str, versions: &[&str]) -> f32 {
    // How much a range says, and its weight; of two that say as much, the greater.
    let mut best = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let Some((its_kind, its_subtype)) = parts.next().and_then(|range| range.split_once('/'))
        else {
            continue;
        };
        let is = |its: &str, own: &str| its.eq_ignore_ascii_case(own);
        let (mut says, mut weight) = match (its_kind, its_subtype) {
            ("*", "*") => (1, 1.0),
            (its, "*") if is(its, kind) => (2, 1.0),
            (its, sub) if is(its, kind) && is(sub, subtype) => (3, 1.0),
            _ => continue,
        };
        let mut fits = true;
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => weight = value.parse().unwrap_or(0.0),
                "version" => {
                    fits = versions.contains(&value);
                    says = 4;
                }
                _ => {}
            }
        }
        if fits && (says, weight) > best {
            best = (says, weight);
        }
    }
    best.1
}

/// A text in OpenMetrics as Prometheus' own format.
pub(super) fn plain(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|comment| comment.split_once(' '));
        // Writing into a string cannot fail.
        let _ = match comment {
            Some(("HELP", rest)) => {
                // Stands before the type, which says how the name ends.
                help = rest.split_once(' ').map_or("", |(_, help)| help);
                Ok(())
            }
            Some(("TYPE", rest)) => {
                let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
                let (end, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                writeln!(text, "# HELP {name}{end} {help}\n# TYPE {name}{end} {kind}")
            }
            _ if line.starts_with("# ") => Ok(()),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_what_it_would_rather_have() {
        use TextFormat::*;
        // As Prometheus 2 and 3, and as other clients send it.
        for (accept, format) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/plain", Prometheus),
            ("text/html, */*;q=0.8", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                OpenMetrics,
            ),
            ("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.8", Prometheus),
            ("application/openmetrics-text;q=0, */*", Prometheus),
            ("application/openmetrics-text;version=2.0.0", Prometheus),
            ("application/*, text/*;q=0.5", OpenMetrics),
            ("nonsense, /, ;;q=", Prometheus),
        ] {
            assert_eq!(TextFormat::accepted_by(accept), format, "{accept}");
        }
    }

    #[test]
    fn the_older_text_names_types_by_their_samples() {
        let open = "# HELP a Some.\n# TYPE a counter\na_total{x=\"# HELP\"} 1\n# HELP b_seconds T.\n\
                    # TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 1.5\n# HELP c C.\n\
                    # TYPE c unknown\nc 2\n# EOF\n";
        assert_eq!(
            plain(open),
            "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"# HELP\"} 1\n# HELP b_seconds T.\n\
             # TYPE b_seconds gauge\nb_seconds 1.5\n# HELP c C.\n# TYPE c untyped\nc 2\n"
        );
    }
}
