//! Why an exchange or a binding is refused, and what of that a client is told.

use callboard_protocol::{ErrorCode, ExchangeName, error::Refusal, name::NameError};

use super::Exchange;

/// Why nothing was changed, or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// There is no such exchange.
    #[error("there is no exchange {0}")]
    NotFound(Box<str>),
    /// It is there, and this is how: with another kind or another alternate.
    #[error("the exchange {} is there already, of kind {} and {}", .0.name, .0.kind.as_str(), alternate(.0))]
    Conflict(Exchange),
    /// What was routed could come back to where it was.
    #[error("{from} can not lead to {to}: {to} leads to {from} already, and that would be a cycle")]
    Cycle {
        /// The exchange that would lead on.
        from: ExchangeName,
        /// Where to: it leads back already, or is the same one.
        to: ExchangeName,
    },
    /// The routing key is none, or not one for this kind of exchange.
    #[error(transparent)]
    Key(#[from] NameError),
}

impl ExchangeError {
    pub(super) fn cycle(from: &ExchangeName, to: &ExchangeName) -> Self {
        Self::Cycle {
            from: from.clone(),
            to: to.clone(),
        }
    }

    /// What a client is told.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            Self::NotFound(_) => ErrorCode::ExchangeNotFound,
            Self::Conflict(_) | Self::Cycle { .. } => ErrorCode::Conflict,
            Self::Key(_) => ErrorCode::InvalidArgument,
        };
        Refusal::new(code, self.to_string())
    }
}

fn alternate(exchange: &Exchange) -> String {
    match &exchange.alternate {
        Some(alternate) => format!("with the alternate {alternate}"),
        None => "without an alternate".to_owned(),
    }
}
