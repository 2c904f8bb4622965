//! The peers themselves come up and go down.

use drover_testkit::{KubeApi, KubeOptions};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

#[tokio::test]
async fn a_control_plane_serves() {
    let kube = KubeApi::start(KubeOptions {
        controllers: true,
        ..KubeOptions::default()
    })
    .await
    .unwrap();
    let namespaces: Api<Namespace> = Api::all(kube.client().await.unwrap());
    assert!(namespaces.get_opt("default").await.unwrap().is_some());
}
