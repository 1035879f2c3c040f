import { expect, test } from "vitest";
import { BoxClock, latency } from "../src/clock";

test("the offset of the box's clock emerges from whole seconds", () => {
  const clock = new BoxClock();
  expect(clock.offsetMs).toBeNull();
  const offset = 123_456;
  // Answers at odd moments, 10 ms each way.
  for (let i = 0; i < 60; i += 1) {
    const sent = 1_700_000_000_000 + i * 2037;
    clock.observe(sent, sent + 20, Math.floor((sent + 10 + offset) / 1000));
  }
  expect(Math.abs((clock.offsetMs ?? 0) - offset)).toBeLessThan(60);
});

test("a clock that is set voids what was known", () => {
  const clock = new BoxClock();
  clock.observe(1_000_000, 1_000_020, 1000);
  clock.observe(1_002_000, 1_002_020, 5000);
  expect(clock.offsetMs).toBeCloseTo(3_998_490, -2);
});

test("latency", () => {
  const now = 1_700_000_000_000;
  const row = { nowMs: now, offsetMs: 0, programDateTimeMs: now - 3200, edgeSeconds: 2, boxSideMs: 900, behindMs: 0 };
  const rows: [Partial<Record<Exclude<keyof typeof row, "nowMs">, number | null>>, number | null][] = [
    [{}, 3.2],
    [{ offsetMs: 500 }, 3.7],
    // Clocks that disagree with the playlist are not believed.
    [{ programDateTimeMs: now + 60_000 }, 2.9],
    [{ programDateTimeMs: now - 3_600_000 }, 2.9],
    [{ programDateTimeMs: null }, 2.9],
    [{ offsetMs: null }, 2.9],
    [{ offsetMs: null, boxSideMs: null }, 2],
    [{ programDateTimeMs: null, edgeSeconds: null }, null],
    // A mirror that knows of something newer shows what is older by that.
    [{ programDateTimeMs: now - 77_000, behindMs: 70_000 }, 77],
    [{ programDateTimeMs: null, behindMs: 70_000 }, 72.9],
    // Where nothing comes in, only the date tells how old the last picture is.
    [{ programDateTimeMs: now - 3_600_000, behindMs: null }, 3600],
    [{ programDateTimeMs: null, behindMs: null }, null],
    [{ programDateTimeMs: now + 60_000, behindMs: null }, null],
    // Safari's own player tells the date and no edge.
    [{ edgeSeconds: null }, 3.2],
  ];
  for (const [change, seconds] of rows) {
    const result = latency({ ...row, ...change });
    if (seconds === null) expect(result).toBeNull();
    else expect(result).toBeCloseTo(seconds, 5);
  }
});
