//! A fuzzer's bytes, taken piece by piece. Where they end there are zeros, so any input says something.

/// What is left of an input.
pub struct Input<'bytes>(pub &'bytes [u8]);

impl<'bytes> Input<'bytes> {
    /// Whether everything was taken.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// The next two bytes.
    pub fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// Bytes with their length before them.
    pub fn bytes(&mut self) -> &'bytes [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }
}
