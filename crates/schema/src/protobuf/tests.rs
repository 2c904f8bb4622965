use proptest::prelude::*;
use serde_json::json;

use super::*;

fn refused(bytes: &[u8]) -> String {
    decode(bytes).expect_err("the bytes are malformed").0
}

/// An envelope around `raw`.
fn wrapped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut meta = vec![0x0a, api_version.len() as u8];
    meta.extend(api_version.bytes());
    meta.extend([0x12, kind.len() as u8]);
    meta.extend(kind.bytes());
    let mut out = MAGIC.to_vec();
    out.extend([0x0a, meta.len() as u8]);
    out.extend(meta);
    out.push(0x12);
    let mut length = raw.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(raw);
    out
}

#[test]
fn malformed_bytes_are_refused() {
    assert!(refused(b"").contains("expected prefix"));
    assert!(refused(b"{}").contains("expected prefix"));
    assert_eq!(refused(b"k8s\0\x0a\xff"), "unexpected end of data");
    assert_eq!(
        refused(b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        "number is longer than ten bytes"
    );
    assert_eq!(refused(b"k8s\0\x0a\x05a"), "unexpected end of data");
    assert!(refused(&wrapped("v1", "Nothing", b"")).contains("no kind"));
    assert!(refused(&wrapped("v1", "Container", b"")).contains("no kind"));
    assert_eq!(
        refused(&wrapped("v1", "Pod", b"\x12\x02\x00\x01")),
        "field number 0"
    );
}

#[test]
fn delete_options_come_in_any_group() {
    // propagationPolicy: Background, gracePeriodSeconds: 0
    let raw = b"\x08\x00\x22\x0aBackground";
    assert_eq!(
        decode(&wrapped("apps/v1", "DeleteOptions", raw)),
        Ok(json!({
            "apiVersion": "apps/v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "propagationPolicy": "Background",
        }))
    );
}

#[test]
fn memory_is_bounded_by_the_input() {
    // A pod of half a million containers that take two bytes each.
    let spec = b"\x12\x00".repeat(500_000);
    let mut raw = vec![0x12];
    let mut length = spec.len();
    while length >= 0x80 {
        raw.push(length as u8 | 0x80);
        length >>= 7;
    }
    raw.push(length as u8);
    raw.extend(spec);
    assert_eq!(
        refused(&wrapped("v1", "Pod", &raw)),
        "too many empty values"
    );
}

#[test]
fn schemas_nest_only_so_deep() {
    // A schema whose `not` is a schema, and so on.
    let mut schema = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![0xe2, 0x01];
        let mut length = schema.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(&schema);
        schema = outer;
        if schema.len() > 100_000 {
            break;
        }
    }
    let nest = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend(bytes);
        out
    };
    let version = nest(4, &nest(1, &schema));
    let raw = nest(2, &nest(7, &version));
    let bytes = wrapped("apiextensions.k8s.io/v1", "CustomResourceDefinition", &raw);
    assert_eq!(refused(&bytes), "nested too deeply");
}

#[test]
fn lists_and_statuses_go_there_and_back() {
    let list = json!({
        "apiVersion": "v1",
        "kind": "ConfigMapList",
        "metadata": {"resourceVersion": "7"},
        "items": [{"metadata": {"name": "a"}, "data": {"k": ""}}, {"metadata": {"name": "b"}}],
    });
    let bytes = encode(&list).expect("config maps are built in");
    assert_eq!(decode(&bytes), Ok(list));
    let status = json!({
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": "no",
        "reason": "NotFound",
        "details": {"name": "x", "kind": "pods", "causes": [{"field": "a"}]},
        "code": 404,
    });
    assert_eq!(
        decode(&encode(&status).expect("statuses are known")),
        Ok(status)
    );
    assert_eq!(
        encode(&json!({"apiVersion": "x.io/v1", "kind": "Thing"})),
        None
    );
    assert_eq!(
        encode(&json!({"apiVersion": "v1", "kind": "Pod", "spec": 1})),
        None
    );
}

#[test]
fn watch_events_say_how_long_they_are() {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}, "spec": {}, "status": {}});
    let bytes = encode_watch_event("ADDED", &object).expect("namespaces are built in");
    let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    assert_eq!(bytes.len(), 4 + length as usize);
    assert!(bytes[4..].starts_with(b"\x0a\x05ADDED\x12"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (api_version, kind) in [("v1", "Pod"), ("v1", "Event"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")] {
            let _either = decode(&wrapped(api_version, kind, &raw));
        }
        let _either = decode(&raw);
    }
}
