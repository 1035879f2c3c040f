//! Sound that is taken away without a click: silence takes its place, and the samples stay as many as they were.

/// Samples from full sound to silence, and back: 5 ms. A jump would be heard as a click.
const FADE: u32 = 240;

/// The state of a mute between one block of sound and the next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mute {
    muted: bool,
    /// Samples of [`FADE`] that have been faded out.
    faded: u32,
}

impl Mute {
    pub fn set(&mut self, muted: bool) {
        self.muted = muted;
    }

    pub fn muted(&self) -> bool {
        self.muted
    }

    /// Whether [`apply`](Self::apply) changes nothing.
    pub fn transparent(&self) -> bool {
        !self.muted && self.faded == 0
    }

    /// Applies itself to the next block of sound: two channels, signed 16 bit, little endian.
    pub fn apply(&mut self, block: &mut [u8]) {
        let (samples, rest) = block.as_chunks_mut::<4>();
        for sample in samples {
            self.faded = if self.muted {
                (self.faded + 1).min(FADE)
            } else {
                self.faded.saturating_sub(1)
            };
            let gain = (FADE - self.faded) as i32;
            let [l0, l1, r0, r1] = *sample;
            let faded = |low, high| {
                let value = i32::from(i16::from_le_bytes([low, high]));
                ((value * gain / FADE as i32) as i16).to_le_bytes()
            };
            let ([l0, l1], [r0, r1]) = (faded(l0, l1), faded(r0, r1));
            *sample = [l0, l1, r0, r1];
        }
        // Half a sample is not sound.
        rest.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left and right channel after the mute.
    fn apply(mute: &mut Mute, samples: &[[i16; 2]]) -> Vec<[i16; 2]> {
        let mut bytes: Vec<u8> = samples
            .iter()
            .flatten()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        mute.apply(&mut bytes);
        let (bytes, _) = bytes.as_chunks::<4>();
        bytes
            .iter()
            .map(|b| [[b[0], b[1]], [b[2], b[3]]].map(i16::from_le_bytes))
            .collect()
    }

    #[test]
    fn sound_fades_out_and_in_within_five_milliseconds_across_blocks() {
        let loud = [[i16::MAX, i16::MIN]; 160];
        let mut mute = Mute::default();
        assert!(mute.transparent());
        assert_eq!(apply(&mut mute, &loud), loud);

        mute.set(true);
        let out = [apply(&mut mute, &loud), apply(&mut mute, &loud)].concat();
        assert_eq!(out[0], [32630, -32631]);
        assert_eq!(out[239..], [[0, 0]; 81]);
        // No step is larger than that of the fade, so nothing clicks.
        for pair in out.windows(2) {
            assert!((0..=138).contains(&(pair[0][0] - pair[1][0])), "{pair:?}");
        }
        assert_eq!(apply(&mut mute, &loud), [[0, 0]; 160]);

        mute.set(false);
        assert!(!mute.transparent(), "it is still silent");
        let back = [apply(&mut mute, &loud), apply(&mut mute, &loud)].concat();
        assert_eq!(back[239..], [[i16::MAX, i16::MIN]; 81]);
        assert!(back.is_sorted_by_key(|sample| sample[0]));
        assert!(mute.transparent());
    }

    #[test]
    fn half_a_sample_is_silence_too() {
        let mut mute = Mute::default();
        mute.set(true);
        let mut bytes = [0x7f; 4 * 300 + 3];
        mute.apply(&mut bytes);
        assert_eq!(bytes[4 * 240..], [0; 4 * 60 + 3]);
    }
}
