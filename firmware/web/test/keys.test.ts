import { expect, test } from "vitest";
import { actionOf, type KeyAction } from "../src/keys";

test("keys act on the page and leave focused controls alone", () => {
  const rows: [string, string[], KeyAction | null][] = [
    [" ", ["body", "html"], "play"],
    ["K", ["body"], "play"],
    ["m", ["button", "body"], "mute"],
    ["f", ["video", "media-controller"], "fullscreen"],
    ["ArrowLeft", ["body"], "back"],
    ["ArrowUp", ["button"], "louder"],
    [" ", ["button", "body"], null],
    [" ", ["media-play-button", "body"], null],
    [" ", ["input:checkbox"], null],
    ["ArrowRight", ["input:radio"], null],
    ["ArrowRight", ["media-time-range"], null],
    ["m", ["input:text"], null],
    ["x", ["body"], null],
    ["Enter", ["body"], null],
  ];
  for (const [key, path, action] of rows) {
    expect(actionOf({ key, path, ctrlKey: false, metaKey: false, altKey: false }), `${key} on ${path[0]}`).toBe(action);
  }
  expect(actionOf({ key: "f", path: ["body"], ctrlKey: true, metaKey: false, altKey: false })).toBeNull();
});
