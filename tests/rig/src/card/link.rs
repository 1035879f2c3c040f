//! The card behind USB/IP: answers control transfers at once, and feeds the two streams at their own pace.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::descriptors::{
    self, AUDIO_CONTROL, AUDIO_PACKET, AUDIO_STREAMING, FEATURE_UNIT, GAIN, PAYLOAD,
    VIDEO_STREAMING,
};
use super::picture::{self, Pictures};
use super::source::{Blinks, Sound};
use super::{Card, Incoming, Mode, Pixels, Spoilt, Stuck};
use crate::protocol::{Flash, Gain, Moments, Streams};
use crate::usbip::{self, Message, STALL, Transfer};

/// The pictures' endpoint, as requests name it.
const VIDEO_ENDPOINT: u16 = 0x81;

/// For so long it is remembered how late the sound was, seconds: the box follows the sound that slowly.
const LATE_FOR: f64 = 5.0;

/// Samples a second of an exact clock.
const RATE: f64 = 48_000.0;

#[derive(Debug)]
struct State {
    socket: UnixStream,
    video: VecDeque<Transfer>,
    audio: VecDeque<Transfer>,
    /// Control transfers that the card lets wait.
    slow: VecDeque<Transfer>,
    streams: Streams,
    stuck: Option<Stuck>,
    halted: bool,
    incoming: Option<Incoming>,
    spoilt: Option<Spoilt>,
    moments: Moments,
    /// When sound was due of late, and by how much it was late, seconds.
    late: Vec<(f64, f64)>,
    /// What the host has chosen: format, frame and interval as in the probe control.
    choice: [u8; 26],
    audio_setting: u8,
    /// A sample that goes before the next frame: the sound is half a frame behind.
    stray: Option<i16>,
    gain: Gain,
    gone: bool,
}

/// How many cards have been plugged in.
static PLUGGED: AtomicU64 = AtomicU64::new(0);

/// A card that is plugged in.
#[derive(Debug)]
pub(super) struct Link {
    card: Card,
    blinks: Blinks,
    sound: Sound,
    state: Mutex<State>,
    changed: Condvar,
    /// When the source's time began.
    epoch: Instant,
}

