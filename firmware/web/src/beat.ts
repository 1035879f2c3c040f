// When to flash and beep, and how to make both come out at the same moment. Pure.

/** Length of flash and beep; `FLASH` in `firmware/stream/src/self_test.rs`. */
export const FLASH_MS = 100;

/** From one flash to the next: at least a second, so that no beep belongs to two, and below the three a second of WCAG 2.3.1. */
const SHORTEST_MS = 1000;
const SPAN_MS = 400;

/** Steps of the golden ratio leave no phase against the camera's pictures out. */
const GOLDEN = 0.6180339887498949;

/** The distance of the flash number `n` to the one before, milliseconds. */
export function interval(n: number): number {
  return SHORTEST_MS + SPAN_MS * ((n * GOLDEN) % 1);
}

/** What `AudioContext.getOutputTimestamp` says: this second of the context is heard at this time of the page. */
export interface OutputTimestamp {
  contextTime?: number;
  performanceTime?: number;
}

/** An audio context as far as its clock goes. */
export interface AudioClock {
  currentTime: number;
  outputLatency?: number;
  baseLatency?: number;
  getOutputTimestamp?(): OutputTimestamp;
}

/** The context's time, in seconds, whose sound is heard at `heardMs` of the page. */
export function contextTimeAt(clock: AudioClock, heardMs: number, nowMs: number): number {
  const { contextTime = 0, performanceTime = 0 } = clock.getOutputTimestamp?.() ?? {};
  // Before the first sound comes out some browsers say zero, and one that has hung says what was long ago.
  if (contextTime > 0 && Math.abs(nowMs - performanceTime) < 1000) {
    return contextTime + (heardMs - performanceTime) / 1000;
  }
  const latency = clock.outputLatency || clock.baseLatency || 0;
  return clock.currentTime - latency + (heardMs - nowMs) / 1000;
}

/** The length of a picture from the times of the last ones: their median, as one that comes late says nothing. */
export function framePeriod(times: number[]): number {
  const periods = times.slice(1).map((time, i) => time - (times[i] ?? time));
  periods.sort((a, b) => a - b);
  return periods[Math.floor(periods.length / 2)] ?? 1000 / 60;
}
