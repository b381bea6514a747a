//! A log line is one line: what a client has sent never starts another, nor moves a terminal's cursor.

use std::io::{self, Write};
use tracing_appender::non_blocking::NonBlocking;
use tracing_subscriber::fmt::MakeWriter;

/// Writes each line with its control characters escaped.
#[derive(Debug, Clone)]
pub struct OneLine {
    /// Where to.
    pub writer: NonBlocking,
    /// Whether lines hold the marks of colours.
    pub colours: bool,
}

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = OneLine;

    fn make_writer(&'a self) -> OneLine {
        self.clone()
    }
}

impl Write for OneLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match escaped(bytes, self.colours) {
            Some(line) => self.writer.write_all(line.as_bytes())?,
            None => self.writer.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// A line without control characters but the one at its end; `None` where it is so already.
fn escaped(bytes: &[u8], colours: bool) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let bad = |c: char| c.is_control() && !(colours && c == '\u{1b}');
    line.contains(bad).then(|| {
        let mut plain = String::with_capacity(line.len() + 16);
        for c in line.chars() {
            if bad(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
        }
        plain.push('\n');
        plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines() {
        assert_eq!(escaped(b"all is well\n", false), None);
        let said = "id=a\n2026 ERROR forged\r\u{1b}[2J\u{85}\n".as_bytes();
        let line = escaped(said, false).unwrap();
        assert_eq!(line, "id=a\\n2026 ERROR forged\\r\\u{1b}[2J\\u{85}\n");
        assert_eq!(escaped("\u{1b}[32mINFO\u{1b}[0m\n".as_bytes(), true), None);
    }
}
