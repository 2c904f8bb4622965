use super::*;

fn now() -> Timestamp {
    "2026-11-21T00:00:00Z".parse().expect("a time")
}

fn day() -> SignedDuration {
    SignedDuration::from_hours(24)
}

#[test]
fn an_authority_is_kept_in_two_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = (folder.path().join("ca.crt"), folder.path().join("ca.key"));
    let load = || Authority::load_or_create(&certificate, &key, "my ca", day(), now());
    let made = load().expect("made");
    let loaded = load().expect("loaded");
    assert_eq!(made.certificate_pem(), loaded.certificate_pem());
    assert_eq!(made.key_pem(), loaded.key_pem());
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&key).expect("a file").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }
    // Interrupted after the key: both are made anew.
    std::fs::remove_file(&certificate).expect("removed");
    assert_ne!(load().expect("made").key_pem(), made.key_pem());
    // Never a new key for an old certificate.
    std::fs::remove_file(&key).expect("removed");
    assert!(matches!(load(), Err(CaError::File { action: "read", .. })));
}

#[test]
fn what_does_not_fit_is_refused() {
    let one = Authority::create("one", day(), now()).expect("an authority");
    let two = Authority::create("two", day(), now()).expect("an authority");
    let mixed = Authority::from_pem(one.certificate_pem(), &two.key_pem());
    assert!(matches!(mixed, Err(CaError::Mismatch)));
    let client = one
        .issue_client("x", &[], day(), now())
        .expect("a certificate");
    let leaf = Authority::from_pem(&client.certificate, &client.key);
    assert!(matches!(leaf, Err(CaError::Certificate(_))));
    for wrong in ["", "x", one.certificate_pem()] {
        assert!(matches!(
            Authority::from_pem(one.certificate_pem(), wrong),
            Err(CaError::Key(_))
        ));
        assert!(wrong.contains("CERT") || Authority::from_pem(wrong, &one.key_pem()).is_err());
    }
    let later = now() + day();
    assert!(matches!(
        one.issue_client("x", &[], day(), later),
        Err(CaError::Expired(_))
    ));
    let never = one.issue_client("x", &[], SignedDuration::ZERO, now());
    assert!(matches!(never, Err(CaError::Lifetime(_))));
    let name = one.issue_server(&["a b".to_owned()], day(), now());
    assert!(matches!(name, Err(CaError::Name(_))));
    assert!(!format!("{one:?}{client:?}").contains("PRIVATE"));
}

#[test]
fn no_certificate_outlives_its_authority() {
    let ca = Authority::create("ca", day(), now()).expect("an authority");
    let issued = ca
        .issue_client("x", &[], day() * 10, now())
        .expect("a certificate");
    let block = pem::parse(issued.certificate).expect("PEM");
    let (_, certificate) = X509Certificate::from_der(block.contents()).expect("a certificate");
    assert_eq!(
        certificate.validity().not_after.timestamp(),
        ca.not_after().as_second()
    );
}
