//! Can the runtime that the embedding program has brought do what an instance needs?
//!
//! Error semantics: `runtime_unsuitable`, with what to do. Without this look the first timer would panic in the
//! middle of a task.

use crate::base::{Code, Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use tokio::runtime::Handle;

const ADVICE: &str = "build it with tokio::runtime::Builder::enable_all, or use #[tokio::main]";

/// Refuses a thread without a tokio runtime, and a runtime without timers. `network` asks for input and output
/// as well, which buckets and the HTTP API need.
pub fn check(network: bool) -> Result<()> {
    let unsuitable =
        |fault: &str| Err(Error::new(Code::RuntimeUnsuitable, format!("{fault}; {ADVICE}")));
    if Handle::try_current().is_err() {
        return unsuitable("this is no task of a tokio runtime, which brainy works in");
    }
    // Tokio can be asked for neither in another way.
    if !succeeds(|| drop(tokio::time::sleep(Duration::ZERO))) {
        return unsuitable("the tokio runtime has no timers (Builder::enable_time)");
    }
    if network && !succeeds(|| drop(std::hint::black_box(open_socket()))) {
        return unsuitable("the tokio runtime has no network (Builder::enable_io)");
    }
    Ok(())
}

fn open_socket() -> std::io::Result<tokio::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}

fn succeeds(work: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::runtime::Builder;

    fn refused(result: Result<()>, word: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.code(), Code::RuntimeUnsuitable);
        assert!(
            error.message().contains(word) && error.message().contains("enable_all"),
            "{error}"
        );
    }

    #[test]
    fn what_a_runtime_lacks_is_said() {
        refused(async { check(false) }.now_or_never().unwrap(), "no task of a tokio runtime");
        let bare = Builder::new_current_thread().build().unwrap();
        refused(bare.block_on(async { check(false) }), "enable_time");
        let timed = Builder::new_current_thread().enable_time().build().unwrap();
        refused(timed.block_on(async { check(true) }), "enable_io");
        timed.block_on(async { check(false) }).unwrap();
        let whole = Builder::new_current_thread().enable_all().build().unwrap();
        whole.block_on(async { check(true) }).unwrap();
    }
}
