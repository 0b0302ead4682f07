//! For tests: a server's bytes, handed to its reader cut into pieces of one size.

use callboard_load::dialect::{Dialect, Reader as _, Seen};

/// What a reader made of them.
#[derive(Default)]
pub struct Taken {
    pub reply: Vec<u8>,
    pub seen: Seen,
    pub got: Vec<Vec<u8>>,
}

/// Has a subscriber's reader take the records of `payloads` in pieces of `size` bytes.
pub fn take_in_pieces(dialect: &impl Dialect, payloads: &[Vec<u8>], size: usize) -> Taken {
    let (mut reader, mut stream) = dialect.offline(payloads);
    let mut taken = Taken::default();
    for piece in stream.chunks_mut(size) {
        let Taken { reply, seen, got } = &mut taken;
        let outcome = reader.take_payloads(piece, reply, seen, |payload| got.push(payload.to_vec()));
        assert!(outcome.is_ok());
    }
    taken
}
