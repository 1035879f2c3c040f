//! The simulated box in a terminal: the panel's very framebuffer, the lamp, the keys, and the end of the log.
//!
//! It runs on a thread of its own and only looks: a terminal that is closed, stopped or broken ends this thread and
//! nothing else. Terminals tell no release of a key, so `g` is a tap and `G` a hold.
//!
//! Keys are read here and not with crossterm's events, which spin for ever when a terminal goes away: up to 0.29 its loop
//! ignores an end of file and every error but two (`event/source/unix/mio.rs`, `try_read`). For the same reason nothing here
//! may ask the terminal where its cursor is, as ratatui's `clear` does; `canvas` clears instead.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal, Stdout, Write},
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    Frame, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    buffer::Buffer,
    crossterm::{cursor, execute, terminal},
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, BorderType, Widget},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use stream::{
    buttons::{Action, Button},
    screen::{self, Picture},
};
use tracing_subscriber::fmt::MakeWriter;

use super::{Front, HOLD, TAP};

/// Pictures a second: as many as the meters need to look alive.
const REDRAW_EVERY: Duration = Duration::from_millis(66);

/// How long shutting down waits for the thread. It is late only if the terminal takes no more output.
const PATIENCE: Duration = Duration::from_millis(500);

/// A cell of braille is two pixels wide and four high.
const PANEL_COLUMNS: u16 = (screen::WIDTH / 2) as u16;
const PANEL_ROWS: u16 = (screen::HEIGHT / 4) as u16;

/// Whether the terminal is ours, and must be given back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether there is a terminal to show the box in: both standard input and standard output are one.
pub fn available() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The box in the terminal. Dropping it ends the thread and gives the terminal back.
#[derive(Debug)]
pub struct Terminal {
    stop: Arc<AtomicBool>,
    /// Closed when the thread has ended.
    ended: mpsc::Receiver<()>,
}

/// Takes the terminal over and shows the box in it. While it lives, standard output and standard error belong to it: the
/// log goes to `log`. `quit` is called each time somebody asks to end the program, with `q` or Ctrl-C.
///
/// From here on a hangup (SIGHUP) ends the view and no longer the process.
pub fn spawn(front: Front, log: LogTail, quit: impl Fn() + Send + 'static) -> io::Result<Terminal> {
    let stop = Arc::new(AtomicBool::new(false));
    let (ends, ended) = mpsc::channel();
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&stop))?;
    restore_on_panic();
    take()?;
    let spawned = thread::Builder::new().name("terminal".to_owned()).spawn({
        let stop = Arc::clone(&stop);
        move || {
            let _ends = ends;
            let mut view = View {
                front,
                log,
                quit,
                fingers: Vec::new(),
                wipe: false,
            };
            // The terminal is gone or broken: the box goes on without.
            let _ = view.run(&stop);
            restore();
        }
    });
    if spawned.is_err() {
        restore();
    }
    spawned.map(|_| Terminal { stop, ended })
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.ended.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            // It hangs in a write, and so would we: give back what can be given back without writing.
            TAKEN.store(false, Ordering::Relaxed);
            let _ = terminal::disable_raw_mode();
        }
    }
}

fn take() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    TAKEN.store(true, Ordering::Relaxed);
    execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide).inspect_err(|_| restore())
}

/// Gives the terminal back if it was taken; for ways out that drop nothing, such as [`std::process::exit`].
pub fn restore() {
    if TAKEN.swap(false, Ordering::Relaxed) {
        // A terminal that is gone needs nothing back.
        let _ = terminal::disable_raw_mode();
        let _ = execute!(io::stdout(), terminal::LeaveAlternateScreen, cursor::Show);
    }
}

/// A panic's message is read on the normal screen.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            next(info);
        }));
    });
}

struct View<Q> {
    front: Front,
    log: LogTail,
    quit: Q,
    /// Buttons that are pressed, and when they are let go.
    fingers: Vec<(Button, Instant)>,
    /// Draw everything anew: a library may have printed beside us. Ctrl-L, as in every full-screen program.
    wipe: bool,
}

