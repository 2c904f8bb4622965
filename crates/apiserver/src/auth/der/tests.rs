use super::*;

#[track_caller]
fn check(found: &[u8], expected: &str) {
    let hex: Vec<String> = found
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex.join(" "), expected);
}

#[test]
fn encodings() {
    check(&tlv(4, &[]), "04 00");
    check(&tlv(4, &[7; 127]), "04 7f 07 07 07 07 07 07");
    check(&tlv(4, &[7; 128]), "04 81 80 07 07 07 07 07");
    check(&tlv(4, &[7; 256]), "04 82 01 00 07 07 07 07");
    check(&oid(&[2, 5, 4, 3]), "06 03 55 04 03");
    check(&oid(&[1, 2, 840, 10045]), "06 05 2a 86 48 ce 3d");
    check(&oid(&[2, 16, 840, 1, 113_730]), "06 07 60 86 48 01 86 f8");
    check(&positive(&[0, 0, 1]), "02 01 01");
    check(&positive(&[0x80]), "02 02 00 80");
    check(&positive(&[]), "02 01 00");
    check(&named_bits(0x8000), "03 02 07 80");
    check(&named_bits(0xa000), "03 02 05 a0");
    check(&named_bits(0x0080), "03 03 07 00 80");
    check(&named_bits(0), "03 01 00");
    check(&yes(), "01 01 ff");
}

#[test]
fn times() {
    for (at, expected) in [
        ("2026-11-21T01:02:03.9Z", "261121010203Z"),
        ("2049-12-31T23:59:59Z", "491231235959Z"),
        ("2050-01-01T00:00:00Z", "20500101000000Z"),
    ] {
        let encoded = time(at.parse().expect("a time"));
        assert_eq!(std::str::from_utf8(&encoded[2..]), Ok(expected));
    }
}
