use super::*;

fn config(spec: Value) -> KlusterletConfig {
    serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": spec})).unwrap()
}

fn hub() -> Hub {
    Hub {
        url: "https://hub:6443".to_owned(),
        ca_data: encode("HUB"),
        token: "t".to_owned(),
        bundles: BTreeMap::from([
            ("ns/one".to_owned(), encode("ONE")),
            ("ns/two".to_owned(), encode("TWO\n")),
            ("old".to_owned(), encode("OLD")),
        ]),
    }
}

fn rendered(spec: Value) -> Result<Rendered, RenderError> {
    render("edge", &config(spec).spec, &hub())
}

fn klusterlet(spec: Value) -> KlusterletSpec {
    serde_json::from_value(spec).unwrap()
}

#[test]
fn an_empty_configuration_leads_to_the_hub_itself() {
    let made = rendered(json!({})).unwrap();
    assert_eq!(made.secret, "bootstrap-hub-kubeconfig");
    assert_eq!(
        made.kubeconfig["clusters"][0]["cluster"],
        json!({"server": "https://hub:6443", "certificate-authority-data": encode("HUB")})
    );
    assert_eq!(made.kubeconfig["users"][0]["user"]["token"], "t");
    assert_eq!(made.klusterlet.cluster_name, "edge");
}

#[test]
fn address_authorities_and_proxy_are_those_of_the_configuration() {
    let check = |spec: Value, expected: Value| {
        let made = rendered(spec).unwrap();
        assert_eq!(made.kubeconfig["clusters"][0]["cluster"], expected);
    };
    check(
        json!({"hubKubeAPIServerURL": "https://old", "hubKubeAPIServerCABundle": "old",
            "hubKubeAPIServerProxyConfig": {"httpProxy": "http://p1", "httpsProxy": "https://p2"}}),
        json!({"server": "https://old", "certificate-authority-data": encode("OLD"), "proxy-url": "https://p2"}),
    );
    check(
        json!({"hubKubeAPIServerURL": "https://old", "hubKubeAPIServerConfig": {"url": "https://new", "proxyURL": "http://p3",
            "serverVerificationStrategy": "UseSystemTruststore"}}),
        json!({"server": "https://new", "proxy-url": "http://p3"}),
    );
    let bundles = json!([{"name": "1", "caBundle": {"namespace": "ns", "name": "one"}}, {"name": "2", "caBundle": {"namespace": "ns", "name": "two"}}]);
    check(
        json!({"hubKubeAPIServerConfig": {"serverVerificationStrategy": "UseCustomCABundles", "trustedCABundles": bundles}}),
        json!({"server": "https://hub:6443", "certificate-authority-data": encode("ONE\nTWO\n")}),
    );
}

#[test]
fn what_is_not_there_is_named() {
    let missing = json!([{"name": "1", "caBundle": {"namespace": "ns", "name": "none"}}]);
    let custom = |bundles: Value| json!({"hubKubeAPIServerConfig": {"serverVerificationStrategy": "UseCustomCABundles", "trustedCABundles": bundles}});
    assert_eq!(
        rendered(custom(missing)),
        Err(RenderError::NoBundle("ns/none".to_owned()))
    );
    assert_eq!(rendered(custom(json!([]))), Err(RenderError::NoBundles));
    let grace = json!({"appliedManifestWorkEvictionGracePeriod": "soon"});
    assert_eq!(
        rendered(grace),
        Err(RenderError::BadDuration("soon".to_owned()))
    );
}

