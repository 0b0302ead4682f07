//! Async client for Callboard.
//!
//! ```no_run
//! # async fn example() -> Result<(), callboard_client::Error> {
//! use callboard_client::{Client, ConnectOptions, Publish, Subscribe, SubscriptionEvent};
//!
//! let client = Client::connect("ws://127.0.0.1:8080/ws", ConnectOptions::default()).await?;
//! let mut orders = client.subscribe(Subscribe::topic("orders")).await?;
//! client.publish(Publish::json("orders", r#"{"total":12}"#)?.with_key("c42")).await?;
//! while let Some(SubscriptionEvent::Record(record)) = orders.next_event().await {
//!     println!("{} {:?}", record.partition, record.payload);
//! }
//! # Ok(()) }
//! ```
//!
//! Work is shared in groups: a [`GroupConsumer`] owns partitions and commits how far it came, a [`Worker`]
//! leases one record after the other and settles each.
//!
//! ```no_run
//! # async fn example(client: callboard_client::Client) -> Result<(), callboard_client::Error> {
//! use callboard_client::{GroupEvent, MemberOptions, Nack};
//!
//! let mut worker = client.join_shared("jobs", "workers", MemberOptions::default().with_credit(1)).await?;
//! while let Some(job) = worker.next_job().await {
//!     match job.message().payload {
//!         Some(_) => job.ack_with(r#"{"product":42}"#).await?,
//!         None => job.nack(Nack::dead_letter().because("not JSON")).await?,
//!     }
//! }
//!
//! let member = MemberOptions::default().named("billing-1");
//! let mut orders = client.join_partitioned("orders", "billing", member).await?;
//! while let Some(event) = orders.next_event().await {
//!     if let GroupEvent::Message(order) = event {
//!         orders.commit(&order).await?;
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! An exchange leads one record to several topics, now or later; a notice tells what became of it.
//!
//! ```no_run
//! # async fn example(client: callboard_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use callboard_client::{Ack, Binding, ExchangeKind, Payload, Publish};
//!
//! client.declare_exchange("readings", ExchangeKind::Topic, None).await?;
//! client.bind(&Binding::to_topic("readings", "plant", "plant.#")).await?;
//! let mut notices = client.notices().await?;
//! let reading = Publish::routed("readings", "plant.boiler.temp", Payload::json("21.5")?);
//! client.publish_after(reading.with_notify(Ack::Delivered, "r-1"), Duration::from_secs(60)).await?;
//! let notice = notices.next().await;
//! # Ok(()) }
//! ```
//!
//! Layout:
//! - [`frame`]: the broker's frames, decoded; payloads stay the bytes they came as.
//! - [`request`]: what a client asks, and how it is written as one line.
//! - [`error`]: what can go wrong.
//! - `transport`: the socket. The only module that knows a runtime's sockets, so that a browser
//!   build has one module to replace.
//! - `members`: which groups the client is a member of.
//! - `positions`: which subscription a record belongs to, and where it goes on after a reconnect.
//! - `driver`: the task that owns the socket.
//! - `handle`: [`Client`], [`Publisher`], [`Subscription`], [`GroupConsumer`] and [`Worker`], which talk to
//!   that task.

mod driver;
pub mod error;
pub mod frame;
mod handle;
mod members;
mod positions;
pub mod request;
mod transport;

pub use callboard_protocol::ExchangeKind;
pub use error::{Error, ServerError};
pub use frame::{
    Assigned, Message, Notice, Page, Published, RecordResult, Revoked, Route, Scheduled, ServerFrame,
    Skipped, Welcome,
};
pub use handle::{
    Client, ConnectOptions, Event, GroupConsumer, GroupEvent, Job, Notices, Outcome, Processed, Publisher,
    Reconnect, Subscription, SubscriptionEvent, Worker, WorkerEvent,
};
pub use request::{
    Ack, Binding, CommitTo, Fetch, From, MemberOptions, Nack, Ordering, Overflow, Payload, Position, Publish,
    SharedOptions, Subscribe,
};
