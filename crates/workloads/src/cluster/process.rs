//! Pods that really run.

use std::sync::Arc;

use drover_runtime::controller::Next;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt as _;

use super::{Cluster, Key, WorkloadsError};
use crate::local::{Ended, Runs, State};
use crate::pod;

impl Cluster {
    /// Runs the process of a pod, and reports it.
    pub(super) async fn process(
        &self,
        runs: &Arc<Runs>,
        found: &Pod,
        container: &Container,
    ) -> Result<Next, WorkloadsError> {
        let uid = found.uid().unwrap_or_default();
        let ended = match runs.state(&uid) {
            State::Going => None,
            State::Over(ended) => Some(ended),
            State::Unknown if pod::was_started(found) => {
                Some(Ended::killed("NodeRestarted", "the node was started anew"))
            }
            State::Unknown => {
                let key = Key::Pod(found.namespace().unwrap_or_default(), found.name_any());
                let queue = self.queue.clone();
                let over = move || queue.add(key);
                runs.start(&self.client, found, container, over).await?;
                None
            }
        };
        if let Some(status) = pod::of_process(found, ended.as_ref(), self.clock.now()) {
            self.report(found, &status).await?;
        }
        Ok(Next::OnChange)
    }
}