impl<Q: Fn()> View<Q> {
    /// Draws and listens until it is told to stop, or the terminal fails.
    fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut size = terminal::size()?;
        let mut canvas = canvas(size)?;
        while !stop.load(Ordering::Relaxed) && TAKEN.load(Ordering::Relaxed) {
            let now = terminal::size()?;
            if now != size || std::mem::take(&mut self.wipe) {
                size = now;
                canvas = self::canvas(size)?;
            }
            canvas.draw(|frame| self.draw(frame))?;
            let redraw = Instant::now() + REDRAW_EVERY;
            while let Some(keys) = read_until(redraw)? {
                plain(&keys).for_each(|key| self.key(key));
            }
            self.lift_fingers(Instant::now());
        }
        Ok(())
    }

    fn key(&mut self, key: u8) {
        match key {
            b'q' | CTRL_C => (self.quit)(),
            CTRL_L => self.wipe = true,
            b'g' => self.touch(Button::GoLive, TAP),
            b'G' => self.touch(Button::GoLive, HOLD),
            b'p' | b'P' => self.touch(Button::Page, TAP),
            b'm' | b'M' => self.touch(Button::Mode, TAP),
            _ => {}
        }
    }

    /// Presses a button for a while; a key that repeats itself does not press what is pressed.
    fn touch(&mut self, button: Button, duration: Duration) {
        if self.fingers.iter().all(|&(pressed, _)| pressed != button) {
            self.front.edge(button, Action::Press);
            self.fingers.push((button, Instant::now() + duration));
        }
    }

    fn lift_fingers(&mut self, now: Instant) {
        for (button, _) in self.fingers.extract_if(.., |&mut (_, until)| until <= now) {
            self.front.edge(button, Action::Release);
        }
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let picture = self.front.picture().borrow().clone();
        let lit = *self.front.tally().borrow();
        let area = frame.area();
        let panel = Rect::new(0, 0, PANEL_COLUMNS + 2, PANEL_ROWS + 2).intersection(area);
        let keys = Rect {
            y: panel.bottom(),
            height: 1,
            ..area
        }
        .intersection(area);
        let log = Rect {
            y: keys.bottom() + 1,
            height: area.height,
            ..area
        }
        .intersection(area);

        let lamp = Rect {
            x: panel.right() + 2,
            y: 1,
            width: 10,
            height: 3,
        }
        .intersection(area);
        let buffer = frame.buffer_mut();
        let block = Block::bordered()
            .border_type(BorderType::Rounded)
            .title(" Podium ")
            .border_style(Color::DarkGray);
        let glass = block.inner(panel);
        block.render(panel, buffer);
        Glass(&picture).render(glass, buffer);
        // Where there is no room beside the panel, the lamp sits in its frame.
        if lamp.width == 10 && lamp.height == 3 {
            lamp_lines(lit)
                .into_iter()
                .zip(lamp.rows())
                .for_each(|(line, row)| line.render(row, buffer));
        } else {
            let [_, line, _] = lamp_lines(lit);
            let corner = Rect {
                x: panel.right().saturating_sub(12),
                width: 10,
                height: 1,
                ..panel
            };
            line.render(corner.intersection(area), buffer);
        }
        help().render(keys, buffer);
        let (width, height) = (log.width.max(1).into(), log.height.into());
        let lines: Vec<String> = self
            .log
            .last(height)
            .iter()
            .flat_map(|line| wrapped(line, width))
            .collect();
        let shown = lines.len().saturating_sub(height);
        for (line, row) in lines.into_iter().skip(shown).zip(log.rows()) {
            Line::styled(line, Color::Gray).render(row, buffer);
        }
    }
}

/// The reason of an error stands at the end of its line.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let letters: Vec<char> = line.chars().collect();
    letters
        .chunks(width)
        .map(|row| row.iter().collect())
        .collect()
}

/// An empty screen of a known size. A fixed one, because ratatui's own resizing clears, and so asks for the cursor.
fn canvas((width, height): (u16, u16)) -> io::Result<ratatui::Terminal<CrosstermBackend<Stdout>>> {
    execute!(io::stdout(), terminal::Clear(terminal::ClearType::All))?;
    let viewport = Viewport::Fixed(Rect::new(0, 0, width, height));
    ratatui::Terminal::with_options(
        CrosstermBackend::new(io::stdout()),
        TerminalOptions { viewport },
    )
}

