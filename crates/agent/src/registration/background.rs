//! Tasks that run for a part of an agent's life.

use drover_runtime::supervise::{TaskFailed, Tasks};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::DropGuard;

use super::GRACE;

/// Supervised tasks that are asked to end when this is dropped.
pub(crate) struct Background {
    name: &'static str,
    task: Option<JoinHandle<Result<(), TaskFailed>>>,
    stop: DropGuard,
}

impl Background {
    /// Takes over what was spawned on a token of its own.
    pub(crate) fn start(name: &'static str, tasks: Tasks) -> Self {
        let stop = tasks.cancel_token();
        let task = tokio::spawn(tasks.wait(GRACE));
        Self {
            name,
            task: Some(task),
            stop: stop.drop_guard(),
        }
    }

    /// Waits until one of the tasks failed or ended by itself.
    pub(crate) async fn failed(&mut self) -> TaskFailed {
        let Some(task) = &mut self.task else {
            return self.because("it ended before");
        };
        let ended = task.await;
        self.task = None;
        match self.outcome(ended) {
            Ok(()) => self.because("it ended by itself"),
            Err(failed) => failed,
        }
    }

    /// Ends the tasks, and waits until they ended.
    pub(crate) async fn stop(mut self) {
        let task = self.task.take();
        let name = self.name;
        drop(self.stop);
        let Some(task) = task else { return };
        match task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, part = name, "a part of the agent did not end well");
            }
            Err(error) => {
                tracing::warn!(%error, part = name, "a part of the agent did not end well");
            }
        }
    }

    fn outcome(&self, ended: Result<Result<(), TaskFailed>, JoinError>) -> Result<(), TaskFailed> {
        ended.unwrap_or_else(|error| Err(self.because(&error.to_string())))
    }

    fn because(&self, why: &str) -> TaskFailed {
        TaskFailed {
            task: self.name.to_owned(),
            why: why.to_owned(),
        }
    }
}
