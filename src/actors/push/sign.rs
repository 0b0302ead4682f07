//! Signatures of calls, so that an endpoint knows who calls and that nobody has changed what is said.
//!
//! Source: the Standard Webhooks specification, symmetric signatures (`v1`).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use callboard_protocol::{ErrorCode, error::Refusal};
use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};

/// What a secret's text begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret that the broker makes.
const MADE_BYTES: usize = 32;
/// Fewest and most bytes of a secret that is given.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What the broker and one endpoint know and nobody else.
#[derive(Clone)]
pub struct Secret {
    text: String,
    key: hmac::Key,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Logs are read by more people than secrets may be.
        formatter.write_str("Secret")
    }
}

impl Secret {
    /// A new secret.
    ///
    /// # Errors
    /// `internal` when the system gives no random bytes.
    pub fn generate() -> Result<Self, Refusal> {
        let mut bytes = [0; MADE_BYTES];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Refusal::new(ErrorCode::Internal, "the system gives no random bytes"))?;
        Ok(Self::of(&bytes))
    }

    fn of(bytes: &[u8]) -> Self {
        Self {
            text: format!("{PREFIX}{}", STANDARD.encode(bytes)),
            key: hmac::Key::new(hmac::HMAC_SHA256, bytes),
        }
    }

    /// Reads a secret that was given or kept.
    ///
    /// # Errors
    /// `invalid_argument` for what is none.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let bytes = text
            .strip_prefix(PREFIX)
            .and_then(|rest| STANDARD.decode(rest).ok())
            .filter(|bytes| BYTES.contains(&bytes.len()));
        let message = "a secret is whsec_ and the base64 of 24 to 64 bytes; without one the broker makes it";
        bytes
            .map(|bytes| Self::of(&bytes))
            .ok_or_else(|| Refusal::new(ErrorCode::InvalidArgument, message))
    }

    /// The secret as people copy it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What `webhook-signature` says of a call with this id, sent at this time.
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let mut signed = hmac::Context::with_key(&self.key);
        signed.update(format!("{id}.{timestamp_s}.").as_bytes());
        signed.update(body);
        format!("v1,{}", STANDARD.encode(signed.sign()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_published_vector() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = secret.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn made_secrets_differ_and_can_be_read_again() {
        let (one, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one.text(), other.text());
        let again = Secret::parse(one.text()).unwrap();
        assert_eq!(again.sign("a", 1, b"b"), one.sign("a", 1, b"b"));
        assert_ne!(again.sign("a", 1, b"b"), other.sign("a", 1, b"b"));
        assert!(!format!("{one:?}").contains(&one.text()[6..]));
    }

    #[test]
    fn what_is_no_secret_is_refused() {
        for text in [
            "",
            "whsec_",
            "secret",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2Laa",
            "whsec_not base64 at all, not base64 at all",
            &format!("whsec_{}", STANDARD.encode([7; 23])),
            &format!("whsec_{}", STANDARD.encode([7; 65])),
        ] {
            let refusal = Secret::parse(text).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidArgument, "{text}");
        }
        for bytes in [24, 64] {
            let text = format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
            assert_eq!(Secret::parse(&text).unwrap().text(), text);
        }
    }
}