impl Link {
    pub(super) fn start(card: Card, socket: UnixStream) -> io::Result<Arc<Link>> {
        let reader = socket.try_clone()?;
        // A clip that cannot be read is a mistake of the test, and said before the card is in the socket.
        let blinks = Blinks(PLUGGED.fetch_add(1, Ordering::Relaxed));
        let sound = Sound::new(&card.source, blinks)?;
        let link = Arc::new(Link {
            blinks,
            sound,
            state: Mutex::new(State {
                socket,
                video: VecDeque::new(),
                audio: VecDeque::new(),
                slow: VecDeque::new(),
                streams: Streams {
                    video: true,
                    audio: true,
                },
                stuck: None,
                halted: false,
                incoming: None,
                spoilt: None,
                moments: Moments::default(),
                late: Vec::new(),
                choice: [0; 26],
                audio_setting: 0,
                stray: None,
                gain: Gain {
                    muted: card.gain,
                    volume: if card.gain { GAIN[0] } else { 0 },
                },
                gone: false,
            }),
            changed: Condvar::new(),
            epoch: Instant::now(),
            card,
        });
        let ends: [fn(&Arc<Link>, UnixStream); 3] = [
            |link, reader| {
                let _ = link.listen(reader);
                link.unplug();
            },
            |link, _| link.show(),
            |link, _| link.sound(),
        ];
        for end in ends {
            let (link, reader) = (link.clone(), reader.try_clone()?);
            std::thread::spawn(move || end(&link, reader));
        }
        Ok(link)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn streams(&self, streams: Streams) {
        self.lock().streams = streams;
        self.changed.notify_all();
    }

    pub(super) fn stick(&self, stuck: Stuck) {
        self.lock().stuck = Some(stuck);
    }

    /// Whether the kernel has taken the card, and nobody has pulled it out.
    pub(super) fn is_configured(&self) -> bool {
        let state = self.lock();
        !state.gone && state.moments.configured.is_some()
    }

    pub(super) fn halt(&self) {
        self.lock().halted = true;
        self.changed.notify_all();
    }

    pub(super) fn incoming(&self, incoming: Option<Incoming>) {
        self.lock().incoming = incoming;
    }

    pub(super) fn spoil(&self, spoilt: Option<Spoilt>) {
        self.lock().spoilt = spoilt;
    }

    pub(super) fn moments(&self) -> Moments {
        self.lock().moments.clone()
    }

    /// Closing the socket is what pulling the plug looks like to the kernel.
    pub(super) fn unplug(&self) {
        let mut state = self.lock();
        state.gone = true;
        let _ = state.socket.shutdown(std::net::Shutdown::Both);
        self.changed.notify_all();
    }

    pub(super) fn gain(&self) -> Gain {
        self.lock().gain
    }

    fn listen(self: &Arc<Self>, mut socket: UnixStream) -> io::Result<()> {
        loop {
            let transfer = match usbip::read(&mut socket)? {
                Message::Submit(transfer) => transfer,
                Message::Unlink { number, transfer } => {
                    self.lock().unlink(number, transfer)?;
                    continue;
                }
            };
            let mut state = self.lock();
            match transfer.endpoint {
                0 => {
                    if let Some(wait) = self.takes_its_time(&state, transfer.setup) {
                        let number = transfer.number;
                        state.slow.push_back(transfer);
                        let link = self.clone();
                        std::thread::spawn(move || {
                            std::thread::sleep(wait);
                            let mut state = link.lock();
                            // Unless it was taken back. Another one may wait by now.
                            let place = state.slow.iter().position(|slow| slow.number == number);
                            if let Some(transfer) = place.and_then(|it| state.slow.remove(it)) {
                                let _ = link.answer_control(&mut state, &transfer);
                            }
                        });
                    } else {
                        self.answer_control(&mut state, &transfer)?;
                    }
                }
                1 => {
                    let now = self.source_time();
                    state.moments.opened.get_or_insert(now);
                    if let Some(flash) = state.moments.flashes.last_mut() {
                        flash.taken.get_or_insert(now);
                    }
                    state.video.push_back(transfer);
                }
                2 => state.audio.push_back(transfer),
                _ => state.answer(transfer.number, STALL, 0, &[], &[])?,
            }
            self.changed.notify_all();
        }
    }

    /// For how long the card lets somebody wait who asks about its pictures for the first time.
    fn takes_its_time(&self, state: &State, setup: [u8; 8]) -> Option<Duration> {
        let asks = setup[0] == 0xa1 && u16::from(setup[4]) == VIDEO_STREAMING;
        let ready = state.moments.configured? + self.card.late;
        let wait = Duration::try_from_secs_f64(ready - self.source_time()).ok()?;
        (asks && self.card.late > 0.0).then_some(wait)
    }

    fn answer_control(&self, state: &mut State, transfer: &Transfer) -> io::Result<()> {
        let says = self.control(state, transfer.setup, &transfer.data);
        usbip::answer_control(&mut state.socket, transfer, says.as_deref())
    }

    /// Answers a control transfer; `None` is a stall.
    fn control(&self, state: &mut State, setup: [u8; 8], data: &[u8]) -> Option<Vec<u8>> {
        let [kind, request, v0, v1, i0, i1, _, _] = setup;
        let interface = u16::from_le_bytes([i0, i1]);
        match (kind, request) {
            (0x80, 6) => match v1 {
                1 => Some(descriptors::device(&self.card)),
                2 => Some(descriptors::configuration(&self.card)),
                3 => descriptors::string(&self.card, v0),
                6 => Some(descriptors::qualifier()),
                15 => descriptors::capabilities(&self.card),
                _ => None,
            },
            (0x80, 0) => Some(vec![0, 0]),
            (0x81, 10) if interface == AUDIO_STREAMING => Some(vec![state.audio_setting]),
            (0x81, 10) => Some(vec![0]),
            (0x01, 11) => {
                if interface == AUDIO_STREAMING {
                    if v0 > 0 && state.stuck == Some(Stuck::Mute) {
                        return None;
                    }
                    state.audio_setting = v0;
                    state.stray = self.card.begins_with_a_stray_sample().then_some(0);
                }
                Some(Vec::new())
            }
            // A new configuration is a new life.
            (0x00, 9) => {
                state.halted = false;
                state.stuck = state.stuck.filter(|stuck| *stuck == Stuck::Dead);
                state.moments = Moments {
                    configured: Some(self.source_time()),
                    flashes: std::mem::take(&mut state.moments.flashes),
                    ..Moments::default()
                };
                Some(Vec::new())
            }
            (0x02, 1) if interface == VIDEO_ENDPOINT => {
                state.halted = false;
                Some(Vec::new())
            }
            // Clearing a halt, which UVC also does at the end of a stream.
            (0x00..=0x02, 1 | 3 | 5) => Some(Vec::new()),
            // How long the links of USB 3 take.
            (0x00, 0x30 | 0x31) => Some(Vec::new()),
            // Probe and commit.
            (0xa1, _) if interface & 0xff == VIDEO_STREAMING && matches!(v1, 1 | 2) => {
                Some(match request {
                    0x86 => vec![3],
                    0x85 => vec![26, 0],
                    _ => self.settle(state.choice).to_vec(),
                })
            }
            (0x21, 1) if interface & 0xff == VIDEO_STREAMING && matches!(v1, 1 | 2) => {
                if state.stuck == Some(Stuck::Refusing) {
                    return None;
                }
                let known = data.len().min(26);
                state.choice[..known].copy_from_slice(&data[..known]);
                Some(Vec::new())
            }
            (0x21 | 0xa1, _) if self.card.gain && [i0, i1] == [AUDIO_CONTROL, FEATURE_UNIT] => {
                state.gain.control(request, v1, data)
            }
            // The rate of the sound's endpoint: there is one.
            (0x22, 1) => Some(Vec::new()),
            (0xa2, _) => Some(vec![0x80, 0xbb, 0]),
            _ => None,
        }
    }

    /// The choice as the card takes it: an index that it does not have becomes the first.
    fn settle(&self, mut choice: [u8; 26]) -> [u8; 26] {
        let formats = descriptors::formats(&self.card).len() as u8;
        choice[2] = choice[2].clamp(1, formats.max(1));
        if choice[3] == 0 {
            choice[3] = 1;
        }
        if let Some(mode) = self.mode(&choice) {
            choice[4..8].copy_from_slice(&descriptors::interval(mode).to_le_bytes());
            choice[18..22].copy_from_slice(&descriptors::frame_size(mode).to_le_bytes());
            choice[22..26].copy_from_slice(&(PAYLOAD as u32).to_le_bytes());
        }
        choice
    }

    fn mode(&self, choice: &[u8; 26]) -> Option<&Mode> {
        let formats = descriptors::formats(&self.card);
        let pixels = *formats.get(usize::from(choice[2]).checked_sub(1)?)?;
        descriptors::modes(&self.card, pixels).nth(usize::from(choice[3]).checked_sub(1)?)
    }

    /// Waits until `ready`; `None` when the card is gone.
    fn wait(&self, ready: impl Fn(&State) -> bool) -> Option<MutexGuard<'_, State>> {
        let state = self
            .changed
            .wait_while(self.lock(), |state| !state.gone && !ready(state))
            .unwrap_or_else(PoisonError::into_inner);
        (!state.gone).then_some(state)
    }