const CTRL_C: u8 = 0x03;
const CTRL_L: u8 = 0x0c;
const ESCAPE: u8 = 0x1b;

/// Waits for keys until a moment; `None` when there were none. An error means that the terminal is gone.
fn read_until(until: Instant) -> io::Result<Option<Vec<u8>>> {
    let stdin = io::stdin();
    let wait = until.saturating_duration_since(Instant::now());
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: wait.subsec_nanos().into(),
    };
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut polled, Some(&timeout)) {
        // A signal, such as a change of the window's size.
        Ok(0) | Err(Errno::INTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut keys = vec![0; 64];
    let count = match rustix::io::read(&stdin, &mut keys) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => count,
        Err(Errno::INTR | Errno::AGAIN) => 0,
        Err(error) => return Err(error.into()),
    };
    keys.truncate(count);
    Ok(Some(keys))
}

/// The keys that are single characters: an arrow or a function key is a sequence (ECMA-48, 5.4) whose last letter would
/// otherwise mean something else.
fn plain(keys: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = keys.iter().copied();
    std::iter::from_fn(move || {
        loop {
            match rest.next()? {
                ESCAPE => match rest.next()? {
                    b'[' => {
                        rest.find(|key| (0x40..=0x7e).contains(key))?;
                    }
                    _ => {
                        rest.next()?;
                    }
                },
                key => return Some(key),
            }
        }
    })
}

fn lamp_lines(lit: bool) -> [Line<'static>; 3] {
    let style = if lit {
        Style::new()
            .bg(Color::Red)
            .fg(Color::White)
            .add_modifier(Modifier::BOLD)
    } else {
        Style::new().bg(Color::Black).fg(Color::DarkGray)
    };
    ["          ", "  ON AIR  ", "          "].map(|line| Line::styled(line, style))
}

fn help() -> Line<'static> {
    const KEYS: [(&str, &str); 5] = [
        ("g", "GO LIVE"),
        ("G", "hold (stop)"),
        ("p", "PAGE"),
        ("m", "MODE"),
        ("q", "quit"),
    ];
    let key = Style::new()
        .fg(Color::LightCyan)
        .add_modifier(Modifier::BOLD);
    let spans = KEYS.iter().flat_map(|&(name, does)| {
        [
            Span::raw("  "),
            Span::styled(name, key),
            Span::raw(" "),
            Span::raw(does),
        ]
    });
    Line::from_iter(spans)
}

/// The framebuffer in braille: one dot a pixel.
struct Glass<'a>(&'a Picture);

impl Widget for Glass<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        /// Bits of a braille cell by column and row (Unicode, 2800h).
        const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        let color = match self.0.contrast {
            0..0x10 => Color::DarkGray,
            0x10..0x80 => Color::Cyan,
            _ => Color::LightCyan,
        };
        for row in 0..area.height.min(PANEL_ROWS) {
            for column in 0..area.width.min(PANEL_COLUMNS) {
                let lit = |x: usize, y: usize| {
                    self.0.frame.get(
                        u32::from(column) * 2 + x as u32,
                        u32::from(row) * 4 + y as u32,
                    )
                };
                let mut dots = 0x2800;
                for (x, bits) in DOTS.iter().enumerate() {
                    for (y, bit) in bits.iter().enumerate() {
                        dots |= if lit(x, y) { *bit } else { 0 };
                    }
                }
                if let (Some(dots), Some(cell)) = (
                    char::from_u32(dots),
                    buffer.cell_mut((area.x + column, area.y + row)),
                ) {
                    cell.set_char(dots).set_fg(color);
                }
            }
        }
    }
}

/// The last lines of the log, which the firmware fills: `tracing_subscriber::fmt().with_ansi(false).with_writer(tail)`.
/// Cheap to clone; all clones are one log.
#[derive(Debug, Clone)]
pub struct LogTail {
    lines: Arc<Mutex<VecDeque<String>>>,
    capacity: usize,
}

/// A line of the log is cut here; no terminal is as wide.
const LONGEST_LINE: usize = 500;

