//! Tasks that cannot die unseen.

use std::fmt::Display;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// A task ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("{task} stopped: {why}")]
pub struct TaskFailed {
    /// The name it was spawned with.
    pub task: String,
    /// Its error, or how it panicked.
    pub why: String,
}

/// The tasks of one role. When one of them fails or panics, all are cancelled and the role ends
/// with the reason.
#[derive(Debug)]
pub struct Tasks {
    cancel: CancellationToken,
    set: JoinSet<(String, Result<(), String>)>,
}

impl Tasks {
    /// No tasks yet; `cancel` asks all of them to end.
    pub fn new(cancel: CancellationToken) -> Self {
        Self {
            cancel,
            set: JoinSet::new(),
        }
    }

    /// The token that ends all tasks.
    pub fn cancel_token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Runs a task that may fail.
    pub fn spawn<E: Display>(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let name = name.into();
        let cancel = self.cancel.clone();
        // What it logs stays under the span of whoever started it.
        let task = task.in_current_span();
        self.set.spawn(async move {
            let outcome =
                tokio::spawn(async move { task.await.map_err(|error| error.to_string()) });
            match outcome.await {
                Ok(result) => (name, result),
                Err(error) if error.is_panic() => {
                    (name, Err(panic_text(error.into_panic().as_ref())))
                }
                Err(_) if cancel.is_cancelled() => (name, Ok(())),
                Err(error) => (name, Err(error.to_string())),
            }
        });
    }

    /// Runs a task that ends only when cancelled.
    pub fn run(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(name, async move {
            task.await;
            Ok::<(), std::convert::Infallible>(())
        });
    }

    /// Waits until the token is cancelled or a task ends too early, then gives the tasks `grace` to
    /// end by themselves and drops those that do not.
    ///
    /// # Errors
    /// The first task that failed, panicked, or ended though nobody cancelled.
    pub async fn wait(mut self, grace: Duration) -> Result<(), TaskFailed> {
        let mut failed = None;
        tokio::select! {
            () = self.cancel.cancelled() => {}
            Some(ended) = self.set.join_next(), if !self.set.is_empty() => {
                failed = verdict(ended, self.cancel.is_cancelled());
            }
        }
        self.cancel.cancel();
        let drain = async {
            while let Some(ended) = self.set.join_next().await {
                let late = verdict(ended, true);
                if failed.is_none() {
                    failed = late;
                }
            }
        };
        if tokio::time::timeout(grace, drain).await.is_err() {
            tracing::warn!(?grace, "some tasks did not end in time and were dropped");
        }
        failed.map_or(Ok(()), Err)
    }
}

fn verdict(
    ended: Result<(String, Result<(), String>), tokio::task::JoinError>,
    cancelled: bool,
) -> Option<TaskFailed> {
    match ended {
        Ok((task, Err(why))) => Some(TaskFailed { task, why }),
        Ok((task, Ok(()))) if !cancelled => Some(TaskFailed {
            task,
            why: "it ended by itself".to_owned(),
        }),
        Ok(_) => None,
        Err(error) => Some(TaskFailed {
            task: "a task".to_owned(),
            why: error.to_string(),
        }),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    format!("it panicked: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ended(name: &str, start: impl FnOnce(&mut Tasks)) -> String {
        let mut tasks = Tasks::new(CancellationToken::new());
        let cancel = tasks.cancel_token();
        tasks.run("patient", async move { cancel.cancelled().await });
        start(&mut tasks);
        let failed = tasks.wait(Duration::from_secs(1)).await;
        failed.map_or_else(|error| error.to_string(), |()| format!("{name} ended well"))
    }

    #[tokio::test]
    async fn the_first_failure_ends_all_and_is_told() {
        let text = ended("failing", |tasks| {
            tasks.spawn("failing", async { Err("no disk") });
        })
        .await;
        assert_eq!(text, "failing stopped: no disk");
    }

    #[tokio::test]
    async fn a_panic_is_told() {
        let text = ended("panicking", |tasks| {
            tasks.run("panicking", async { panic!("at the disco") });
        })
        .await;
        assert_eq!(text, "panicking stopped: it panicked: at the disco");
    }

    #[tokio::test]
    async fn an_early_end_is_a_failure_and_a_late_one_is_not() {
        let text = ended("short", |tasks| tasks.run("short", async {})).await;
        assert_eq!(text, "short stopped: it ended by itself");
        let text = ended("all", |tasks| tasks.cancel_token().cancel()).await;
        assert_eq!(text, "all ended well");
    }
}