    fn source_time(&self) -> f64 {
        self.epoch.elapsed().as_secs_f64()
    }

    /// The pictures that go out: as the host has chosen, but for what comes in. A card scales raw pictures and passes the others
    /// on as they are.
    fn sent_mode(&self, state: &State) -> Option<Mode> {
        let mut mode = *self.mode(&self.settle(state.choice))?;
        if let Some(incoming) = state.incoming {
            mode.fps = incoming.fps;
            if mode.pixels == Pixels::Mjpeg {
                (mode.width, mode.height) = (incoming.width, incoming.height);
            }
        }
        Some(mode)
    }

    /// Feeds pictures, each when its time has come. A picture for which nobody waits then is lost, as on a wire.
    fn show(&self) {
        let mut made: Option<(Mode, Pictures)> = None;
        let mut toggle = 0;
        loop {
            let Some(mut state) = self.wait(|state| !state.video.is_empty()) else {
                return;
            };
            if state.halted {
                while let Some(transfer) = state.video.pop_front() {
                    if state.answer(transfer.number, STALL, 0, &[], &[]).is_err() {
                        return;
                    }
                }
                continue;
            }
            let Some(mode) = self.sent_mode(&state) else {
                return;
            };
            drop(state);
            if made.as_ref().is_none_or(|(made, _)| *made != mode) {
                let Ok(pictures) = Pictures::new(&self.card.source, &mode) else {
                    return;
                };
                made = Some((mode, pictures));
            }
            let Some((_, pictures)) = &made else { return };
            let number = (self.source_time() * f64::from(mode.fps)).floor() as u64 + 1;
            let due = number as f64 / f64::from(mode.fps);
            std::thread::sleep(Duration::from_secs_f64((due - self.source_time()).max(0.0)));
            let state = self.lock();
            if state.gone {
                return;
            }
            let stuck = state.stuck.is_some_and(|stuck| stuck != Stuck::Mute);
            if !state.streams.video || stuck || state.halted {
                continue;
            }
            let place = state.moments.pictures + 1;
            let spoilt = (state.spoilt).filter(|spoilt| place.is_multiple_of(spoilt.every));
            drop(state);
            toggle ^= 1;
            let flash = self.blinks.on(due);
            let picture = pictures.get(number, flash.is_some());
            let sent = match spoilt {
                Some(spoilt) => self.send(&picture::spoilt(picture, spoilt.how), toggle, None),
                None => self.send(picture, toggle, flash),
            };
            if sent.is_none() {
                return;
            }
        }
    }

