use super::*;
use crate::Remedy::{DropAndReport, FixConfig, Reconnect, RetryLater};

fn refusal(reason: u8) -> Refusal {
    Refusal { reason, why: None }
}

#[test]
fn remedies() {
    type Explain = fn(&Refusal) -> TransportError;
    fn check(explain: Explain, reasons: &[u8], remedy: crate::Remedy) {
        for reason in reasons {
            let error = explain(&refusal(*reason));
            assert_eq!(error.remedy(), remedy, "{reason:x}: {error}");
        }
    }
    let connect: Explain = |refusal| not_connected("b:1", refusal);
    check(
        connect,
        &[0x01, 0x84, 0x85, 0x86, 0x87, 0x8a, 0x9c],
        FixConfig,
    );
    check(connect, &[0x80, 0x88, 0x89, 0x97, 0x9f, 0xff], RetryLater);
    let subscribe: Explain = |refusal| not_subscribed("a/b", refusal);
    check(subscribe, &[0x87, 0x8f, 0x9e, 0xa2], FixConfig);
    check(subscribe, &[0x80, 0x97], Reconnect);
    check(said_good_bye, &[0x87, 0x8e], FixConfig);
    check(
        said_good_bye,
        &[0x00, 0x81, 0x8b, 0x8d, 0x95, 0x98],
        Reconnect,
    );
    let publish: Explain = |refusal| refused(refusal.clone());
    check(publish, &[0x90, 0x95, 0x99], DropAndReport);
    check(publish, &[0x80, 0x83, 0x97], RetryLater);
    check(publish, &[0x87], FixConfig);
    check(publish, &[0x91], Reconnect);
}

#[test]
fn texts() {
    let taken = said_good_bye(&refusal(0x8e)).to_string();
    assert!(taken.contains("session taken over (0x8e)"), "{taken}");
    assert!(taken.contains("same client id"), "{taken}");
    let said = Refusal {
        reason: 0x97,
        why: Some("enough".to_owned()),
    };
    let text = refused(said).to_string();
    let expected = "the MQTT broker refused the event: quota exceeded (0x97): enough";
    assert_eq!(text, expected);
}
