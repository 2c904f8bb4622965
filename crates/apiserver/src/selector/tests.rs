use super::*;

fn labels(text: &str) -> Labels {
    let pairs = text
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

/// Which of the given sets of labels a selector matches.
#[track_caller]
fn selects(selector: &str, sets: &[&str], expected: &[bool]) {
    let selector = LabelSelector::parse(selector).unwrap();
    let found: Vec<bool> = sets
        .iter()
        .map(|set| selector.matches(&labels(set)))
        .collect();
    assert_eq!(found, expected, "{selector}");
}

#[test]
fn labels_are_matched() {
    let sets = ["", "x=a", "x=b y=1", "x= y=7"];
    selects("", &sets, &[true, true, true, true]);
    selects("x=a", &sets, &[false, true, false, false]);
    selects("x==a", &sets, &[false, true, false, false]);
    selects("x!=a", &sets, &[true, false, true, true]);
    selects("x", &sets, &[false, true, true, true]);
    selects("!x", &sets, &[true, false, false, false]);
    selects("x in (a,b)", &sets, &[false, true, true, false]);
    selects("x in (a,)", &sets, &[false, true, false, true]);
    selects("x in ()", &sets, &[false, false, false, true]);
    selects("x notin (a , b)", &sets, &[true, false, false, true]);
    selects("x=", &sets, &[false, false, false, true]);
    selects("y>1", &sets, &[false, false, false, true]);
    selects("y<7", &sets, &[false, false, true, false]);
    selects("x>1", &sets, &[false, false, false, false]);
    selects("x,y", &sets, &[false, false, true, true]);
    selects(" x in (b) , !z,y!=2", &sets, &[false, false, true, false]);
    selects("x in (in)", &["x=in"], &[true]);
    selects("in in (notin)", &["in=notin"], &[true]);
    selects("example.com/x=a", &["example.com/x=a"], &[true]);
}

#[test]
fn label_selectors_are_printed_in_order() {
    let print = |text: &str| LabelSelector::parse(text).unwrap().to_string();
    assert_eq!(
        print("z,!y , x in (b,a),w!=1,v>2,u=3"),
        "u=3,v>2,w!=1,x in (a,b),!y,z"
    );
    assert_eq!(print("x in (a,,b,a)"), "x in (,a,b)");
}

#[track_caller]
fn refused(selector: &str, expected: &str) {
    let error = LabelSelector::parse(selector).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn bad_label_selectors_are_refused_in_the_known_words() {
    refused(
        "x=a||y=b",
        "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": a valid label must be",
    );
    refused(
        ",x",
        "found ',', expected: !, identifier, or 'end of string'",
    );
    refused("x,", "found '', expected: identifier after ','");
    refused(
        "x in a",
        "unable to parse requirement: found 'a' expected: '('",
    );
    refused(
        "x in (a",
        "unable to parse requirement: found '', expected: ',' or ')'",
    );
    refused(
        "x in (",
        "unable to parse requirement: found '', expected: ',', ')' or identifier",
    );
    refused(
        "x in (,",
        "unable to parse requirement: found '', expected: ',', or identifier",
    );
    refused(
        "x in (a=b)",
        "unable to parse requirement: found '=', expected: ',' or ')'",
    );
    refused(
        "x y",
        "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt",
    );
    refused("!x=a", "found '=', expected: ',' or 'end of string'");
    refused(
        "x=(",
        "unable to parse requirement: found '(', expected: identifier",
    );
    refused(
        "!",
        "unable to parse requirement: found '', expected: identifier",
    );
    refused(
        "x>a",
        "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
    );
    refused(
        "a/b/c",
        "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist of",
    );
    refused(
        "/b",
        "unable to parse requirement: <nil>: Invalid value: \"/b\": prefix part must be non-empty",
    );
    refused(
        "A_/b",
        "unable to parse requirement: <nil>: Invalid value: \"A_/b\": prefix part a lowercase RFC 1123 subdomain",
    );
    refused(
        "-b",
        "unable to parse requirement: <nil>: Invalid value: \"-b\": name part must consist of",
    );
    let long = "x".repeat(64);
    refused(
        &long,
        &format!(
            "unable to parse requirement: <nil>: Invalid value: \"{long}\": name part must be no more than 63 bytes"
        ),
    );
}

#[test]
fn json_selectors_are_matched() {
    let check = |selector: Value, set: &str| {
        LabelSelector::from_json(&selector).map(|selector| selector.matches(&labels(set)))
    };
    assert_eq!(check(json!(null), "x=a"), Ok(false));
    assert_eq!(check(json!({}), "x=a"), Ok(true));
    assert_eq!(
        check(json!({"matchLabels": {"x": "a"}}), "x=a y=b"),
        Ok(true)
    );
    assert_eq!(
        check(json!({"matchLabels": {"x": "a", "y": "c"}}), "x=a y=b"),
        Ok(false)
    );
    let one = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "x", "operator": operator, "values": values}]});
    assert_eq!(check(one("In", json!(["a", "b"])), "x=b"), Ok(true));
    assert_eq!(check(one("NotIn", json!(["a", "b"])), "x=b"), Ok(false));
    assert_eq!(check(one("Exists", json!(null)), "x=b"), Ok(true));
    assert_eq!(check(one("DoesNotExist", json!([])), "x=b"), Ok(false));
    let refused = |selector| check(selector, "").unwrap_err().to_string();
    assert_eq!(
        refused(one("Equals", json!(["a"]))),
        "\"Equals\" is not a valid label selector operator"
    );
    assert_eq!(
        refused(one("In", json!([]))),
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
    assert!(refused(one("Exists", json!(["a"]))).contains("values set must be empty"));
}