    /// One picture in as many transfers as it needs (UVC 1.0, 2.4.3.2). `None` when the card is gone.
    fn send(&self, picture: &[u8], toggle: u8, flash: Option<u64>) -> Option<()> {
        let mut rest = picture;
        let mut began = false;
        while !rest.is_empty() {
            let mut state = self.wait(|state| !state.video.is_empty())?;
            let transfer = state.video.pop_front()?;
            if !began {
                began = true;
                state.sent(
                    self.source_time(),
                    flash.map(|flash| self.blinks.begin(flash)),
                );
            }
            let room = transfer.length.min(PAYLOAD) - 2;
            let (now, later) = rest.split_at(rest.len().min(room));
            rest = later;
            let last = if rest.is_empty() { 2 } else { 0 };
            let data = [&[2, 0x80 | toggle | last], now].concat();
            state
                .answer(transfer.number, 0, data.len(), &data, &[])
                .ok()?;
        }
        Some(())
    }

    /// Feeds sound: as many milliseconds as a transfer has packets, when they are over.
    fn sound(&self) {
        let rate = RATE * (1.0 + self.card.audio_ppm / 1e6);
        // Frames since the source's time began, as the sound's own clock counts them.
        let mut frame = 0_u64;
        loop {
            let Some(state) = self.wait(|state| !state.audio.is_empty()) else {
                return;
            };
            let packets = state.audio[0].packets.len() as u64;
            let number = state.audio[0].number;
            drop(state);
            let per_packet = u64::from(AUDIO_PACKET) / 4;
            let now = (self.source_time() * rate) as u64;
            if frame + per_packet * 200 < now {
                // Nobody has listened for a while.
                frame = now;
            }
            let end = frame + packets * per_packet;
            let due = end as f64 / rate;
            std::thread::sleep(Duration::from_secs_f64((due - self.source_time()).max(0.0)));
            let mut state = self.lock();
            if state.gone {
                return;
            }
            state.late.push((due, self.source_time() - due));
            if !state.streams.audio {
                frame = end;
                drop(state);
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            if state
                .audio
                .front()
                .is_none_or(|first| first.number != number)
            {
                continue;
            }
            let Some(transfer) = state.audio.pop_front() else {
                continue;
            };
            let factor = state.gain.factor();
            let mut samples: Vec<i16> = (frame..end)
                .flat_map(|frame| self.sound.at(frame as f64 / rate))
                .map(|sample| (f64::from(sample) * factor) as i16)
                .collect();
            if let Some(stray) = state.stray.take() {
                samples.insert(0, stray);
                state.stray = samples.pop();
            }
            let data: Vec<u8> = samples.into_iter().flat_map(i16::to_le_bytes).collect();
            frame = end;
            let packets: Vec<[u32; 4]> = transfer
                .packets
                .iter()
                .map(|&[offset, length, _, _]| [offset, length, u32::from(AUDIO_PACKET), 0])
                .collect();
            if state
                .answer(transfer.number, 0, data.len(), &data, &packets)
                .is_err()
            {
                return;
            }
        }
    }
}

impl Gain {
    /// Answers what is asked of the feature unit (UAC 1.0, 5.2.2.4.3): `selector` is 1 for the switch, 2 for the gain.
    fn control(&mut self, request: u8, selector: u8, data: &[u8]) -> Option<Vec<u8>> {
        match (request, selector, data) {
            (0x01, 1, &[muted]) => self.muted = muted != 0,
            (0x01, 2, &[v0, v1]) => {
                self.volume = i16::from_le_bytes([v0, v1]).clamp(GAIN[0], GAIN[1]);
            }
            (0x81, 1, _) => return Some(vec![self.muted.into()]),
            (0x81, 2, _) => return Some(self.volume.to_le_bytes().into()),
            (0x82..=0x84, 2, _) => {
                return Some(GAIN[usize::from(request - 0x82)].to_le_bytes().into());
            }
            _ => return None,
        }
        Some(Vec::new())
    }

