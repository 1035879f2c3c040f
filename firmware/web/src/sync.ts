// The page that the sync self-test looks for: black, with a white flash and a beep at the same moment.
//
// A flash can only begin with a picture of the screen, so the picture is chosen first, and the beep is scheduled for the
// moment when it is shown. What is left is what the browser does not know about its own outputs: see README.

import "./base.css";
import "./sync.css";
import { contextTimeAt, FLASH_MS, framePeriod, interval } from "./beat";

/** The standard tone for lining up (EBU R49, SMPTE RP 155): heard well, and in every headphone. */
const TONE_HZ = 1000;
const VOLUME = 0.5;
/** A beep is scheduled this long before it is heard: more than any output buffers. */
const AHEAD_MS = 400;
/** What is drawn in a frame is shown with the next one. */
const FRAMES_TO_SCREEN = 1;
const FRAMES_KEPT = 31;

const stage = document.getElementById("stage") as HTMLElement;
const note = document.getElementById("note") as HTMLElement;
const hint = document.getElementById("hint") as HTMLElement;
const start = document.getElementById("start") as HTMLButtonElement;

interface Show {
  audio: AudioContext;
  beep: AudioBuffer;
  wakeLock?: WakeLockSentinel;
  /** Times of the last pictures. */
  frames: number[];
  count: number;
  /** When the last flash was due, and the one that is under way is shown. */
  lastMs: number;
  flashMs: number | null;
  stopped: boolean;
}

let show: Show | null = null;

start.addEventListener("click", () => void begin());
document.addEventListener("fullscreenchange", () => {
  if (document.fullscreenElement === null) end("Stopped.");
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) end("Stopped, because the page was hidden.");
});
stage.addEventListener("click", () => {
  if (show !== null && show.count > 0) end("Stopped.");
});

async function begin(): Promise<void> {
  if (show !== null) return;
  const audio = new AudioContext({ latencyHint: "interactive" });
  const now: Show = { audio, beep: tone(audio), frames: [], count: 0, lastMs: 0, flashMs: null, stopped: false };
  show = now;
  try {
    await audio.resume();
  } catch (error) {
    end(`This browser gives no sound: ${error instanceof Error ? error.message : String(error)}`);
    return;
  }
  // The page works without either.
  await document.documentElement.requestFullscreen?.({ navigationUI: "hide" }).catch(() => undefined);
  now.wakeLock = await navigator.wakeLock?.request("screen").catch(() => undefined);
  if (now.stopped) return release(now);
  document.body.classList.add("flashing");
  hint.hidden = false;
  window.setTimeout(() => (hint.hidden = true), 4000);
  requestAnimationFrame((at) => frame(now, at));
}

function end(why: string): void {
  if (show === null) return;
  const last = show;
  show = null;
  last.stopped = true;
  release(last);
  document.body.classList.remove("flashing");
  stage.classList.remove("white");
  hint.hidden = true;
  note.textContent = why;
  if (document.fullscreenElement !== null) void document.exitFullscreen();
}

function release(last: Show): void {
  void last.audio.close().catch(() => undefined);
  void last.wakeLock?.release();
}

function tone(audio: AudioContext): AudioBuffer {
  const buffer = audio.createBuffer(1, Math.round((audio.sampleRate * FLASH_MS) / 1000), audio.sampleRate);
  const samples = buffer.getChannelData(0);
  for (let i = 0; i < samples.length; i += 1) {
    samples[i] = VOLUME * Math.sin((2 * Math.PI * TONE_HZ * i) / audio.sampleRate);
  }
  return buffer;
}

/** One picture of the screen; `at` is its time. */
function frame(now: Show, at: number): void {
  if (now.stopped) return;
  now.frames.push(at);
  if (now.frames.length > FRAMES_KEPT) now.frames.shift();
  if (now.frames.length === FRAMES_KEPT) {
    const period = framePeriod(now.frames);
    const shownMs = at + FRAMES_TO_SCREEN * period;
    if (now.flashMs === null) plan(now, shownMs, period);
    else flash(now, now.flashMs, shownMs, period);
  }
  requestAnimationFrame((next) => frame(now, next));
}

/** Chooses the picture that begins the next flash, and lets the beep come with it. */
function plan(now: Show, shownMs: number, period: number): void {
  const wanted = Math.max(now.lastMs + interval(now.count), shownMs + AHEAD_MS);
  if (wanted - shownMs > AHEAD_MS + period) return;
  const flashMs = shownMs + Math.round((wanted - shownMs) / period) * period;
  const source = new AudioBufferSourceNode(now.audio, { buffer: now.beep });
  source.connect(now.audio.destination);
  source.start(Math.max(0, contextTimeAt(now.audio, flashMs, performance.now())));
  now.flashMs = flashMs;
  now.lastMs = flashMs;
  now.count += 1;
}

function flash(now: Show, flashMs: number, shownMs: number, period: number): void {
  const since = shownMs - flashMs + period / 2;
  stage.classList.toggle("white", since >= 0 && since < FLASH_MS);
  if (since >= FLASH_MS) now.flashMs = null;
}
