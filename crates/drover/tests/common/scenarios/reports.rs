//! What the hub is told of works beyond that they are applied.

use anyhow::ensure;
use drover_testkit::eventually;
use kube::api::DeleteParams;
use serde_json::json;

use super::super::Ground;
use crate::world::{LONG, apply, conditions, gone};

/// A program that crashes is applied and available, and not healthy: the hub is told which pod, and why.
pub(super) async fn health_names_what_is_wrong(ground: Ground) {
    let works = ground.works();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "crashes", "namespace": ground.space, "annotations": {"simulation.drover.dev/fault": "CrashLoop"}},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "crashes"}}, "template": {
            "metadata": {"labels": {"app": "crashes"}}, "spec": {"containers": [{"name": "main", "image": "example/web:1"}]}}},
    });
    let name = ground.work("crashes", &[deployment]).await;
    let told = async || {
        let found = works.get(&name).await?;
        let seen = conditions(&found);
        for want in [
            "Available=True/ResourcesAvailable",
            "Healthy=False/ResourcesUnhealthy",
        ] {
            ensure!(seen.iter().any(|have| have == want), "{seen:?}");
        }
        let text = found.data["status"]["conditions"].to_string();
        ensure!(
            text.contains("CrashLoopBackOff") && text.contains("crashes"),
            "{text}"
        );
        Ok(())
    };
    eventually("the reason", LONG, told).await.unwrap();
    works.delete(&name, &DeleteParams::default()).await.unwrap();
    gone(&works, &name).await;
}

/// A job ends, its rule makes the work complete, and the hub deletes it when its time has passed.
pub(super) async fn a_work_that_is_done_goes_in_time(ground: Ground) {
    let (works, name) = (ground.works(), ground.own("done"));
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "done", "namespace": ground.space},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example/job:1"}]}}},
    });
    let mut work = crate::world::work(&name, &ground.fleet.name, &[job]);
    work["spec"]["manifestConfigs"] = json!([{
        "resourceIdentifier": {"group": "batch", "resource": "jobs", "namespace": ground.space, "name": "done"},
        "conditionRules": [
            {"condition": "Complete", "type": "WellKnownConditions"},
            {"condition": "Progressing", "type": "CEL", "celExpressions": ["!has(object.status.completionTime)"],
                "messageExpression": "result ? 'it runs' : 'it ran'"},
        ],
    }]);
    apply(&works, &work).await.unwrap();
    let complete = async || {
        let seen = conditions(&works.get(&name).await?);
        for want in [
            "Complete=True/ConditionRulesAggregated",
            "Progressing=False/ConditionRulesAggregated",
        ] {
            ensure!(seen.iter().any(|have| have == want), "{seen:?}");
        }
        Ok(())
    };
    eventually("the work to be complete", LONG, complete)
        .await
        .unwrap();
    work["spec"]["deleteOption"] =
        json!({"propagationPolicy": "Foreground", "ttlSecondsAfterFinished": 1});
    apply(&works, &work).await.unwrap();
    gone(&works, &name).await;
    gone(&ground.there("batch/v1/Job"), "done").await;
}
