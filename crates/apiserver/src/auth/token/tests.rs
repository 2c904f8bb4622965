use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn claims() -> Value {
    let at = now().as_second();
    json!({"iss": "https://me", "aud": ["me", "other"], "exp": at + 600, "nbf": at, "iat": at, "sub": "s"})
}

#[test]
fn what_is_believed() {
    #[track_caller]
    fn check(keys: &TokenKeys, claim: &str, value: Value, expected: Result<Vec<&str>, TokenError>) {
        let mut claims = claims();
        claims[claim] = value;
        let token = keys.sign(&claims).expect("a token");
        let accepted = ["me".to_owned(), "you".to_owned()];
        let found = keys.verify(&token, "https://me", &accepted, now());
        let found = found.map(|(_, audiences)| audiences);
        assert_eq!(
            found,
            expected.map(|list| list.into_iter().map(str::to_owned).collect())
        );
    }
    let keys = TokenKeys::generate().expect("keys");
    let at = now().as_second();
    check(&keys, "sub", json!("x"), Ok(vec!["me"]));
    check(&keys, "aud", json!(["you", "me"]), Ok(vec!["me", "you"]));
    check(&keys, "aud", json!("you"), Ok(vec!["you"]));
    check(&keys, "aud", json!(["other"]), Err(TokenError::Audience));
    check(&keys, "aud", Value::Null, Err(TokenError::Audience));
    check(&keys, "iss", json!("https://you"), Err(TokenError::Foreign));
    check(&keys, "exp", json!(at - 30), Ok(vec!["me"]));
    check(&keys, "exp", json!(at - 61), Err(TokenError::Expired));
    check(&keys, "exp", Value::Null, Err(TokenError::Expired));
    check(&keys, "nbf", json!(at + 30), Ok(vec!["me"]));
    check(&keys, "nbf", json!(at + 61), Err(TokenError::Early));
    check(&keys, "iat", json!(at + 61), Err(TokenError::Early));
}

#[test]
fn forged_tokens() {
    let keys = TokenKeys::generate().expect("keys");
    let verify = |token: &str| {
        let found = keys.verify(token, "https://me", &["me".to_owned()], now());
        found.expect_err("a refusal")
    };
    let token = keys.sign(&claims()).expect("a token");
    let parts: Vec<&str> = token.split('.').collect();
    let mut greater = claims();
    greater["sub"] = "root".into();
    let none = encode(&json!({"alg": "none", "kid": keys.jwks()["keys"][0]["kid"]}));
    assert_eq!(
        verify(&format!("{}.{}.{}", parts[0], encode(&greater), parts[2])),
        TokenError::Signature
    );
    assert_eq!(
        verify(&format!("{none}.{}.", parts[1])),
        TokenError::Signature
    );
    let other = TokenKeys::generate()
        .expect("keys")
        .sign(&claims())
        .expect("a token");
    assert_eq!(verify(&other), TokenError::Signature);
    for foreign in ["", ".", "..", "a.b.c", "abc", &"x".repeat(20_000)] {
        assert_eq!(verify(foreign), TokenError::Foreign, "{foreign}");
    }
}

#[test]
fn an_old_key_still_verifies() {
    let old = TokenKeys::generate().expect("keys");
    let token = old.sign(&claims()).expect("a token");
    let new = TokenKeys::generate().expect("keys");
    let pems = [new.to_pem(), old.to_pem()].concat();
    let pems: Vec<&str> = pems.iter().map(String::as_str).collect();
    let both = TokenKeys::from_pem(&pems)
        .expect("readable")
        .expect("two keys");
    both.verify(&token, "https://me", &["me".to_owned()], now())
        .expect("believed");
    assert_eq!(both.jwks()["keys"].as_array().map(Vec::len), Some(2));
    assert!(TokenKeys::from_pem(&[]).expect("readable").is_none());
    assert!(!format!("{both:?}").contains("PRIVATE"));
}
