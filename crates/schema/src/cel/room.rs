//! CEL's parser and evaluation are recursive and take tens of kilobytes for every level: what nests
//! deep runs on a stack of its own. Neither may end the process when it panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, ScopedJoinHandle, scope};

/// Enough for the parser over the longest rule; only what is used is ever mapped.
const STACK: usize = 512 << 20;

/// Runs `work` with much room; `None` when it panics or there is no thread for it.
pub(super) fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    scope(|scope| {
        let thread = Builder::new().name("cel".to_owned()).stack_size(STACK);
        thread
            .spawn_scoped(scope, work)
            .map(ScopedJoinHandle::join)
            .ok()?
            .ok()
    })
}

/// Runs `work` here; `None` when it panics. What it borrows is not looked at again then.
pub(super) fn here<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}
