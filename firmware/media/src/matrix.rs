//! Which matrix made a picture's luma and chroma of its colours: Rec. ITU-R BT.709 or BT.601.
//!
//! Most USB sticks say BT.601. Bringing their pictures into the other one cost more than all else but the encoder (`make
//! bench-cost`), and H.264 can say either (ITU-T H.264, E.2.1). So pictures keep the one that they come with, and the programme says
//! which it is. A programme has one: what comes in another while it is on air is converted.

use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Matrix {
    #[default]
    Bt709,
    Bt601,
}

impl Matrix {
    /// What pictures with these caps can stay in. Full range (JPEG) and colours without a matrix become BT.709.
    pub(crate) fn of(caps: &gst::CapsRef) -> Matrix {
        let colorimetry = gst_video::VideoInfo::from_caps(caps).map(|info| info.colorimetry());
        match colorimetry {
            Ok(it)
                if it.matrix() == gst_video::VideoColorMatrix::Bt601
                    && it.range() == gst_video::VideoColorRange::Range16_235 =>
            {
                Matrix::Bt601
            }
            _ => Matrix::Bt709,
        }
    }

    /// As GStreamer writes it. Primaries and transfer are BT.709's: those of HDMI are, and nobody converts them.
    pub(crate) fn colorimetry(self) -> &'static str {
        match self {
            Matrix::Bt709 => "bt709",
            Matrix::Bt601 => "2:4:5:1",
        }
    }
}

/// What the programme on air wants; nothing while there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted(Arc<Mutex<Option<Matrix>>>);

impl Wanted {
    pub(crate) fn set(&self, matrix: Option<Matrix>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = matrix;
    }

    pub(crate) fn get(&self) -> Option<Matrix> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pictures_of_limited_range_stay_in_bt601() {
        gst::init().unwrap();
        let of = |format: &str, colorimetry: &str| {
            let caps = format!(
                "video/x-raw,format={format},width=1280,height=720,framerate=30/1,colorimetry={colorimetry}"
            );
            Matrix::of(&caps.parse::<gst::Caps>().unwrap())
        };
        // As uvcvideo says it: BT.601, sRGB's transfer, BT.709's primaries.
        assert_eq!(of("YUY2", "2:4:7:1"), Matrix::Bt601);
        assert_eq!(of("YUY2", "bt601"), Matrix::Bt601);
        assert_eq!(of("YUY2", "bt709"), Matrix::Bt709);
        // JPEG, and RGB.
        assert_eq!(of("I420", "1:4:0:0"), Matrix::Bt709);
        assert_eq!(of("BGR", "1:1:7:1"), Matrix::Bt709);
    }
}
