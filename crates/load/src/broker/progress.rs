//! How far a group is, by the broker's own description of it.

use serde::Deserialize;

use super::{
    super::{
        Failure,
        crew::Plan,
        dialect::{Progress, TOPIC},
        http,
        process::Server,
    },
    duty::{Duty, GROUP},
};

/// Asks the broker.
///
/// # Errors
/// It does not say.
pub fn of(server: &Server, plan: &Plan, published: u64) -> Result<Progress, Failure> {
    let answer = describe(server)?;
    let group: Group = serde_json::from_str(&answer)
        .map_err(|error| Failure::new(format!("{error} in the group's description {answer}")))?;
    Ok(if !group.is_shared_out(plan.members) {
        Progress::Gathering(answer)
    } else if group.has_settled(plan.duty, published) {
        Progress::Settled
    } else {
        Progress::Working(answer)
    })
}

fn describe(server: &Server) -> Result<String, Failure> {
    let path = format!("/api/v1/topics/{TOPIC}/groups/{GROUP}");
    let (status, answer) = http::request("GET", &server.address, &path)?;
    if status == 200 {
        Ok(answer)
    } else {
        Err(Failure::new(format!("GET {path}: HTTP {status} {answer}")))
    }
}

/// What a group's description says of what matters here.
#[derive(Deserialize)]
struct Group {
    members: Vec<MemberShare>,
    partitions: Vec<Partition>,
    acked: u64,
    lag: u64,
}

#[derive(Deserialize)]
struct MemberShare {
    partitions: Vec<u64>,
    revoking: Vec<u64>,
}

#[derive(Deserialize)]
struct Partition {
    committed: u64,
    member: Option<String>,
}

impl Group {
    /// Whether all members are there and nothing moves any more.
    fn is_shared_out(&self, members: usize) -> bool {
        let sizes = || self.members.iter().map(|member| member.partitions.len());
        let is_even = sizes().max().unwrap_or(0) <= sizes().min().unwrap_or(0) + 1;
        let has_owners =
            sizes().sum::<usize>() == 0 || self.partitions.iter().all(|partition| partition.member.is_some());
        self.members.len() == members
            && is_even
            && has_owners
            && self.members.iter().all(|member| member.revoking.is_empty())
    }

    fn has_settled(&self, duty: Duty, published: u64) -> bool {
        let committed: u64 = self.partitions.iter().map(|partition| partition.committed).sum();
        let is_exact = match duty {
            Duty::Ack => self.acked == published,
            Duty::Commit { .. } => committed == published,
        };
        self.lag == 0 && is_exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(text: &str) -> Group {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    #[test]
    fn group_is_shared_out_when_nothing_moves_any_more() {
        let of = |members: &str, owner: &str| {
            group(&format!(
                r#"{{"members":[{members}],"partitions":[{{"partition":0,"committed":4,"next_offset":9,"member":{owner}}}],"acked":0,"lag":5}}"#
            ))
        };
        let owns = r#"{"member":"a","partitions":[0],"revoking":[]}"#;
        let idles = r#"{"member":"b","partitions":[],"revoking":[]}"#;
        let leaves = r#"{"member":"b","partitions":[],"revoking":[1]}"#;
        assert!(of(&format!("{owns},{idles}"), r#""a""#).is_shared_out(2));
        assert!(!of(&format!("{owns},{leaves}"), r#""a""#).is_shared_out(2));
        assert!(!of(owns, r#""a""#).is_shared_out(2));
        assert!(!of(owns, "null").is_shared_out(1));
        assert!(of(idles, "null").is_shared_out(1), "a shared group has no owners");
        assert!(!of(owns, r#""a""#).has_settled(Duty::Commit { every: 1 }, 9));
    }

    #[test]
    fn settled_is_what_the_broker_counted_exactly() {
        let of = |committed: u64, acked: u64, lag: u64| {
            group(&format!(
                r#"{{"members":[],"partitions":[{{"committed":{committed},"member":null}}],"acked":{acked},"lag":{lag}}}"#
            ))
        };
        assert!(of(9, 9, 0).has_settled(Duty::Ack, 9));
        assert!(!of(9, 8, 0).has_settled(Duty::Ack, 9), "one went another way");
        assert!(!of(9, 9, 1).has_settled(Duty::Ack, 9));
        assert!(of(9, 0, 0).has_settled(Duty::Commit { every: 100 }, 9));
        assert!(!of(8, 0, 0).has_settled(Duty::Commit { every: 100 }, 9));
    }
}
