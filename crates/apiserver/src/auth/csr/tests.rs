//! The requests in `fixtures` are ours: `agent` and `kubelet` were made with Go's crypto/x509 (two
//! organizations in one RDN), `masters` with OpenSSL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::prelude::X509Certificate;

use super::controller::{answer, is_stale};
use super::*;
use crate::auth::user::User;

const AGENT: &str = include_str!("fixtures/agent.csr");
const KUBELET: &str = include_str!("fixtures/kubelet.csr");
const MASTERS: &str = include_str!("fixtures/masters.csr");

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().expect("a time")
}

fn authority() -> Authority {
    Authority::create("ca", SignedDuration::from_hours(24 * 3650), now()).expect("an authority")
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn object(request: &str, signer: &str, usages: &[&str], conditions: &[&str]) -> Value {
    let condition = |kind: &&str| json!({"type": kind, "status": "True"});
    json!({
        "metadata": {"name": "one"},
        "spec": {"request": STANDARD.encode(request), "signerName": signer, "usages": usages},
        "status": {"conditions": conditions.iter().map(condition).collect::<Vec<_>>()},
    })
}

#[test]
fn a_signed_certificate_has_the_subject_and_key_byte_by_byte() {
    let ca = authority();
    let usages = texts(&["digital signature", "key encipherment", "client auth"]);
    let life = SignedDuration::from_hours(24);
    let pem = sign(&ca, AGENT.as_bytes(), life, &usages, now()).expect("a certificate");

    let request = pem::parse(AGENT).expect("PEM");
    let (_, request) = X509CertificationRequest::from_der(request.contents()).expect("a request");
    let request = &request.certification_request_info;
    let issuer = pem::parse(ca.certificate_pem()).expect("PEM");
    let (_, issuer) = X509Certificate::from_der(issuer.contents()).expect("a certificate");
    let block = pem::parse(&pem).expect("PEM");
    let (rest, certificate) = X509Certificate::from_der(block.contents()).expect("a certificate");

    assert!(rest.is_empty());
    assert_eq!(certificate.subject().as_raw(), request.subject.as_raw());
    assert_eq!(certificate.public_key().raw, request.subject_pki.raw);
    assert_eq!(certificate.issuer().as_raw(), issuer.subject().as_raw());
    certificate
        .verify_signature(Some(issuer.public_key()))
        .expect("a valid signature");
    let (name, groups) = read_subject(certificate.subject()).expect("a subject");
    assert_eq!(name, "system:open-cluster-management:cluster1:agent1");
    assert_eq!(
        groups,
        [
            "system:open-cluster-management:cluster1",
            "system:open-cluster-management:managed-clusters"
        ]
    );
    let validity = certificate.validity();
    let second = now().as_second();
    // Long lives are shortened by what they are backdated, as in Kubernetes.
    assert_eq!(validity.not_before.timestamp(), second - 300);
    assert_eq!(validity.not_after.timestamp(), second - 300 + 24 * 3600);
    let usage = certificate
        .key_usage()
        .expect("readable")
        .expect("there")
        .value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let purpose = certificate
        .extended_key_usage()
        .expect("readable")
        .expect("there")
        .value;
    assert!(purpose.client_auth && !purpose.server_auth);
    assert!(!certificate.is_ca());
}

#[test]
fn names_of_a_server_are_kept() {
    let usages = texts(&["server auth"]);
    let life = SignedDuration::from_hours(1);
    let pem = sign(&authority(), KUBELET.as_bytes(), life, &usages, now()).expect("a certificate");
    let block = pem::parse(&pem).expect("PEM");
    let (_, certificate) = X509Certificate::from_der(block.contents()).expect("a certificate");
    let names = certificate
        .subject_alternative_name()
        .expect("readable")
        .expect("there")
        .value;
    assert_eq!(
        names.general_names,
        [
            GeneralName::DNSName("n1.example"),
            GeneralName::IPAddress(&[10, 0, 0, 1])
        ]
    );
    assert_eq!(
        certificate.validity().not_after.timestamp(),
        now().as_second() + 3600
    );
}

#[test]
fn broken_requests_are_refused() {
    #[track_caller]
    fn check(request: &str, expected: &str) {
        let error = Request::parse(request.as_bytes())
            .expect_err("an error")
            .to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let mut der = pem::parse(AGENT).expect("PEM").into_contents();
    let other = |tag: &str, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
    check("", "PEM block type must be CERTIFICATE REQUEST");
    check(
        &other("CERTIFICATE", &der),
        "PEM block type must be CERTIFICATE REQUEST",
    );
    check(
        &other("CERTIFICATE REQUEST", b"x"),
        "the certificate request cannot be parsed",
    );
    let trailing = [der.as_slice(), &[0]].concat();
    check(
        &other("CERTIFICATE REQUEST", &trailing),
        "the certificate request cannot be parsed: there is something behind it",
    );
    // Another group than the one that was signed.
    let position = der
        .windows(8)
        .position(|w| w == b"cluster1")
        .expect("the name");
    der[position + 7] = b'2';
    check(
        &other("CERTIFICATE REQUEST", &der),
        "the certificate request's signature is not valid for its key",
    );
}

#[test]
fn signers_check_usages_and_subjects() {
    #[track_caller]
    fn check(signer: &str, request: &str, usages: &[&str], expected: &str) {
        let request = Request::parse(request.as_bytes()).expect("a request");
        let found = match check_signer(signer, &request, &texts(usages)) {
            None => "not ours".to_owned(),
            Some(Ok(())) => String::new(),
            Some(Err(error)) => error.to_string(),
        };
        assert_eq!(found, expected);
    }
    let (client, serving) = (
        ["digital signature", "client auth"],
        ["digital signature", "server auth"],
    );
    check("example.com/x", AGENT, &client, "not ours");
    check(CLIENT_SIGNER, AGENT, &client, "");
    check(
        CLIENT_SIGNER,
        AGENT,
        &["key encipherment"],
        "missing required usage for client certificate: client auth",
    );
    check(
        CLIENT_SIGNER,
        AGENT,
        &serving,
        "invalid usage for client certificate: server auth",
    );
    check(KUBELET_SERVING_SIGNER, KUBELET, &serving, "");
    check(
        KUBELET_SERVING_SIGNER,
        KUBELET,
        &client,
        "usages did not match [digital signature key encipherment server auth]",
    );
    check(
        KUBELET_SERVING_SIGNER,
        AGENT,
        &serving,
        "subject organization is not system:nodes",
    );
    check(
        KUBELET_CLIENT_SIGNER,
        KUBELET,
        &client,
        "DNS subjectAltNames are not allowed",
    );
}

#[test]
fn only_approved_requests_of_our_signers_are_answered() {
    #[track_caller]
    fn check(mut object: Value, expected: &str) {
        let changed = answer(&authority(), &mut object, now());
        let status = &object["status"];
        let found = match (changed, status["certificate"].is_string()) {
            (false, _) => "nothing".to_owned(),
            (true, true) => "certificate".to_owned(),
            (true, false) => {
                let last = status["conditions"].as_array().and_then(|list| list.last());
                format!("{}", last.map_or(&Value::Null, |c| &c["message"]))
            }
        };
        assert_eq!(found, expected);
    }
    let client = ["client auth"];
    check(
        object(AGENT, CLIENT_SIGNER, &client, &["Approved"]),
        "certificate",
    );
    check(object(AGENT, CLIENT_SIGNER, &client, &[]), "nothing");
    check(
        object(AGENT, CLIENT_SIGNER, &client, &["Denied"]),
        "nothing",
    );
    check(
        object(AGENT, CLIENT_SIGNER, &client, &["Approved", "Failed"]),
        "nothing",
    );
    check(
        object(
            AGENT,
            "open-cluster-management.io/grpc",
            &client,
            &["Approved"],
        ),
        "nothing",
    );
    check(
        object(
            "x",
            "open-cluster-management.io/grpc",
            &client,
            &["Approved"],
        ),
        "nothing",
    );
    check(
        object(AGENT, CLIENT_SIGNER, &["server auth"], &["Approved"]),
        "\"invalid usage for client certificate: server auth\"",
    );
    check(
        object("x", CLIENT_SIGNER, &client, &["Approved"]),
        "\"PEM block type must be CERTIFICATE REQUEST\"",
    );
}

#[test]
fn old_requests_are_removed() {
    #[track_caller]
    fn check(created: &str, condition: Option<(&str, &str)>, issued: bool, expected: bool) {
        let conditions: Vec<Value> = condition
            .iter()
            .map(|(kind, at)| json!({"type": kind, "status": "True", "lastUpdateTime": at}))
            .collect();
        let mut object = json!({
            "metadata": {"creationTimestamp": created}, "status": {"conditions": conditions},
        });
        if issued {
            object["status"]["certificate"] = "eA==".into();
        }
        assert_eq!(is_stale(&object, now()), expected);
    }
    let (minutes, hours, days) = (
        "2026-11-20T23:30:00Z",
        "2026-11-20T20:00:00Z",
        "2026-11-18T00:00:00Z",
    );
    check(hours, None, false, false);
    check(days, None, false, true);
    check(days, Some(("Denied", minutes)), false, false);
    check(days, Some(("Denied", hours)), false, true);
    check(days, Some(("Approved", hours)), false, false);
    check(days, Some(("Approved", hours)), true, true);
    check(days, Some(("Approved", days)), false, true);
    check(days, Some(("Failed", hours)), false, true);
}

#[test]
fn wrong_objects_are_told_what_is_wrong() {
    #[track_caller]
    fn check(change: &str, value: Value, expected: &[&str]) {
        let mut object = object(AGENT, CLIENT_SIGNER, &["client auth"], &[]);
        object["spec"][change] = value;
        let found: Vec<String> = validate(&object).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }
    check("expirationSeconds", json!(600), &[]);
    check(
        "expirationSeconds",
        json!(599),
        &[
            "spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)",
        ],
    );
    check("usages", json!([]), &["spec.usages: Required value"]);
    check(
        "usages",
        json!(["client auth", "client auth"]),
        &["spec.usages[1]: Duplicate value: \"client auth\""],
    );
    check(
        "signerName",
        Value::Null,
        &["spec.signerName: Required value"],
    );
    check("signerName", json!("example.com/a.b-c"), &[]);
    check(
        "signerName",
        json!("ex/x"),
        &[
            "spec.signerName: Invalid value: \"ex\": should be a domain with at least two segments separated by dots",
        ],
    );
    for wrong in [
        "example.com",
        "example.com/",
        "Example.com/x",
        "example.com/x/y",
        "example.com/a:b",
    ] {
        let mut object = object(AGENT, wrong, &["client auth"], &[]);
        assert_eq!(validate(&object).len(), 1, "{wrong}");
        object["spec"]["request"] = "eA==".into();
        assert_eq!(validate(&object).len(), 2, "{wrong}");
    }
    let mut unknown = object(AGENT, CLIENT_SIGNER, &["sign anything"], &[]);
    assert_eq!(validate(&unknown).len(), 1);
    unknown["spec"]["request"] = 5.into();
    assert_eq!(validate(&unknown).len(), 2);
}

#[test]
fn nobody_becomes_master_by_a_certificate() {
    let refused =
        check_create(&object(MASTERS, CLIENT_SIGNER, &["client auth"], &[])).expect_err("refused");
    assert_eq!(
        refused.message,
        "certificatesigningrequests.certificates.k8s.io \"one\" is forbidden: use of \
         kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
    );
    check_create(&object(AGENT, CLIENT_SIGNER, &["client auth"], &[])).expect("allowed");
    check_create(&object(MASTERS, "example.com/x", &["client auth"], &[])).expect("not ours");
}

#[test]
fn who_asks_is_written_by_the_server() {
    let mut object =
        json!({"spec": {"username": "root", "groups": ["system:masters"], "extra": {"a": ["b"]}}});
    let user = User {
        name: "eve".to_owned(),
        groups: texts(&["g"]),
        ..User::default()
    };
    stamp(&mut object, &user);
    assert_eq!(
        object,
        json!({"spec": {"username": "eve", "groups": ["g"]}})
    );
}

#[test]
fn what_an_update_may_change() {
    #[track_caller]
    fn check(
        subresource: &str,
        old: &[&str],
        new: &[&str],
        certificate: Option<&str>,
        expected: &[&str],
    ) {
        let old = object(AGENT, CLIENT_SIGNER, &["client auth"], old);
        let mut new = object(MASTERS, "example.com/x", &["any"], new);
        if let Some(certificate) = certificate {
            new["status"]["certificate"] = STANDARD.encode(certificate).into();
        }
        update::prepare(subresource, &mut new, &old, now());
        assert_eq!(new["spec"], old["spec"]);
        let errors = update::validate(subresource, &new, &old);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
        if errors.is_empty() {
            for condition in new["status"]["conditions"].as_array().into_iter().flatten() {
                assert_eq!(
                    condition["lastUpdateTime"].is_null(),
                    subresource.is_empty()
                );
            }
        }
    }
    let ca = authority();
    let pem = Some(ca.certificate_pem());
    check("", &[], &["Approved"], pem, &[]);
    check("approval", &[], &["Approved"], pem, &[]);
    check(
        "approval",
        &["Approved"],
        &["Approved", "Failed"],
        None,
        &[],
    );
    check(
        "approval",
        &["Approved"],
        &[],
        None,
        &["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""],
    );
    check(
        "approval",
        &["Approved"],
        &["Approved", "Denied"],
        None,
        &[
            "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
        ],
    );
    check("status", &[], &["Failed"], pem, &[]);
    check(
        "status",
        &[],
        &["Approved"],
        None,
        &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
    );
    check(
        "status",
        &[],
        &[],
        Some("x"),
        &[
            "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
        ],
    );
    check(
        "status",
        &[],
        &[],
        Some(AGENT),
        &[
            "status.certificate: Invalid value: \"<certificate data>\": only CERTIFICATE PEM blocks are allowed, found \"CERTIFICATE REQUEST\"",
        ],
    );
    check(
        "status",
        &[],
        &["x", "x"],
        None,
        &["status.conditions[1].type: Duplicate value: \"x\""],
    );
}

#[test]
fn objects_of_any_shape_do_no_harm() {
    let shapes = [
        json!(null),
        json!("x"),
        json!([1]),
        json!({}),
        json!({"status": "x"}),
        json!({"status": {"conditions": "x"}}),
    ];
    for old in &shapes {
        for new in &shapes {
            for subresource in ["", "status", "approval"] {
                let mut new = new.clone();
                update::prepare(subresource, &mut new, old, now());
                let errors = update::validate(subresource, &new, old);
                assert!(errors.is_empty(), "{subresource} {old} {new}: {errors:?}");
            }
            let mut new = new.clone();
            stamp(&mut new, &User::anonymous());
            assert!(!validate(&new).is_empty());
            assert!(!answer(&authority(), &mut new, now()));
        }
    }
}