    /// What a sample is multiplied by.
    fn factor(self) -> f64 {
        if self.muted {
            return 0.0;
        }
        10_f64.powf(f64::from(self.volume) / 256.0 / 20.0)
    }
}

impl State {
    /// A picture goes out, perhaps one of the flash that begins at a time.
    fn sent(&mut self, at: f64, flash: Option<f64>) {
        self.moments.picture.get_or_insert(at);
        self.moments.last = Some(at);
        self.moments.pictures += 1;
        self.late.retain(|(then, _)| at - then < LATE_FOR);
        if let Some(beep) = flash
            && self
                .moments
                .flashes
                .last()
                .is_none_or(|last| last.beep != beep)
        {
            self.moments.flashes.push(Flash {
                beep,
                number: self.moments.pictures,
                sent: at,
                taken: None,
                sound_late: self.late.iter().map(|(_, late)| *late).fold(0.0, f64::max),
            });
        }
    }

    fn answer(
        &mut self,
        number: u32,
        status: i32,
        length: usize,
        data: &[u8],
        packets: &[[u32; 4]],
    ) -> io::Result<()> {
        usbip::answer(&mut self.socket, number, status, length, data, packets)
    }

    /// Takes a transfer back, unless it has been answered.
    fn unlink(&mut self, number: u32, transfer: u32) -> io::Result<()> {
        let mut found = false;
        for queue in [&mut self.video, &mut self.audio, &mut self.slow] {
            let waiting = queue.len();
            queue.retain(|waiting| waiting.number != transfer);
            found |= queue.len() < waiting;
        }
        usbip::unlinked(&mut self.socket, number, found)
    }
}
