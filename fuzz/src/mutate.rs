//! Mutations for where there is no libFuzzer: of one input, or of two of them spliced.

use rand::Rng;
use rand::rngs::StdRng;

/// Numbers that lengths go wrong at.
const INTERESTING: [u32; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

pub fn mutate(input: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=input.len());
        let len = rng.random_range(0..=(input.len() - at).min(16));
        let number = INTERESTING[rng.random_range(0..INTERESTING.len())];
        match rng.random_range(0..7) {
            0 => input.truncate(at),
            1 => input.extend_from_within(at..at + len),
            2 => drop(input.drain(at..at + len)),
            3 => drop(input.splice(at..at + len, number.to_be_bytes())),
            4 => input.insert(at, number as u8),
            5 if at < input.len() => input[at] = rng.random(),
            _ if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            _ => {}
        }
    }
}
