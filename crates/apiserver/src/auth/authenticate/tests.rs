use http::{HeaderName, HeaderValue};

use super::*;
use crate::auth::ca::Authority;

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let name: HeaderName = name.parse().expect("a name");
        map.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    map
}

#[test]
fn bearer_tokens() {
    #[track_caller]
    fn check(header: &str, expected: Option<&str>) {
        assert_eq!(bearer(&headers(&[("authorization", header)])), expected);
    }
    check("Bearer abc", Some("abc"));
    check("bearer abc", Some("abc"));
    check("  Bearer abc  ", Some("abc"));
    check("Bearer", None);
    check("Bearer ", None);
    check("Basic abc", None);
    assert_eq!(bearer(&HeaderMap::new()), None);
}

#[test]
fn impersonation_headers() {
    #[track_caller]
    fn check(lines: &[(&str, &str)], asked: &[&str], expected: &User) {
        let wanted = Impersonation::read(&headers(lines))
            .expect("readable")
            .expect("there");
        let found: Vec<String> = wanted
            .attributes()
            .iter()
            .map(|a| {
                format!(
                    "{}/{}/{} {} {}",
                    a.group, a.resource, a.subresource, a.namespace, a.name
                )
            })
            .collect();
        assert_eq!(found, asked);
        assert_eq!(&wanted.user(), expected);
    }
    let user = |name: &str, groups: &[&str]| User {
        name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..User::default()
    };
    check(
        &[("Impersonate-User", "ann")],
        &["/users/  ann"],
        &user("ann", &[AUTHENTICATED]),
    );
    check(
        &[
            ("Impersonate-User", "ann"),
            ("Impersonate-Group", "a"),
            ("Impersonate-Group", "b"),
        ],
        &["/users/  ann", "/groups/  a", "/groups/  b"],
        &user("ann", &["a", "b", AUTHENTICATED]),
    );
    check(
        &[("Impersonate-User", "system:serviceaccount:n:s")],
        &["/serviceaccounts/ n s"],
        &user(
            "system:serviceaccount:n:s",
            &[
                "system:serviceaccounts",
                "system:serviceaccounts:n",
                AUTHENTICATED,
            ],
        ),
    );
    check(
        &[("Impersonate-User", "system:anonymous")],
        &["/users/  system:anonymous"],
        &user("system:anonymous", &[UNAUTHENTICATED]),
    );
    let mut special = user("ann", &[AUTHENTICATED]);
    special.uid = "1".to_owned();
    special.extra.insert("a/b".to_owned(), vec!["x".to_owned()]);
    check(
        &[
            ("Impersonate-User", "ann"),
            ("Impersonate-Extra-a%2fb", "x"),
            ("Impersonate-Uid", "1"),
        ],
        &[
            "/users/  ann",
            "authentication.k8s.io/userextras/a/b  x",
            "authentication.k8s.io/uids/  1",
        ],
        &special,
    );
    assert_eq!(
        Impersonation::read(&headers(&[("accept", "*/*")])),
        Ok(None)
    );
    let refused = Impersonation::read(&headers(&[("Impersonate-Group", "system:masters")]));
    assert_eq!(refused.expect_err("refused").code, 400);
}

#[test]
fn escapes_in_extra_keys() {
    for (escaped, expected) in [
        ("a%2Fb", "a/b"),
        ("a%", "a%"),
        ("%zz", "%zz"),
        ("", ""),
        ("%ff", "%ff"),
    ] {
        assert_eq!(unescape(escaped), expected);
    }
}

#[test]
fn users_of_certificates() {
    let now = "2026-11-21T00:00:00Z".parse().expect("a time");
    let day = SignedDuration::from_hours(24);
    let ca = Authority::create("ca", day, now).expect("an authority");
    let groups = ["a".to_owned(), "b".to_owned()];
    let user = |name: &str| {
        let issued = ca
            .issue_client(name, &groups, day, now)
            .expect("a certificate");
        certificate_user(pem::parse(issued.certificate).expect("PEM").contents())
    };
    let ann = user("ann").expect("a user");
    assert_eq!(
        (ann.name.as_str(), ann.groups.as_slice()),
        ("ann", groups.as_slice())
    );
    assert!(ann.extra["authentication.kubernetes.io/credential-id"][0].starts_with("X509SHA256="));
    user("").expect_err("no name");
    certificate_user(b"x").expect_err("no certificate");
}

#[test]
fn bootstrap_groups() {
    for (group, expected) in [
        ("system:bootstrappers:a", true),
        ("system:bootstrappers:a:b-c", true),
        ("system:bootstrappers:", false),
        ("system:bootstrappers:a-", false),
        ("system:bootstrappers:A", false),
        ("system:masters", false),
    ] {
        assert_eq!(is_bootstrap_group(group), expected, "{group}");
    }
}

#[test]
fn static_tokens_are_found_by_their_hash() {
    let tokens = vec![
        ("t".to_owned(), User::anonymous()),
        (String::new(), User::system()),
    ];
    let tokens = StaticTokens::new(tokens).expect("randomness");
    assert_eq!(tokens.find("t"), Some(&User::anonymous()));
    assert_eq!(tokens.find("u"), None);
    assert_eq!(tokens.find(""), None);
    assert!(tokens.same(b"a", b"a") && !tokens.same(b"a", b"b"));
}
