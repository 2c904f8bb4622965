//! What concerns FedoraMessages in an embedded API: the rule about writes, and a publisher whose pods run as processes.

use anyhow::{Context as _, Result};
use drover_apiserver::server::{Admission, AdmissionRequest};
use drover_apiserver::status::{ApiError, ApiResult};
use drover_core::publish::admission;
use drover_core::publish::pod::{PodSettings, Program};
use drover_publisher::{Sender, install};
use drover_runtime::clock::Clock;
use drover_runtime::health::Gate;
use drover_runtime::metrics::Metrics;
use drover_runtime::supervise::Tasks;
use drover_workloads::Local;
use kube::Client;
use serde_json::Value;

use crate::{cli, publisher};

/// What pods call this program.
const IMAGE: &str = "drover.local/drover";

/// Lets in only messages that can be sent, and no other one once the sending began.
pub struct MessageRules;

impl Admission for MessageRules {
    fn validate(&self, request: &AdmissionRequest<'_>, object: &Value) -> ApiResult<()> {
        let resource = request.resource;
        let ours =
            &*resource.group == "apps.fedoraproject.org" && &*resource.plural == "fedoramessages";
        if !ours || !request.subresource.is_empty() {
            return Ok(());
        }
        admission::admit(request.old, object)
            .map_err(|why| ApiError::forbidden(resource.subject(request.name), &why))
    }
}

/// Starts the publisher of a hub, and a node for its pods; `served` opens when messages can be made.
pub fn publish(
    name: &str,
    client: &Client,
    args: &cli::Messaging,
    folder: &std::path::Path,
    metrics: Option<Metrics>,
    served: Gate,
    tasks: &mut Tasks,
) -> Result<()> {
    let local = Local {
        image: IMAGE.to_owned(),
        program: std::env::current_exe().context("this program cannot find itself")?,
        folder: folder.join("pods").join(name),
    };
    let cancel = tasks.cancel_token();
    let node = drover_workloads::run_with(client.clone(), Clock::system(), local, cancel.clone());
    tasks.spawn(format!("workloads of {name}"), node);
    let sender = if args.messaging_in_process {
        Sender::InProcess
    } else {
        Sender::Pod(PodSettings {
            image: IMAGE.to_owned(),
            program: Program::Drover,
            pull_secret: None,
        })
    };
    let client = client.clone();
    let mut publisher = publisher::prepare(client.clone(), args, sender);
    publisher.metrics = metrics;
    tasks.spawn(format!("publisher of {name}"), async move {
        install::install(&client).await?;
        served.open();
        publisher.run(cancel).await
    });
    Ok(())
}
