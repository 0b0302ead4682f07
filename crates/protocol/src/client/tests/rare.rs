//! Records that come later, and notices of what became of them.

use super::*;
use crate::{Timestamp, limits::DELAY_MS_MAX, time::parse_rfc3339};

fn of(fields: &str) -> (Option<Due>, Option<Notify>) {
    let text = format!(r#"{{"type":"publish","topic":"t","payload":1,{fields}}}"#);
    let record = record(&text);
    (record.due, record.notify.map(|notify| *notify))
}

const MOMENT: &str = "2026-11-20T08:00:00.250Z";

#[test]
fn a_record_says_when_it_is_due() {
    let at = Due::At(parse_rfc3339(MOMENT).unwrap());
    for (fields, expected) in [
        (r#""delay_ms":5"#.to_owned(), Due::After(5)),
        (r#""delay_ms":0"#.into(), Due::After(0)),
        (format!(r#""delay_ms":{DELAY_MS_MAX}"#), Due::After(DELAY_MS_MAX)),
        (format!(r#""deliver_at":"{MOMENT}""#), at),
        (format!(r#""deliver_at":"{MOMENT}","delay_ms":null"#), at),
        (
            format!(r#""\u0064eliver_at":"{}""#, MOMENT.replace('T', r"\u0054")),
            at,
        ),
        (r#""delay_ms":5,"delay_ms":6"#.into(), Due::After(6)),
    ] {
        assert_eq!(of(&fields), (Some(expected), None), "{fields}");
    }
    assert_eq!(of(r#""delay_ms":5,"delay_ms":null"#), (None, None));
}

#[test]
fn a_due_moment_is_never_past_and_at_most_100_years_away() {
    let now = Timestamp(1_795_146_000_000);
    let moment = |due: Due| due.moment(now).map_err(|refusal| refusal.code);
    assert_eq!(moment(Due::After(0)), Ok(now));
    assert_eq!(moment(Due::After(5)), Ok(now.plus_ms(5)));
    assert_eq!(moment(Due::At(Timestamp(7))), Ok(now));
    assert_eq!(moment(Due::At(now.plus_ms(7))), Ok(now.plus_ms(7)));
    let last = now.plus_ms(DELAY_MS_MAX);
    assert_eq!(moment(Due::At(last)), Ok(last));
    assert_eq!(moment(Due::At(last.plus_ms(1))), Err(ErrorCode::InvalidArgument));
    assert_eq!(
        moment(Due::After(DELAY_MS_MAX + 1)),
        Err(ErrorCode::InvalidArgument)
    );
    assert_eq!(moment(Due::After(u64::MAX)), Err(ErrorCode::InvalidArgument));
}

#[test]
fn a_notice_says_on_what_and_where_to() {
    let long_id = "é".repeat(64);
    let long_url = format!("HTTPS://h/{}", "u".repeat(2038));
    for (fields, on, correlation_id, url) in [
        (
            r#"{"on":"delivered","correlation_id":"c-17","url":"https://example.org/x?y=1"}"#.to_owned(),
            Ack::Delivered,
            "c-17",
            Some("https://example.org/x?y=1"),
        ),
        (
            r#"{"on":"accepted","correlation_id":"\u0063\"","url":null,"more":[]}"#.into(),
            Ack::Accepted,
            "c\"",
            None,
        ),
        (
            format!(r#"{{"on":"durable","correlation_id":"{long_id}"}}"#),
            Ack::Durable,
            &long_id,
            None,
        ),
        (
            format!(r#"{{"on":"processed","correlation_id":"c","url":"{long_url}"}}"#),
            Ack::Processed,
            "c",
            Some(&*long_url),
        ),
    ] {
        let expected = Notify {
            on,
            correlation_id: correlation_id.into(),
            url: url.map(Into::into),
        };
        let (due, notify) = of(&format!(r#""notify":{fields},"delay_ms":1"#));
        assert_eq!((due, notify), (Some(Due::After(1)), Some(expected)), "{fields}");
    }
}

#[test]
fn what_is_asked_wrongly_is_refused_with_its_code() {
    use ErrorCode::{BadFrame, InvalidArgument};
    let notify = |on: &str, id: &str, url: &str| {
        format!(r#""notify":{{"on":"{on}","correlation_id":"{id}","url":"{url}"}}"#)
    };
    for (fields, code) in [
        (r#""delay_ms":-1"#.to_owned(), BadFrame),
        (r#""delay_ms":"5""#.into(), BadFrame),
        (r#""delay_ms":1.5"#.into(), BadFrame),
        (format!(r#""delay_ms":{}"#, DELAY_MS_MAX + 1), InvalidArgument),
        (r#""deliver_at":1795146000123"#.into(), BadFrame),
        (r#""deliver_at":"tomorrow""#.into(), InvalidArgument),
        (r#""deliver_at":"2026-02-30T00:00:00Z""#.into(), InvalidArgument),
        (format!(r#""deliver_at":"{MOMENT}","delay_ms":5"#), BadFrame),
        (r#""notify":true"#.into(), BadFrame),
        (r#""notify":{}"#.into(), BadFrame),
        (r#""notify":{"on":"delivered"}"#.into(), BadFrame),
        (r#""notify":{"correlation_id":"c"}"#.into(), BadFrame),
        (
            r#""notify":{"on":"delivered","correlation_id":7}"#.into(),
            BadFrame,
        ),
        (notify("none", "c", "http://h"), BadFrame),
        (notify("soon", "c", "http://h"), BadFrame),
        (notify("durable", "", "http://h"), InvalidArgument),
        (notify("durable", &"c".repeat(129), "http://h"), InvalidArgument),
        (notify("durable", "c", ""), InvalidArgument),
        (notify("durable", "c", "h/x"), InvalidArgument),
        (notify("durable", "c", "ftp://h"), InvalidArgument),
        (notify("durable", "c", "http://"), InvalidArgument),
        (notify("durable", "c", "http:///x"), InvalidArgument),
        (notify("durable", "c", "https://?x"), InvalidArgument),
        (notify("durable", "c", "https://h/a b"), InvalidArgument),
        (notify("durable", "c", r"https://h/\r\nX: y"), InvalidArgument),
        (notify("durable", "c", "https://höst/"), InvalidArgument),
        (
            notify("durable", "c", &format!("https://h/{}", "u".repeat(2039))),
            InvalidArgument,
        ),
    ] {
        assert_eq!(
            refused_record(&format!(r#""payload":1,{fields}"#)),
            code,
            "{fields}"
        );
    }
}

#[test]
fn each_of_several_records_asks_for_itself() {
    let text = r#"{"type":"publish","topic":"t","messages":[{"payload":1,"delay_ms":5},{"payload":2},
        {"payload":3,"delay_ms":-5},{"payload":4,"notify":{"on":"durable","correlation_id":"c"}}]}"#;
    let Records::Many(records) = published(text).records else {
        panic!("several records")
    };
    let asked: Vec<_> = records
        .iter()
        .map(|record| {
            record
                .as_ref()
                .map(|record| (record.due, record.notify.is_some()))
                .map_err(|refusal| refusal.code)
        })
        .collect();
    assert_eq!(
        asked,
        [
            Ok((Some(Due::After(5)), false)),
            Ok((None, false)),
            Err(ErrorCode::BadFrame),
            Ok((None, true)),
        ]
    );
    for beside in [
        r#""delay_ms":5"#,
        r#""notify":{"on":"durable","correlation_id":"c"}"#,
    ] {
        let fields = format!(r#""messages":[{{"payload":1}}],{beside}"#);
        assert_eq!(refused_record(&fields), ErrorCode::BadFrame, "{beside}");
    }
    assert!(
        ClientFrame::decode(r#"{"type":"publish","topic":"t","messages":[{"payload":1}],"delay_ms":null}"#)
            .is_ok()
    );
}

#[test]
fn rest_bodies_ask_as_frames_do() {
    let body = r#"{"payload":1,"delay_ms":5,"notify":{"on":"processed","correlation_id":"c"}}"#;
    let posted = decode_messages(body).unwrap().records;
    let record = posted[0].as_ref().unwrap();
    assert_eq!(record.due, Some(Due::After(5)));
    assert_eq!(
        record.notify.as_deref().map(|notify| notify.on),
        Some(Ack::Processed)
    );
}
