import { expect, test } from "vitest";
import { isSame, parsed, titleOf } from "../src/description";

test("a recording says what it is of, and when that was", () => {
  const title = (json: unknown) => {
    const description = parsed(JSON.stringify(json));
    return description && titleOf(description, "en-GB", "UTC");
  };
  expect(title({ name: "Conference", started_ms: 1_795_338_000_000, first: 7, previous: null })).toBe("Conference, 22 November 2026 at 09:00");
  expect(title({ name: "Conference", started_ms: null })).toBe("Conference");
  expect(title({ name: "", started_ms: null })).toBe("");
  expect(title({ started_ms: 1 })).toBeNull();
  expect(title("Conference")).toBeNull();
  expect(title(null)).toBeNull();
  expect(parsed("<html>")).toBeNull();
});

test("one broadcast is described in other words in each life of its box", () => {
  const described = (first: number, started_ms: number, earlier: string[]) => JSON.stringify({ name: "Hall", first, started_ms, earlier });
  expect(isSame(described(1, 2, []), described(1, 2, ["a"]))).toBe(true);
  expect(isSame(described(1, 2, []), described(9, 2, []))).toBe(false);
  expect(isSame(described(1, 2, []), described(1, 3, []))).toBe(false);
  expect(isSame("", described(1, 2, []))).toBe(false);
});