impl LogTail {
    /// A tail of `capacity` lines.
    pub fn new(capacity: usize) -> LogTail {
        LogTail {
            lines: Arc::default(),
            capacity: capacity.max(1),
        }
    }

    /// The last `count` lines, oldest first.
    pub fn last(&self, count: usize) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines
            .iter()
            .skip(lines.len().saturating_sub(count))
            .cloned()
            .collect()
    }

    fn push(&self, text: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if lines.len() == self.capacity {
                lines.pop_front();
            }
            // Names of networks and files come from outside and may hold what terminals obey.
            let line = line
                .chars()
                .take(LONGEST_LINE)
                .map(|c| if c.is_control() { ' ' } else { c });
            lines.push_back(line.collect());
        }
    }
}

impl<'a> MakeWriter<'a> for LogTail {
    type Writer = LogEvent<'a>;

    fn make_writer(&'a self) -> LogEvent<'a> {
        LogEvent {
            tail: self,
            text: Vec::new(),
        }
    }
}

/// Collects what is written for one event, and adds it to the tail when dropped.
#[derive(Debug)]
pub struct LogEvent<'a> {
    tail: &'a LogTail,
    text: Vec<u8>,
}

impl Write for LogEvent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogEvent<'_> {
    fn drop(&mut self) {
        self.tail.push(&String::from_utf8_lossy(&self.text));
    }
}

#[cfg(test)]
mod tests {
    use embedded_graphics::{
        draw_target::DrawTarget, geometry::Dimensions, pixelcolor::BinaryColor,
    };

    use super::*;
    use crate::{Display as _, Tally as _, sim::Sim};

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let tail = LogTail::new(3);
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(tail.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            for number in 1..=4 {
                tracing::info!(number, "an \u{1b}[31mevent\n");
            }
        });
        let last = tail.last(2);
        assert_eq!(last.len(), 2);
        assert!(
            last[1].contains("number=4") && !last[1].contains('\u{1b}'),
            "{last:?}"
        );
        assert_eq!(tail.last(100).len(), 3);
    }

    #[test]
    fn sequences_are_not_keys() {
        let check = |keys: &[u8], expected: &[u8]| {
            assert_eq!(plain(keys).collect::<Vec<_>>(), expected, "{keys:?}")
        };
        check(b"gG", b"gG");
        check(b"\x1b[Ag", b"g");
        check(b"p\x1b[1;5Pq", b"pq");
        check(b"\x1bOPm", b"m");
        check(b"\x1b", b"");
        check(b"\x1b[1;", b"");
    }

    fn drawn(width: u16, height: u16, view: &View<impl Fn()>) -> String {
        let mut terminal =
            ratatui::Terminal::new(ratatui::backend::TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn it_shows_the_framebuffer_the_lamp_the_keys_and_the_log_in_any_size() {
        let Sim {
            mut display,
            mut tally,
            front,
            ..
        } = Sim::new();
        let log = LogTail::new(50);
        let view = View {
            front,
            log: log.clone(),
            quit: || {},
            fingers: Vec::new(),
            wipe: false,
        };
        let mut picture = Picture::default();
        picture
            .frame
            .fill_solid(&picture.frame.bounding_box(), BinaryColor::On)
            .unwrap();
        display.show(&picture).unwrap();
        tally.set(true).unwrap();
        log.push("first\nlast");

        let page = drawn(90, 24, &view);
        for expected in [
            "Podium",
            "ON AIR",
            "g GO LIVE",
            "G hold (stop)",
            "q quit",
            "first",
            "last",
            "⣿",
        ] {
            assert!(page.contains(expected), "{expected} in\n{page}");
        }
        log.push(&format!("cannot dial {} refused", "12D3Koo".repeat(30)));
        let page = drawn(90, 24, &view);
        assert!(
            page.contains(" refused"),
            "the end of a long line in\n{page}"
        );
        let narrow = drawn(66, 20, &view);
        assert!(narrow.contains("ON AIR"), "{narrow}");
        for (width, height) in [(1, 1), (10, 3), (66, 18), (67, 19), (300, 5)] {
            drawn(width, height, &view);
        }
    }
}
