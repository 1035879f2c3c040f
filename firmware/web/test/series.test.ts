import { expect, test } from "vitest";
import { Series } from "../src/series";

test("keeps one minute, and gaps as gaps", () => {
  const series = new Series(2);
  for (let t = 0; t <= 120_000; t += 300) series.push(t, [t / 1000, t === 119_700 ? null : 1]);
  const [times, first, second] = series.rows(120_000);
  expect(times).toHaveLength(201);
  expect(times[0]).toBe(-60);
  expect(times.at(-1)).toBe(0);
  expect(first?.at(-1)).toBe(120);
  expect(second?.at(-2)).toBeNull();
});
