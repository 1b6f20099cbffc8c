//! Reads a PROXY header from a connection that a proxy has opened, and not one byte more: what follows may be TLS, and belongs to
//! the session. What a header means: see [`proxy`](crate::protocol::proxy).

use std::io;

use crate::protocol::proxy::{Introduced, Step, decode};

/// A header is read in pieces of at most this. Nearly every one fits, and the specification promises that one of this size
/// arrives whole.
const PIECE_BYTES: usize = 536;

/// The bytes of a header so far.
#[derive(Default)]
pub(super) struct Header {
    bytes: Vec<u8>,
}

impl Header {
    /// Reads the header as far as it has come. `peek` returns the bytes that the next `read` returns. `WouldBlock`: more is needed.
    ///
    /// # Errors
    /// `InvalidData`, around a [`Problem`](crate::protocol::proxy::Problem); `UnexpectedEof` if the bytes end; those of recv(2).
    pub(super) fn read(
        &mut self,
        mut peek: impl FnMut(&mut [u8]) -> io::Result<usize>,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Introduced> {
        loop {
            let before = self.bytes.len();
            self.bytes.resize(before + PIECE_BYTES, 0);
            let peeked = retried(|| peek(&mut self.bytes[before..]));
            self.bytes.truncate(before + peeked.as_ref().map_or(0, |count| *count));
            if peeked? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step =
                decode(&self.bytes).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem));
            // Of what is not wrong, everything up to the header's end is the header's.
            let (taken, introduced) = match step? {
                Step::NeedMore => (self.bytes.len(), None),
                Step::Header { introduced, consumed } => (consumed, Some(introduced)),
            };
            let mut at = before;
            while at < taken {
                match retried(|| read(&mut self.bytes[at..taken])) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(count) => at += count,
                    Err(error) => {
                        self.bytes.truncate(at); // the rest was only peeked at
                        return Err(error);
                    }
                }
            }
            self.bytes.truncate(taken);
            if let Some(introduced) = introduced {
                return Ok(introduced);
            }
        }
    }
}

fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::proxy::tests::right;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::io::Read;

    /// Bytes that come in pieces; between two of them, a read would block.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Pieces {
        fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.front() {
                None => Ok(0),
                Some(piece) if piece.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
                Some(piece) => (&piece[..]).read(into),
            }
        }

        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.peek(into)?;
            self.0[0].drain(..count);
            Ok(count)
        }
    }

    /// Reads a header that comes split at these places; gives what is left in the stream.
    fn read_in_pieces(bytes: &[u8], mut cuts: Vec<usize>) -> (io::Result<Introduced>, Vec<u8>) {
        cuts.sort_unstable();
        let mut pieces = VecDeque::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            pieces.push_back(bytes[from..cut].to_vec());
            from = cut;
        }
        let pieces = std::cell::RefCell::new(Pieces(pieces));
        let mut header = Header::default();
        loop {
            let outcome =
                header.read(|into| pieces.borrow().peek(into), |into| pieces.borrow_mut().read(into));
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pieces.borrow_mut().0.pop_front(); // the next one arrives
                }
                outcome => return (outcome, pieces.into_inner().0.into_iter().flatten().collect()),
            }
        }
    }

    #[test]
    fn split_in_every_place_it_is_read_and_nothing_behind_it() {
        for (header, whom) in right() {
            let mut bytes = header.clone();
            bytes.extend_from_slice(b"hello");
            for cut in 0..=bytes.len() {
                let (outcome, left) = read_in_pieces(&bytes, vec![cut]);
                assert_eq!((outcome.expect("a header"), &left[..]), (whom, &b"hello"[..]));
            }
        }
    }

    #[test]
    fn a_read_that_would_block_after_its_peek_repeats_nothing_of_the_header() {
        for (header, whom) in right() {
            let bytes = [&header[..], b"hello"].concat();
            let pieces = std::cell::RefCell::new(Pieces([bytes].into()));
            let (mut parsed, mut reads) = (Header::default(), 0);
            let outcome = loop {
                let read = |into: &mut [u8]| {
                    reads += 1;
                    match reads % 2 {
                        0 => pieces.borrow_mut().read(&mut into[..1]),
                        _ => Err(io::ErrorKind::WouldBlock.into()),
                    }
                };
                match parsed.read(|into| pieces.borrow().peek(into), read) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    outcome => break outcome,
                }
            };
            assert_eq!((outcome.expect("a header"), &pieces.borrow().0[0][..]), (whom, &b"hello"[..]));
        }
    }

    #[test]
    fn bytes_that_end_inside_a_header_are_no_header() {
        for (header, _) in right() {
            for end in 0..header.len() {
                let (outcome, _) = read_in_pieces(&header[..end], vec![]);
                assert_eq!(outcome.map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn however_it_is_cut(which in 0..16usize, cuts in prop::collection::vec(0..200usize, 0..12)) {
            let (mut bytes, whom) = right().swap_remove(which);
            bytes.extend_from_slice(b"hello");
            let cuts = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            let (outcome, left) = read_in_pieces(&bytes, cuts);
            prop_assert_eq!((outcome.expect("a header"), &left[..]), (whom, &b"hello"[..]));
        }
    }
}
