import { expect, test } from "vitest";
import { contextTimeAt, framePeriod, interval } from "../src/beat";

test("flashes are a second apart at least, and at every phase of a picture", () => {
  for (const fps of [24, 25, 30, 50, 60]) {
    const period = 1000 / fps;
    let at = 0;
    const phases = Array.from({ length: 40 }, (_, n) => {
      const step = interval(n);
      expect(step).toBeGreaterThanOrEqual(1000);
      expect(step).toBeLessThan(1400);
      at += step;
      return (at % period) / period;
    }).sort((a, b) => a - b);
    const gaps = phases.map((phase, i) => (phases[i + 1] ?? (phases[0] ?? 0) + 1) - phase);
    expect(Math.max(...gaps), `${fps} fps`).toBeLessThan(0.2);
  }
});

test("a beep is scheduled for when it is heard", () => {
  const clock = { currentTime: 5, outputLatency: 0.04, getOutputTimestamp: () => ({ contextTime: 4.95, performanceTime: 8000 }) };
  expect(contextTimeAt(clock, 8300, 8010)).toBeCloseTo(5.25);
  // A browser that does not know yet, one that cannot say, and one that has hung.
  expect(contextTimeAt({ ...clock, getOutputTimestamp: () => ({ contextTime: 0, performanceTime: 0 }) }, 8300, 8000)).toBeCloseTo(5.26);
  expect(contextTimeAt({ currentTime: 5, baseLatency: 0.01 }, 8300, 8000)).toBeCloseTo(5.29);
  expect(contextTimeAt({ ...clock, currentTime: 9 }, 12300, 12000)).toBeCloseTo(9.26);
});

test("a late picture does not change how long pictures are", () => {
  expect(framePeriod([0, 10, 20, 50, 60])).toBe(10);
  expect(framePeriod([])).toBeCloseTo(16.67);
});
