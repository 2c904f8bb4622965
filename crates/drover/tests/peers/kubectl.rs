//! A newcomer with kubectl.

use std::process::Command;

use drover_testkit::{Fleet, program};

use crate::world::{LONG, up};

const WEBSHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/webshop");

fn kubectl(fleet: &Fleet, context: &str, args: &[&str]) -> String {
    let output = Command::new(program("kubectl").unwrap())
        .arg("--kubeconfig")
        .arg(fleet.kubeconfig())
        .args(["--context", context])
        .args(args)
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "kubectl {args:?}: {text}");
    text
}

#[tokio::test]
async fn the_first_steps_of_the_readme() {
    let fleet = up(&["--ephemeral", "--hubs", "1", "--clusters", "1"]).await;
    let text = kubectl(&fleet, "hub1", &["get", "managedclusters"]);
    assert!(text.contains("cluster1   true"), "{text}");
    kubectl(&fleet, "hub1", &["apply", "-f", WEBSHOP]);
    let limit = format!("--timeout={}s", LONG.as_secs());
    for condition in ["Applied", "Available"] {
        let condition = format!("--for=condition={condition}");
        kubectl(
            &fleet,
            "hub1",
            &[
                "wait",
                &condition,
                &limit,
                "-n",
                "cluster1",
                "manifestworks",
                "--all",
            ],
        );
    }
    kubectl(
        &fleet,
        "cluster1",
        &[
            "rollout",
            "status",
            &limit,
            "-n",
            "webshop",
            "deployment/storefront",
        ],
    );
    kubectl(
        &fleet,
        "cluster1",
        &[
            "rollout",
            "status",
            &limit,
            "-n",
            "webshop",
            "statefulset/database",
        ],
    );
    kubectl(
        &fleet,
        "cluster1",
        &[
            "wait",
            "--for=condition=Complete",
            &limit,
            "-n",
            "webshop",
            "job",
            "--all",
        ],
    );
    let text = kubectl(&fleet, "cluster1", &["get", "promotions", "-n", "webshop"]);
    assert!(text.contains("DISCOUNT"), "{text}");
    let text = kubectl(
        &fleet,
        "hub1",
        &["describe", "manifestwork", "-n", "cluster1", "webshop"],
    );
    assert!(text.contains("AppliedManifestWorkComplete"), "{text}");
    let text = kubectl(
        &fleet,
        "hub1",
        &["explain", "manifestwork.spec.workload.manifests"],
    );
    assert!(text.contains("manifests"), "{text}");
    kubectl(&fleet, "hub1", &["delete", "-f", WEBSHOP, "--timeout=60s"]);
    assert_eq!(fleet.stop().unwrap(), Some(0));
}
