use actix::prelude::*;
use bytes::Bytes;
use callboard_protocol::Offset;
use super::PartitionActor;
#[derive(Message)]
#[rtype(result = "()")]
pub struct Sent { pub from: Offset, pub next: Offset }
#[derive(Message)]
#[rtype(result = "()")]
pub struct Processed(pub Vec<(Offset, ProcessedOutcome)>);
pub enum ProcessedOutcome { Acked(Option<Bytes>), DeadLettered(String) }
#[derive(Message)]
#[rtype(result = "()")]
pub struct RoomMade;
impl Handler<Sent> for PartitionActor { type Result = (); fn handle(&mut self, _: Sent, _: &mut Self::Context) {} }
impl Handler<Processed> for PartitionActor { type Result = (); fn handle(&mut self, _: Processed, _: &mut Self::Context) {} }
impl Handler<RoomMade> for PartitionActor { type Result = (); fn handle(&mut self, _: RoomMade, _: &mut Self::Context) {} }
