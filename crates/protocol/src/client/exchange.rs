//! `declare` of an exchange, `bind` and `unbind`.

use serde::Deserialize;

use super::{Request, bad, control::read, invalid, topic_name};
use crate::{
    TopicName,
    error::Refusal,
    name::{ExchangeKind, ExchangeName},
};

/// A `declare` frame for an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclareExchange {
    /// Its name.
    pub exchange: ExchangeName,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Where what matches none of its bindings goes.
    pub alternate: Option<ExchangeName>,
}

/// A `bind` or `unbind` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where records come from.
    pub exchange: ExchangeName,
    /// Where they go.
    pub to: BindTo,
    /// Which; how it may be spelt depends on the exchange's kind, which is not known here.
    pub routing_key: String,
}

/// What a binding leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BindTo {
    /// A topic.
    Topic(TopicName),
    /// Another exchange.
    Exchange(ExchangeName),
}

pub(super) fn declare<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        exchange: String,
        kind: Option<String>,
        alternate: Option<String>,
    }
    let fields: Fields = read(text)?;
    let kind = fields
        .kind
        .ok_or_else(|| bad("declare of an exchange needs a kind"))?;
    Ok(Request::DeclareExchange(DeclareExchange {
        exchange: exchange_name(&fields.exchange)?,
        kind: exchange_kind(&kind)?,
        alternate: fields.alternate.as_deref().map(exchange_name).transpose()?,
    }))
}

pub(super) fn bind<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    binding(text).map(Request::Bind)
}

pub(super) fn unbind<'a>(text: &str) -> Result<Request<'a>, Refusal> {
    binding(text).map(Request::Unbind)
}

fn binding(text: &str) -> Result<Bind, Refusal> {
    #[derive(Deserialize)]
    struct Fields {
        exchange: String,
        topic: Option<String>,
        to_exchange: Option<String>,
        routing_key: Option<String>,
    }
    let fields: Fields = read(text)?;
    let to = match (fields.topic, fields.to_exchange) {
        (Some(topic), None) => BindTo::Topic(topic_name(&topic)?),
        (None, Some(exchange)) => BindTo::Exchange(exchange_name(&exchange)?),
        _ => {
            return Err(bad(
                "a binding leads to a topic or to to_exchange, to one of them",
            ));
        }
    };
    Ok(Bind {
        exchange: exchange_name(&fields.exchange)?,
        to,
        routing_key: fields.routing_key.unwrap_or_default(),
    })
}

/// The exchange's name, or the refusal that says what a name looks like.
///
/// # Errors
/// `invalid_argument`.
pub fn exchange_name(name: &str) -> Result<ExchangeName, Refusal> {
    ExchangeName::parse(name).map_err(|error| invalid(error.to_string()))
}

/// The kind, or the refusal that says which there are.
///
/// # Errors
/// `invalid_argument`.
pub fn exchange_kind(kind: &str) -> Result<ExchangeKind, Refusal> {
    ExchangeKind::parse(kind).ok_or_else(|| invalid("an exchange is direct, fanout or topic"))
}