#[test]
fn several_hubs_arrive_at_the_agent_in_order() {
    let secrets = json!({"type": "LocalSecrets", "localSecretsConfig": {
        "kubeConfigSecrets": [{"name": "target"}, {"name": "other"}], "hubConnectionTimeoutSeconds": 300}});
    let check = |strategy: &str, secret: &str, expected: &[&str]| {
        let config = json!({"multipleHubsConfig": {"genBootstrapKubeConfigStrategy": strategy, "bootstrapKubeConfigs": secrets}});
        let made = rendered(config).unwrap();
        assert_eq!(made.secret, secret);
        let read = settings(&made.klusterlet).unwrap();
        assert_eq!(read.bootstrap_secrets, expected);
        assert_eq!(read.hub_timeout, Some(Duration::from_mins(5)));
        let gates = made
            .klusterlet
            .registration_configuration
            .unwrap()
            .feature_gates;
        assert_eq!(
            (gates[0].feature.as_str(), gates[0].mode.as_str()),
            ("MultipleHubs", "Enable")
        );
    };
    check("Default", BOOTSTRAP_SECRET, &["target", "other"]);
    check(
        "IncludeCurrentHub",
        CURRENT_HUB_SECRET,
        &[CURRENT_HUB_SECRET, "target", "other"],
    );
}

#[test]
fn what_the_cluster_says_wins_over_what_is_said_for_all() {
    let global = config(
        json!({"hubKubeAPIServerURL": "https://all", "appliedManifestWorkEvictionGracePeriod": "1h",
        "registries": [{"mirror": "m", "source": "s"}]}),
    );
    let own = config(json!({"appliedManifestWorkEvictionGracePeriod": "INFINITE"}));
    let both = merge(Some(&global), Some(&own));
    assert_eq!(both.hub_url, "https://all");
    assert_eq!(both.registries.len(), 1);
    assert_eq!(both.applied_manifest_work_eviction_grace_period, "INFINITE");
    assert_eq!(merge(Some(&global), None), global.spec);
    assert_eq!(merge(None, Some(&own)), own.spec);
    assert_eq!(merge(None, None), KlusterletConfigSpec::default());
    let made = render("edge", &both, &hub()).unwrap();
    assert_eq!(
        settings(&made.klusterlet).unwrap().eviction_grace,
        Some(Grace::Forever)
    );
}

#[test]
fn an_agent_reads_what_its_klusterlet_says() {
    let spec = klusterlet(json!({
        "clusterName": "edge",
        "registrationConfiguration": {
            "clientCertExpirationSeconds": 7200,
            "clusterLabels": {"region": "north"},
            "clusterAnnotations": {"agent.open-cluster-management.io/a": "1", "other": "2"},
            "clusterClaimConfiguration": {"maxCustomClusterClaims": 5, "reservedClusterClaimSuffixes": ["reserved.io"]},
            "bootstrapKubeConfigs": {"type": "None"},
        },
        "workConfiguration": {"appliedManifestWorkEvictionGracePeriod": "1h30m", "statusSyncInterval": "20s"},
        "nodePlacement": {"nodeSelector": {"a": "b"}},
    }));
    let expected = Settings {
        bootstrap_secrets: Vec::new(),
        hub_timeout: None,
        eviction_grace: Some(Grace::For(Duration::from_mins(90))),
        status_sync_interval: Some(Duration::from_secs(20)),
        max_custom_claims: Some(5),
        reserved_claim_suffixes: vec!["reserved.io".to_owned()],
        certificate_seconds: Some(7200),
        labels: BTreeMap::from([("region".to_owned(), "north".to_owned())]),
        annotations: BTreeMap::from([(
            "agent.open-cluster-management.io/a".to_owned(),
            "1".to_owned(),
        )]),
    };
    assert_eq!(settings(&spec), Ok(expected));
    assert_eq!(
        settings(&KlusterletSpec::default()),
        Ok(Settings::default())
    );
}

#[test]
fn durations_are_those_of_the_klusterlet() {
    let check = |text: &str, expected: Option<u64>| {
        let read = duration(text).ok().map(|read| read.as_secs());
        assert_eq!(read, expected, "{text}");
    };
    check("60s", Some(60));
    check("1h30m", Some(5400));
    check("0s", Some(0));
    check("", None);
    check("10", None);
    check("s", None);
    check("5mXYZ", None);
    check("1d", None);
    check("99999999999999999999h", None);
    check("9999999999999999h", None);
    assert_eq!(eviction_grace("876000h"), Ok(Grace::Forever));
    assert_eq!(
        eviction_grace("875999h"),
        Ok(Grace::For(Duration::from_hours(875_999)))
    );
}
