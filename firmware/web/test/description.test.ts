import { expect, test } from "vitest";
import { parsed, titleOf } from "../src/description";

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
