//! The conductor by hand, on a clock that only the test moves: how much of the programme's time a stuck encoder costs.

use std::sync::mpsc::channel;

use stream::stuck::Progress;

use super::*;
use crate::signal::{EncoderFault, Handle, Signal};
use crate::{Source, picture, slate};

const FPS: u32 = 25;
/// Samples of a tick.
const BLOCK: u64 = 480;
/// Samples that AAC's encoder may hold back.
const HELD_BACK: u64 = 4 * stream::media::AAC_FRAME;
const NEVER: Duration = Duration::from_secs(60);

struct Bench {
    conductor: Conductor,
    signal: Handle,
    /// Nobody reads them, and they are never so many that the encoders would wait.
    _events: mpsc::Receiver<Event>,
    picture: gst::Buffer,
    begun: Instant,
    ticks: u32,
}

impl Bench {
    /// With a programme that has just been started.
    fn start() -> Bench {
        gst::init().unwrap();
        let signal = Handle::new(Signal::default());
        let config = Config {
            name: "Stuck".into(),
            source: Source::Signal(signal.clone()),
            width: 160,
            height: 90,
            fps: FPS,
            video_bitrate_kbps: 200,
            encoder: Choice::default(),
            low: None,
            audio_bitrate_kbps: 128,
            segment: Duration::from_secs(1),
            av_offset_ms: 0,
        };
        let picture = slate::draw(&config).unwrap();
        let info = picture::raw_video_info(config.width, config.height).unwrap();
        let (events, received) = mpsc::channel(10_000);
        let (control, _) = channel();
        let wanted = Wanted::default();
        let slate = picture.clone();
        let mut conductor = Conductor::new(config, slate, info, wanted, control, events);
        let begun = Instant::now();
        conductor.start(1, || begun);
        Bench {
            conductor,
            signal,
            _events: received,
            picture,
            begun,
            ticks: 0,
        }
    }

    fn elapsed(&self) -> Duration {
        TICK * self.ticks
    }

    fn programme(&mut self, run: u64) {
        let now = self.begun + self.elapsed();
        self.conductor.start(run, || now);
    }

    fn progress(&self, of: Rendition) -> Option<Progress> {
        let (programme, _) = self.conductor.programme.as_ref()?;
        let mut all = programme.progress();
        all.find(|(rendition, _)| *rendition == of)
            .map(|(_, progress)| progress)
    }

    /// A tick with its sound, and a picture where one is due. The sound's encoder is as fast as the test's clock.
    fn tick(&mut self) {
        self.ticks += 1;
        let (at, now) = (self.elapsed(), self.begun + self.elapsed());
        let samples = vec![0u8; BLOCK as usize * SAMPLE_BYTES];
        self.conductor
            .audio(now, at, gst::Buffer::from_slice(samples));
        if at.as_millis().is_multiple_of(u128::from(1000 / FPS)) {
            self.conductor.video(now, at, self.picture.clone());
        }
        while let Some(sound) = self.progress(Rendition::Audio)
            && (sound.made * stream::media::AAC_FRAME + HELD_BACK) < sound.given * BLOCK
        {
            std::thread::yield_now();
        }
        self.conductor.tick(now);
    }

    /// A second in which the encoder of the picture, too, is as fast as the test's clock.
    fn at_work(&mut self) {
        for _ in 0..100 {
            self.tick();
            while (self.progress(Rendition::Video)).is_some_and(|video| video.made < video.given) {
                std::thread::yield_now();
            }
        }
    }

    /// Time until the encoder of the picture, which makes nothing, has been dropped.
    fn until_dropped(&mut self) -> Duration {
        let before = self.elapsed();
        while self.conductor.programme.is_some() {
            self.tick();
            assert!(self.elapsed() < NEVER, "it is not noticed");
        }
        self.elapsed() - before
    }
}

#[test]
fn an_encoder_that_hangs_costs_two_seconds_of_the_programme_at_most() {
    let mut bench = Bench::start();
    // At work, and nothing under way that could come after the fault.
    bench.at_work();
    assert!(bench.progress(Rendition::Video).unwrap().made > 10);
    let hangs = Some((1, EncoderFault::Hangs));
    bench.signal.set(|signal| signal.encoder = hangs);
    let took = bench.until_dropped();
    bench.signal.set(|signal| signal.encoder = None);
    assert!(took <= Duration::from_secs(2), "{took:?}");
    assert!(took >= stream::stuck::STUCK, "{took:?}");
}

#[test]
fn an_encoder_that_never_begins_is_noticed_as_fast_and_the_next_one_has_more_time() {
    let mut bench = Bench::start();
    let mut dropped = |run| {
        bench.programme(run);
        let hangs = Some((run, EncoderFault::Hangs));
        bench.signal.set(|signal| signal.encoder = hangs);
        let took = bench.until_dropped();
        bench.signal.set(|signal| signal.encoder = None);
        took
    };
    let (first, second) = (dropped(2), dropped(3));
    assert!(first <= Duration::from_secs(2), "{first:?}");
    let again = stream::stuck::BEGIN_AGAIN;
    assert!(
        (again..again + Duration::from_millis(500)).contains(&second),
        "{second:?}"
    );
    // One that works makes that forgotten.
    bench.programme(4);
    bench.at_work();
    assert!(!bench.conductor.barren);
}
