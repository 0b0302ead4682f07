//! Publishes to exchanges, and the frames that make them.

use super::*;
use crate::name::{ExchangeKind, ExchangeName};

fn to(fields: &str) -> To<'_> {
    published(fields).to
}

#[test]
fn a_publish_goes_to_a_topic_or_through_an_exchange() {
    let through = |exchange: &'static str, routing_key: &'static str| To::Exchange {
        exchange: exchange.into(),
        routing_key: routing_key.into(),
    };
    for (text, expected) in [
        (
            r#"{"type":"publish","id":3,"exchange":"readings","routing_key":"plant.boiler.temp","payload":21.5}"#,
            through("readings", "plant.boiler.temp"),
        ),
        (
            r#"{"type":"publish","exchange":"readings","payload":1}"#,
            through("readings", ""),
        ),
        (
            r#"{"type":"publish","exchange":"readings","routing_key":null,"topic":null,"messages":[{"payload":1}]}"#,
            through("readings", ""),
        ),
        (
            r#"{"type":"publish","exchange":"","routing_key":"orders","payload":1}"#,
            through("", "orders"),
        ),
        (
            r#"{"type":"publish","\u0065xchange":"\u0065","routing\u005fkey":"a\u002eb","payload":1}"#,
            through("e", "a.b"),
        ),
        // Where it goes is clear, and a field that is not needed is no error.
        (
            r#"{"type":"publish","topic":"t","routing_key":"a.b","payload":1}"#,
            To::Topic("t".into()),
        ),
    ] {
        assert_eq!(to(text), expected, "{text}");
    }
}

