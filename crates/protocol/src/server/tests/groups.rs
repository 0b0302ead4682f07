//! What members of groups are told, and those who wait for them.

use super::*;

fn group() -> GroupName {
    GroupName::parse("workers").unwrap()
}

#[test]
fn a_groups_message_says_whose_it_is() {
    let prefix = MessagePrefix::for_group(&topic(), &group(), PartitionId(3));
    check(
        |buffer| prefix.message(buffer, Some(Offset(17)), AT, &PLAIN),
        r#"{"type":"message","topic":"orders","group":"workers","partition":3,"offset":17,"timestamp":1795146000123,"payload":21.50}"#,
    );
    let lease = Lease {
        delivery: 991,
        attempt: 1,
        lease_ms: 30_000,
    };
    check(
        |buffer| prefix.leased(buffer, Offset(17), AT, &PLAIN, lease),
        r#"{"type":"message","topic":"orders","group":"workers","partition":3,"offset":17,"delivery":991,"attempt":1,"lease_ms":30000,"timestamp":1795146000123,"payload":21.50}"#,
    );
}

#[test]
fn published_carries_the_result_as_it_came() {
    check(
        |buffer| {
            prefix().published_result(
                buffer,
                &FrameId::Number(4),
                &stored(3, "fsync"),
                br#"{"product": 4.20}"#,
            )
        },
        r#"{"type":"published","id":4,"topic":"orders","partition":3,"offset":3,"durability":"fsync","result":{"product": 4.20}}"#,
    );
    let results = [
        RecordResult::Processed(PartitionId(1), stored(4, "fsync"), (*b"[1]").into()),
        RecordResult::Stored(PartitionId(0), stored(9, "fsync")),
    ];
    check(
        |buffer| published_many(buffer, Some(&FrameId::Number(2)), &topic(), &results),
        r#"{"type":"published","id":2,"topic":"orders","results":[{"partition":1,"offset":4,"result":[1]},{"partition":0,"offset":9}],"durability":"fsync"}"#,
    );
}

#[test]
fn an_error_after_the_record_was_stored_says_where_it_is() {
    let late = Refusal::new(ErrorCode::Timeout, "late").with_place(PartitionId(2), Offset(7));
    check(
        |buffer| error(buffer, Some(&FrameId::Number(4)), &late, None),
        r#"{"type":"error","id":4,"code":"timeout","message":"late","retryable":true,"partition":2,"offset":7}"#,
    );
}

#[test]
fn an_error_lists_the_deliveries_that_could_not_be_settled() {
    let refusal = Refusal::new(ErrorCode::LeaseExpired, "late");
    let failed = [(991, ErrorCode::LeaseExpired), (7, ErrorCode::UnknownDelivery)];
    check(
        |buffer| error_failed(buffer, Some(&FrameId::Number(12)), &refusal, &failed),
        r#"{"type":"error","id":12,"code":"lease_expired","message":"late","retryable":false,"failed":[{"delivery":991,"code":"lease_expired"},{"delivery":7,"code":"unknown_delivery"}]}"#,
    );
    check(
        |buffer| error_failed(buffer, None, &refusal, &failed[..1]),
        r#"{"type":"error","code":"lease_expired","message":"late","retryable":false,"failed":[{"delivery":991,"code":"lease_expired"}]}"#,
    );
}

#[test]
fn frames_of_groups_have_the_shapes_of_the_document() {
    let (topic, group, epoch, id) = (topic(), group(), Epoch("k3f9".into()), FrameId::Number(6));
    let offsets: Offsets = [(PartitionId(0), Offset(12)), (PartitionId(2), Offset(0))].into();
    let nothing = Offsets::new();
    let assigned = |offsets| ServerFrame::Assigned {
        topic: &topic,
        group: &group,
        generation: 5,
        offsets,
    };
    check(
        |buffer| assigned(&offsets).push(buffer),
        r#"{"type":"assigned","topic":"orders","group":"workers","generation":5,"offsets":{"0":12,"2":0}}"#,
    );
    check(
        |buffer| assigned(&nothing).push(buffer),
        r#"{"type":"assigned","topic":"orders","group":"workers","generation":5,"offsets":{}}"#,
    );
    let revoked = ServerFrame::Revoked {
        topic: &topic,
        group: &group,
        generation: 6,
        partitions: &[PartitionId(2)],
        grace_ms: 1000,
    };
    check(
        |buffer| revoked.push(buffer),
        r#"{"type":"revoked","topic":"orders","group":"workers","generation":6,"partitions":[2],"grace_ms":1000}"#,
    );
    let subscribed = ServerFrame::SubscribedGroup {
        id: Some(&id),
        topic: &topic,
        group: &group,
        mode: GroupMode::Partitioned,
        epoch: &epoch,
        offsets: &offsets,
        recovered: true,
    };
    check(
        |buffer| subscribed.push(buffer),
        r#"{"type":"subscribed","id":6,"topic":"orders","group":"workers","mode":"partitioned","epoch":"k3f9","offsets":{"0":12,"2":0},"recovered":true}"#,
    );
    let unsubscribed = ServerFrame::Unsubscribed {
        topic: "orders",
        group: Some(&group),
        reason: "group_deleted",
    };
    check(
        |buffer| unsubscribed.push(buffer),
        r#"{"type":"unsubscribed","topic":"orders","group":"workers","reason":"group_deleted"}"#,
    );
}
