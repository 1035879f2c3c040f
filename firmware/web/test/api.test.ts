import { afterEach, expect, test, vi } from "vitest";
import { post, whyNothing } from "../src/api";

afterEach(() => vi.unstubAllGlobals());

async function why(answer: () => Promise<Response>): Promise<string> {
  vi.stubGlobal("fetch", answer);
  return post("/api/v1/start", null).then(() => "", whyNothing);
}

test("only what has not reached the box is said not to have reached it", async () => {
  expect(await why(async () => new Response(null, { status: 202 }))).toBe("");
  expect(await why(async () => new Response("still ending\n", { status: 409 }))).toBe("Still ending.");
  expect(await why(async () => new Response("", { status: 500 }))).toBe("The box answered 500.");
  expect(await why(() => Promise.reject(new TypeError("Failed to fetch")))).toBe("The button did not reach the box: Failed to fetch.");
});