#[test]
fn a_publish_that_does_not_say_where_to_is_refused() {
    use ErrorCode::{BadFrame, InvalidArgument};
    let long = format!(r#""exchange":"e","routing_key":"{}""#, "k".repeat(256));
    for (fields, code) in [
        (r#""payload":1"#, BadFrame),
        (r#""routing_key":"a""#, BadFrame),
        (r#""topic":null,"exchange":null"#, BadFrame),
        (r#""topic":"t","exchange":"e""#, BadFrame),
        (r#""topic":"t","exchange":"""#, BadFrame),
        (r#""exchange":5"#, BadFrame),
        (r#""exchange":"e","routing_key":5"#, BadFrame),
        (r#""exchange":"e","routing_key":"a.*""#, InvalidArgument),
        (r#""exchange":"e","routing_key":"a.#.b""#, InvalidArgument),
        (r#""exchange":"e","routing_key":"a b""#, InvalidArgument),
        (r#""exchange":"","routing_key":"$events""#, InvalidArgument),
        (&long, InvalidArgument),
    ] {
        let text = format!(r#"{{"type":"publish","id":3,"payload":1,{fields}}}"#);
        assert_eq!(refusal(&text), (code, Some("3".into())), "{fields}");
    }
}

#[test]
fn a_routing_key_is_for_all_records_that_come_together() {
    let text = r#"{"type":"publish","exchange":"e","routing_key":"a","messages":[{"payload":1,"routing_key":"b"},
        {"payload":2},{"routing_\u006bey":"b","payload":3},{"payload":{"routing_key":"b"}}]}"#;
    let Records::Many(records) = published(text).records else {
        panic!("several records")
    };
    let refused: Vec<_> = records.iter().map(Result::is_err).collect();
    assert_eq!(refused, [true, false, true, false]);
    let code = records[0].as_ref().unwrap_err().code;
    assert_eq!(code, ErrorCode::BadFrame);
    let posted = decode_messages(r#"[{"payload":1,"routing_key":"b"}]"#).unwrap();
    assert!(posted.routing_key.is_none() && posted.records[0].is_err());
}

#[test]
fn one_record_of_rest_may_say_its_routing_key() {
    let key = |body| decode_messages(body).map(|posted| posted.routing_key.map(Text::into_owned));
    assert_eq!(key(r#"{"payload":1}"#), Ok(None));
    assert_eq!(key(r#"{"payload":1,"routing_key":null}"#), Ok(None));
    assert_eq!(
        key(r#"{"routing_key":"a.b","payload":1}"#),
        Ok(Some("a.b".into()))
    );
    for (body, code) in [
        (r#"{"payload":1,"routing_key":5}"#, ErrorCode::BadFrame),
        (r#"{"payload":1,"routing_key":"a.*"}"#, ErrorCode::InvalidArgument),
    ] {
        assert_eq!(key(body).unwrap_err().code, code, "{body}");
    }
}

#[test]
fn an_exchange_is_declared_with_its_kind() {
    let declared = |fields: &str| {
        let text = format!(r#"{{"type":"declare","id":19,{fields}}}"#);
        match request(&text) {
            Request::DeclareExchange(declare) => declare,
            other => panic!("{text}: {other:?}"),
        }
    };
    let name = |name| ExchangeName::parse(name).unwrap();
    assert_eq!(
        declared(r#""exchange":"readings","kind":"topic""#),
        DeclareExchange {
            exchange: name("readings"),
            kind: ExchangeKind::Topic,
            alternate: None,
        }
    );
    assert_eq!(
        declared(r#""topic":null,"exchange":"a.b","kind":"fanout","alternate":"lost","more":1"#),
        DeclareExchange {
            exchange: name("a.b"),
            kind: ExchangeKind::Fanout,
            alternate: Some(name("lost")),
        }
    );
    assert_eq!(
        declared(r#""exchange":"d","kind":"direct","alternate":null"#).kind,
        ExchangeKind::Direct
    );
    let text = r#"{"type":"declare","topic":"t","exchange":null}"#;
    assert!(matches!(request(text), Request::Declare(declare) if declare.config == "{}"));
}

#[test]
fn a_binding_leads_to_a_topic_or_to_an_exchange() {
    let exchange = ExchangeName::parse("readings").unwrap();
    let plant = BindTo::Topic(TopicName::parse("plant").unwrap());
    let other = BindTo::Exchange(ExchangeName::parse("other").unwrap());
    for (fields, to, routing_key) in [
        (r#""topic":"plant","routing_key":"plant.#""#, &plant, "plant.#"),
        (r#""topic":"plant""#, &plant, ""),
        (r#""to_exchange":"other","routing_key":"*""#, &other, "*"),
        (
            r#""to_exchange":"other","topic":null,"routing_key":null"#,
            &other,
            "",
        ),
    ] {
        let expected = Bind {
            exchange: exchange.clone(),
            to: to.clone(),
            routing_key: routing_key.into(),
        };
        let text = |name| format!(r#"{{"type":"{name}","id":20,"exchange":"readings",{fields}}}"#);
        assert!(
            matches!(request(&text("bind")), Request::Bind(bind) if bind == expected),
            "{fields}"
        );
        assert!(
            matches!(request(&text("unbind")), Request::Unbind(bind) if bind == expected),
            "{fields}"
        );
    }
}

#[test]
fn frames_about_exchanges_are_refused_with_their_code_and_id() {
    use ErrorCode::{BadFrame, InvalidArgument};
    for (fields, code) in [
        (r#""type":"declare","exchange":"e""#, BadFrame),
        (r#""type":"declare","exchange":"e","kind":null"#, BadFrame),
        (r#""type":"declare","exchange":"e","kind":1"#, BadFrame),
        (r#""type":"declare","exchange":1,"kind":"topic""#, BadFrame),
        (
            r#""type":"declare","exchange":"e","topic":"t","kind":"topic""#,
            BadFrame,
        ),
        (
            r#""type":"declare","exchange":"e","kind":"headers""#,
            InvalidArgument,
        ),
        (
            r#""type":"declare","exchange":"","kind":"direct""#,
            InvalidArgument,
        ),
        (
            r#""type":"declare","exchange":"$e","kind":"direct""#,
            InvalidArgument,
        ),
        (
            r#""type":"declare","exchange":"e","kind":"direct","alternate":"""#,
            InvalidArgument,
        ),
        (
            r#""type":"declare","exchange":"e","kind":"direct","alternate":{}"#,
            BadFrame,
        ),
        (r#""type":"bind","topic":"t""#, BadFrame),
        (r#""type":"bind","exchange":"e""#, BadFrame),
        (
            r#""type":"bind","exchange":"e","topic":"t","to_exchange":"f""#,
            BadFrame,
        ),
        (
            r#""type":"bind","exchange":"e","topic":"t","routing_key":7"#,
            BadFrame,
        ),
        (r#""type":"bind","exchange":"e","topic":"a..b""#, InvalidArgument),
        (
            r#""type":"bind","exchange":"e","to_exchange":"a*""#,
            InvalidArgument,
        ),
        (r#""type":"bind","exchange":"","topic":"t""#, InvalidArgument),
        (r#""type":"unbind","exchange":"e""#, BadFrame),
        (r#""type":"unbind","exchange":"a b","topic":"t""#, InvalidArgument),
    ] {
        let (found, id) = refusal(&format!(r#"{{{fields},"id":"x\n"}}"#));
        assert_eq!((found, id.as_deref()), (code, Some(r#""x\n""#)), "{fields}");
    }
}
