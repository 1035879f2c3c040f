import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { GoLive, HardwareButton, HOLD_MS } from "../src/hold";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

type Air = ConstructorParameters<typeof GoLive>[0] extends () => infer A ? A : never;

test("GO LIVE asks once for what is wanted, and a hold is over when the page says so", () => {
  const check = (air: Air, heldMs: number, meant: boolean, expected: string[]) => {
    const asked: string[] = [];
    const button = new GoLive(() => air, (what) => asked.push(what), () => {});
    button.press();
    vi.advanceTimersByTime(heldMs);
    button.release(meant);
    vi.advanceTimersByTime(10 * HOLD_MS);
    expect(asked, `${air}, held for ${heldMs} ms`).toEqual(expected);
  };
  check("off", 100, true, ["start"]);
  check("off", 2 * HOLD_MS, true, ["start"]);
  // The finger slid off, or the page went away.
  check("off", 100, false, []);
  check("on", HOLD_MS - 1, true, []);
  check("on", HOLD_MS, true, ["stop"]);
  check("on", 3 * HOLD_MS, false, ["stop"]);
  check("waiting", 100, true, ["start"]);
  check("waiting", 100, false, []);
  check("waiting", HOLD_MS, true, ["stop"]);
  check(null, 100, true, []);
  check(null, HOLD_MS, true, []);
});

test("what counts is what the page knows when the hold is over", () => {
  const check = (then: Air, now: Air, expected: string[]) => {
    const asked: string[] = [];
    let air = then;
    const button = new GoLive(() => air, (what) => asked.push(what), () => {});
    button.press();
    air = now;
    vi.advanceTimersByTime(HOLD_MS);
    button.release(true);
    expect(asked, `${then}, then ${now}`).toEqual(expected);
  };
  // It ended under the finger, and is not begun again.
  check("on", "off", []);
  // The page had just been opened.
  check(null, "on", ["stop"]);
});

test("a button that is held is pressed once and then repeated", async () => {
  const sent: string[] = [];
  const answer = async (_: string, init: RequestInit) => {
    sent.push((JSON.parse(init.body as string) as { action: string }).action);
    return new Response(null, { status: 202 });
  };
  vi.stubGlobal("fetch", answer);
  const button = new HardwareButton("page", () => {}, (error) => expect.unreachable(String(error)));
  button.press();
  await vi.advanceTimersByTimeAsync(600);
  button.release();
  await vi.advanceTimersByTimeAsync(5000);
  expect(sent).toEqual(["press", "repeat", "repeat", "release"]);
});

test("what the network held up is not made up for", async () => {
  const sent: string[] = [];
  const refused: string[] = [];
  let hangs = true;
  const answer = async (_: string, init: RequestInit) => {
    sent.push((JSON.parse(init.body as string) as { action: string }).action);
    // Until the page gives up on it.
    if (hangs) await new Promise((_, reject) => setTimeout(() => reject(new Error("timeout")), 3000));
    return new Response(null, { status: 202 });
  };
  vi.stubGlobal("fetch", answer);
  const button = new HardwareButton("mode", () => {}, (error) => refused.push(String(error)));
  const tap = async () => {
    button.press();
    await vi.advanceTimersByTimeAsync(300);
    button.release();
    await vi.advanceTimersByTimeAsync(200);
  };
  // The first is under way when the network stalls, and has perhaps arrived: its release follows, its repeat no longer does.
  await tap();
  await tap();
  await tap();
  hangs = false;
  await vi.advanceTimersByTimeAsync(10_000);
  expect(sent).toEqual(["press", "release"]);
  expect(refused).toHaveLength(3);
  await tap();
  expect(sent).toEqual(["press", "release", "press", "repeat", "release"]);
});