#[test]
fn exact_values_are_known() {
    let selector = LabelSelector::parse("a=1,b in (2),c in (3,4),d!=5").unwrap();
    let found: Vec<_> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|key| selector.exact(key))
        .collect();
    assert_eq!(found, [Some("1"), Some("2"), None, None, None]);
    let selector = FieldSelector::parse("metadata.name=a,metadata.namespace!=b").unwrap();
    assert_eq!(selector.exact("metadata.name"), Some("a"));
    assert_eq!(selector.exact("metadata.namespace"), None);
    assert_eq!(
        selector.fields().collect::<Vec<_>>(),
        ["metadata.name", "metadata.namespace"]
    );
}

#[test]
fn fields_are_matched() {
    let check = |text: &str| {
        FieldSelector::parse(text)
            .unwrap()
            .matches(|name| match name {
                "metadata.name" => Some("a".into()),
                "spec.text" => Some("x=1,y\\".into()),
                _ => None,
            })
    };
    let cases = [
        ("", true),
        ("metadata.name=a", true),
        ("metadata.name==a", true),
        ("metadata.name!=a", false),
        ("metadata.name=b", false),
        ("other=", true),
        ("other!=", false),
        ("metadata.name=a,other!=x", true),
        ("metadata.name=a,,metadata.name!=a", false),
        (r"spec.text=x\=1\,y\\", true),
    ];
    for (text, expected) in cases {
        assert_eq!(check(text), expected, "{text}");
        let again = FieldSelector::parse(text).unwrap();
        assert_eq!(FieldSelector::parse(&again.to_string()).unwrap(), again);
    }
}

#[test]
fn bad_field_selectors_are_refused_in_the_known_words() {
    let refused = |text: &str| FieldSelector::parse(text).unwrap_err().to_string();
    assert_eq!(refused("a"), "invalid selector: 'a'; can't understand 'a'");
    assert_eq!(
        refused("b=1,a"),
        "invalid selector: 'b=1,a'; can't understand 'a'"
    );
    assert_eq!(
        refused(r"a=\x"),
        r"invalid field selector: invalid escape sequence: \x"
    );
    assert_eq!(
        refused(r"a=1\"),
        r"invalid field selector: invalid escape sequence: \"
    );
    assert_eq!(
        refused("a=b=c"),
        "invalid field selector: unescaped character in value: 61"
    );
    let selector = FieldSelector::parse("metadata.name=a,spec.a=b").unwrap();
    let known = |name: &str| name == "metadata.name";
    assert_eq!(
        selector
            .expect(known, UnknownField::Own)
            .unwrap_err()
            .to_string(),
        "field label not supported: spec.a"
    );
    assert_eq!(
        selector
            .expect(known, UnknownField::Plain)
            .unwrap_err()
            .to_string(),
        "\"spec.a\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    assert_eq!(selector.expect(|_| true, UnknownField::Own), Ok(()));
}
