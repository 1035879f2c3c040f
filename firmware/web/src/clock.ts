// The box's clock as seen from here. The header Date has whole seconds only, but every answer bounds the offset from both
// sides, and the bounds of many answers meet within some tens of milliseconds.

export class BoxClock {
  private low = -Infinity;
  private high = Infinity;

  /** Takes one answer: sent and received by our clock, `dateSeconds` by the box's, truncated to a second. */
  observe(sentMs: number, receivedMs: number, dateSeconds: number): void {
    // The box read its clock between our two readings, and it read between date and date + 1 s.
    const low = dateSeconds * 1000 - receivedMs;
    const high = dateSeconds * 1000 + 1000 - sentMs;
    this.low = Math.max(this.low, low);
    this.high = Math.min(this.high, high);
    if (this.low > this.high) {
      // One of the two clocks was set: what was known is void.
      this.low = low;
      this.high = high;
    }
  }

  /** Milliseconds to add to our clock to get the box's; nothing is known before the first answer. */
  get offsetMs(): number | null {
    return Number.isFinite(this.low) && Number.isFinite(this.high) ? (this.low + this.high) / 2 : null;
  }
}

/**
 * Seconds between the camera and the eye.
 *
 * `programDateTimeMs` of the picture on show, against the box's clock, is the truth. Without it, or when it contradicts what
 * the playlist says (a clock without a battery), the sum of the two known spans stands in: capture to published, as the box
 * estimates it, and published to shown, as the player measures it. What is published may itself be old: `behindMs` by what a
 * mirror knows to be newer, and `null` where nothing comes in, so that only the date of the picture tells.
 */
export function latency(inputs: {
  nowMs: number;
  offsetMs: number | null;
  programDateTimeMs: number | null;
  edgeSeconds: number | null;
  boxSideMs: number | null;
  behindMs: number | null;
}): number | null {
  const { nowMs, offsetMs, programDateTimeMs, edgeSeconds, boxSideMs, behindMs } = inputs;
  const stale = behindMs === null ? Infinity : behindMs / 1000;
  if (programDateTimeMs !== null && offsetMs !== null) {
    const seconds = (nowMs + offsetMs - programDateTimeMs) / 1000;
    const edge = edgeSeconds ?? 0;
    if (seconds >= edge - 1 && seconds <= edge + stale + 60) return Math.max(0, seconds);
  }
  return edgeSeconds === null || behindMs === null ? null : edgeSeconds + stale + (boxSideMs ?? 0) / 1000;
}
