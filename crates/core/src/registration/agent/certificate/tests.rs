use std::time::{Duration, SystemTime};

use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};

use super::super::super::request::KUBE_SIGNER;
use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("small seconds are valid")
}

fn me() -> Agent {
    Agent {
        cluster: "c1".to_owned(),
        agent: "a1".to_owned(),
    }
}

fn params(name: &str, groups: [&str; 2]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, groups[0]);
    params
        .distinguished_name
        .push(DnType::CustomDnType(vec![2, 5, 4, 10]), groups[1]);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn own_params() -> CertificateParams {
    let (name, [cluster, all]) = subject(&me());
    params(&name, [&cluster, &all])
}

fn asked(key: &KeyPair) -> CertificateSigningRequest {
    let pem = own_params()
        .serialize_request(key)
        .and_then(|r| r.pem())
        .expect("it can be asked for");
    request(&me(), KUBE_SIGNER, pem.into_bytes(), "xxxxx", None)
}

fn with(
    mut request: CertificateSigningRequest,
    condition: &str,
    certificate: Option<&str>,
) -> CertificateSigningRequest {
    let condition = CertificateSigningRequestCondition {
        type_: condition.to_owned(),
        status: "True".to_owned(),
        reason: Some("Because".to_owned()),
        ..Default::default()
    };
    request.status = Some(CertificateSigningRequestStatus {
        conditions: Some(vec![condition]),
        certificate: certificate.map(|text| ByteString(text.as_bytes().to_vec())),
    });
    request
}

#[test]
fn a_request_is_what_hubs_read() {
    let request = asked(&KeyPair::generate().expect("there is randomness"));
    assert_eq!(request::read(&request), Ok(me()));
    assert_eq!(request.metadata.name.as_deref(), Some("c1-xxxxx"));
    assert_eq!(request.spec.signer_name, KUBE_SIGNER);
}

#[test]
fn the_next_certificate_is_asked_for_at_three_quarters_of_the_life() {
    let validity = Validity {
        from: at(1000),
        until: at(2000),
    };
    for (jitter, expected) in [(0.0, 1750), (1.0, 1800), (9.0, 1800), (-1.0, 1750)] {
        assert_eq!(validity.renew_at(jitter), at(expected));
    }
}

#[test]
fn without_a_pending_key_the_life_of_the_certificate_decides() {
    let held = Validity {
        from: at(1000),
        until: at(2000),
    };
    let cases = [
        (None, None, 5, Step::NewKey),
        (None, Some(at(9)), 5, Step::Wait(Some(at(9)))),
        (None, Some(at(9)), 9, Step::NewKey),
        (Some(&held), None, 1000, Step::Wait(Some(at(1750)))),
        (Some(&held), None, 1750, Step::NewKey),
        (
            Some(&held),
            Some(at(1900)),
            1800,
            Step::Wait(Some(at(1900))),
        ),
        (
            Some(&held),
            Some(at(1200)),
            1000,
            Step::Wait(Some(at(1750))),
        ),
    ];
    for (held, hold, now, expected) in cases {
        assert_eq!(
            plan(held, None, &[], hold, 0.0, at(now)),
            expected,
            "{held:?} {hold:?} {now}"
        );
    }
}

#[test]
fn a_pending_key_is_followed_by_its_public_half() {
    let key = KeyPair::generate().expect("there is randomness");
    let other = KeyPair::generate().expect("there is randomness");
    let pending = |asked: Option<i64>| Pending {
        public_key: key.subject_public_key_info(),
        asked: asked.map(at),
    };
    let ours = asked(&key);
    let theirs = asked(&other);
    let crowd: Vec<_> = std::iter::repeat_n(theirs.clone(), MAX_UNDECIDED).collect();
    let decided: Vec<_> = crowd
        .iter()
        .map(|request| with(request.clone(), "Approved", None))
        .collect();
    let denied = with(ours.clone(), "Denied", None);
    let check =
        |name: &str, asked: Option<i64>, requests: &[CertificateSigningRequest], expected: Step| {
            assert_eq!(
                plan(None, Some(&pending(asked)), requests, None, 0.0, at(100)),
                expected,
                "{name}"
            );
        };
    check("never asked", None, &[], Step::Ask);
    check("not shown yet", Some(95), &[], Step::Wait(Some(at(110))));
    check(
        "not shown for long",
        Some(85),
        std::slice::from_ref(&theirs),
        Step::Ask,
    );
    check(
        "undecided",
        Some(1),
        std::slice::from_ref(&ours),
        Step::Wait(None),
    );
    check(
        "approved",
        Some(1),
        &[with(ours.clone(), "Approved", None)],
        Step::Wait(None),
    );
    check(
        "issued",
        Some(1),
        &[theirs, with(ours.clone(), "Approved", Some("PEM"))],
        Step::Take(b"PEM".to_vec()),
    );
    check(
        "denied",
        Some(1),
        std::slice::from_ref(&denied),
        Step::GiveUp("request c1-xxxxx: Denied (Because)".to_owned()),
    );
    check(
        "denied, but another waits",
        Some(1),
        &[denied, ours.clone()],
        Step::Wait(None),
    );
    check(
        "failed",
        Some(1),
        &[with(ours, "Failed", None)],
        Step::GiveUp("request c1-xxxxx: Failed (Because)".to_owned()),
    );
    check("crowded", None, &crowd, Step::Crowded(at(160)));
    check("what is decided does not count", None, &decided, Step::Ask);
}

#[test]
fn a_certificate_must_be_for_this_agent_key_and_time() {
    let key = KeyPair::generate().expect("there is randomness");
    let other = KeyPair::generate().expect("there is randomness");
    let epoch = SystemTime::UNIX_EPOCH;
    let signed = |mut params: CertificateParams| {
        params.not_before = (epoch + Duration::from_secs(1000)).into();
        params.not_after = (epoch + Duration::from_secs(2000)).into();
        params.self_signed(&key).expect("it can be signed").pem()
    };
    let judge = |pem: &str, key: &KeyPair, now: i64| {
        usable(
            pem.as_bytes(),
            &key.subject_public_key_info(),
            &me(),
            at(now),
        )
    };
    let own = signed(own_params());
    assert_eq!(
        judge(&own, &key, 1500),
        Ok(Validity {
            from: at(1000),
            until: at(2000)
        })
    );
    let (name, [group, all]) = subject(&me());
    let wrong = [
        (judge(&own, &other, 1500), "another key"),
        (judge(&own, &key, 2000), "expired"),
        (judge("nonsense", &key, 1500), "no PEM"),
        (
            judge(
                &signed(params(
                    "system:open-cluster-management:c1:a2",
                    [&group, &all],
                )),
                &key,
                1500,
            ),
            "not for",
        ),
        (
            judge(
                &signed(params(&name, ["system:open-cluster-management:c2", &all])),
                &key,
                1500,
            ),
            "member",
        ),
    ];
    for (verdict, words) in wrong {
        let why = verdict.expect_err("it must not be usable");
        assert!(why.contains(words), "{why:?} does not say {words:?}");
    }
}
