//! A fuzzer's bytes read as choices. When they are used up every choice is 0.

/// The bytes that are left.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    /// The next two bytes as a number.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// Yes, once in `n` times.
    pub fn one_in(&mut self, n: u8) -> bool {
        self.byte() % n == n - 1
    }

    /// A number below `bound`, which is at most 65536.
    pub fn below(&mut self, bound: usize) -> usize {
        let choice: usize = if bound <= 256 { self.byte().into() } else { self.word().into() };
        choice % bound.max(1)
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// The next `len` bytes, or as many as there are.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Overwrites up to 7 bytes of `bytes`, most of them among the first 100.
    pub fn damage(&mut self, bytes: &mut [u8]) {
        for _ in 0..self.byte() % 8 {
            let at = if self.one_in(4) { self.word().into() } else { usize::from(self.byte()) % 100 };
            let value = self.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
    }
}
