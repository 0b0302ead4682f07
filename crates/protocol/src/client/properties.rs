//! The decoder under frames that nobody wrote by hand.

use proptest::prelude::*;

use super::{Ack, ClientFrame, Due, Notify, Request, tests::record};
use crate::{ErrorCode, PartitionId, Timestamp, limits::DELAY_MS_MAX, time::format_rfc3339};

fn due() -> impl Strategy<Value = Option<Due>> {
    prop_oneof![
        Just(None),
        (0..=DELAY_MS_MAX).prop_map(|delay_ms| Some(Due::After(delay_ms))),
        (0..=250_000_000_000_000u64).prop_map(|moment| Some(Due::At(Timestamp(moment)))),
    ]
}

fn notify() -> impl Strategy<Value = Option<Notify>> {
    let on = proptest::sample::select(vec![Ack::Accepted, Ack::Durable, Ack::Delivered, Ack::Processed]);
    let url = proptest::option::of("https?://[a-z]{1,9}(:[0-9]{1,4})?(/[!-~]{0,20})?");
    let notify = (on, "\\PC{1,30}|[\\x00-\\x7f]{1,40}", url).prop_map(|(on, correlation_id, url)| Notify {
        on,
        correlation_id: correlation_id.into(),
        url: url.map(Into::into),
    });
    proptest::option::of(notify)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Anything that a client may say in a record comes out of the decoder as it went in.
    #[test]
    fn records_come_out_as_they_went_in(
        key in proptest::option::of("\\PC{0,40}|[\\x00-\\x7f]{0,40}"),
        message_id in proptest::option::of("[\\x01-\\x7f]{1,40}"),
        partition in proptest::option::of(any::<u32>()),
        ttl_ms in proptest::option::of(0..1u64 << 53),
        payload in proptest::collection::vec("\\PC{0,30}", 0..4),
        spaces in "[ \t\r\n]{0,3}",
        due in due(),
        notify in notify(),
    ) {
        let payload = serde_json::to_string(&payload).unwrap();
        let mut frame = serde_json::json!({"type":"publish","topic":"t"});
        if let Some(key) = &key { frame["key"] = key.as_str().into(); }
        if let Some(message_id) = &message_id { frame["message_id"] = message_id.as_str().into(); }
        if let Some(partition) = partition { frame["partition"] = partition.into(); }
        if let Some(ttl_ms) = ttl_ms { frame["ttl_ms"] = ttl_ms.into(); }
        match due {
            None => {}
            Some(Due::After(delay_ms)) => frame["delay_ms"] = delay_ms.into(),
            Some(Due::At(moment)) => frame["deliver_at"] = format_rfc3339(moment).into(),
        }
        if let Some(notify) = &notify {
            frame["notify"] = serde_json::json!({
                "on": notify.on.as_str(), "correlation_id": &notify.correlation_id, "url": &notify.url,
            });
        }
        let head = frame.to_string();
        let text = format!("{},{spaces}\"payload\"{spaces}:{spaces}{payload}{spaces}}}", &head[..head.len() - 1]);
        let record = record(&text);
        prop_assert_eq!(record.key.as_deref(), key.as_deref());
        prop_assert_eq!(record.message_id.as_deref(), message_id.as_deref());
        prop_assert_eq!(record.partition, partition.map(PartitionId));
        prop_assert_eq!(record.ttl_ms, ttl_ms);
        prop_assert_eq!(record.due, due);
        prop_assert_eq!(record.notify.as_deref(), notify.as_ref());
        prop_assert_eq!(record.payload.bytes(), payload.as_bytes());
    }

    /// An `ack` is read as serde would read it, however its numbers are spaced, and in the order said.
    #[test]
    fn deliveries_come_out_as_they_went_in(
        deliveries in proptest::collection::vec(0..1u64 << 53, 1..40),
        space in "[ \t\r\n]{0,2}",
    ) {
        let numbers: Vec<String> = deliveries.iter().map(|number| format!("{space}{number}{space}")).collect();
        let text = format!(r#"{{"type":"ack","deliveries":[{}]}}"#, numbers.join(","));
        let Request::Settle(settle) = ClientFrame::decode(&text).unwrap().request else {
            panic!("ack")
        };
        prop_assert_eq!(settle.deliveries.as_slice(), deliveries);
    }

    /// An `ack` of anything but whole numbers is refused.
    #[test]
    fn what_is_no_delivery_is_refused(
        before in proptest::collection::vec(0..1000u64, 0..3),
        other in r#"-1|1\.0|1e3|null|true|"(1|1,2|\]|\[)"|\[(1(,2)?)?\]|\{("a":1)?\}|9007199254740992"#,
        after in proptest::collection::vec(0..1000u64, 0..3),
    ) {
        let mut elements: Vec<String> = before.iter().map(u64::to_string).collect();
        elements.push(other);
        elements.extend(after.iter().map(u64::to_string));
        let text = format!(r#"{{"type":"ack","deliveries":[{}]}}"#, elements.join(","));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        let code = ClientFrame::decode(&text).unwrap_err().refusal.code;
        prop_assert_eq!(code, ErrorCode::BadFrame);
    }

    /// A frame cut or changed anywhere is decoded or refused, never a panic.
    #[test]
    fn a_hurt_frame_is_decoded_or_refused(at in 0usize..280, with in proptest::option::of("\\PC|[\\x00-\\x7f]")) {
        let whole = r#"{"type":"publish","id":"a\u00e9","topic":"orders","messages":[{"key":"é","payload":{"a":[1.5e3,"\n"]}},{"payload_base64":"AA==","deliver_at":"2026-11-20T08:00:00Z","notify":{"on":"durable","correlation_id":"c"}}],"ack":"none"}"#;
        let at = (0..=at.min(whole.len())).rev().find(|&at| whole.is_char_boundary(at)).unwrap();
        let hurt = match with {
            None => whole[..at].to_owned(),
            Some(with) => format!("{}{with}{}", &whole[..at], &whole[at..]),
        };
        if ClientFrame::decode(&hurt).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&hurt).is_ok(), "{hurt}");
        }
    }
}
