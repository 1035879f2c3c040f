// A button on a page: what fingers and keys do becomes press and release, never twice and never one without the other.

import { type Button, sendButton } from "./api";

/** How long GO LIVE is held to end a broadcast (the panel's own rule). */
export const HOLD_MS = 1500;

/** A press lasts only while it is repeated: a page that dies takes its finger with it (the box lets go after a second). */
const REPEAT_MS = 250;

/** The box's own grip (`fingers.rs`). What has waited longer than this is no finger any more. */
const GRIP_MS = 1000;

/** A click can be over in a millisecond; a button that bounces for less than this is not believed. */
const SHORTEST_MS = 80;

/** What a button does when it is pressed and let go. */
interface Pressable {
  press(): void;
  /** Not `meant` where the page went away, or the finger was taken for something else. */
  release(meant: boolean): void;
}

/** Has fingers, keys and screen readers press a button. */
export function pressable(element: HTMLButtonElement, button: Pressable): void {
  let pressed = false;
  const press = () => {
    if (pressed) return;
    pressed = true;
    element.classList.add("pressed");
    button.press();
  };
  const release = (meant: boolean) => {
    if (!pressed) return;
    pressed = false;
    element.classList.remove("pressed");
    button.release(meant);
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button === 0) press();
  });
  element.addEventListener("pointerup", () => release(true));
  for (const type of ["pointercancel", "pointerleave", "blur"] as const) {
    element.addEventListener(type, () => release(false));
  }
  element.addEventListener("contextmenu", (event) => event.preventDefault());
  element.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (!event.repeat) press();
  });
  element.addEventListener("keyup", (event) => {
    if (event.key === " " || event.key === "Enter") release(true);
  });
  // Screen readers click without a finger; that is a tap.
  element.addEventListener("click", (event) => {
    if (event.detail !== 0 || pressed) return;
    press();
    release(true);
  });
  // A page that goes away takes its finger off the button.
  window.addEventListener("pagehide", () => release(false));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) release(false);
  });
}

/** Whether the box is on air; "waiting" where it was and waits for the time. Nothing while the box has not been heard. */
type Air = "on" | "off" | "waiting" | null;

/**
 * GO LIVE. The page tells a tap from a hold and says what is wanted: presses that a slow network brings late, and those of two
 * operators, would add up to a broadcast that nobody wants.
 */
export class GoLive implements Pressable {
  /** The press now in progress did not begin off air: only then does holding mean anything. */
  holding = false;
  heldOut = false;
  private began: Air = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly air: () => Air,
    private readonly ask: (what: "start" | "stop") => void,
    private readonly changed: () => void,
  ) {}

  press(): void {
    this.began = this.air();
    this.holding = this.began !== "off";
    this.heldOut = false;
    if (this.holding) {
      this.timer = setTimeout(() => {
        const air = this.air();
        if (air !== "on" && air !== "waiting") return;
        this.heldOut = true;
        this.ask("stop");
        this.changed();
      }, HOLD_MS);
    }
    this.changed();
  }

  release(meant: boolean): void {
    clearTimeout(this.timer);
    const starts = this.began === "off" || (this.began === "waiting" && !this.heldOut);
    if (starts && meant) this.ask("start");
    this.holding = false;
    this.changed();
  }
}

/** A button of the box's front. Sending is ordered, because two requests on two connections can overtake each other. */
export class HardwareButton implements Pressable {
  private repeating: ReturnType<typeof setInterval> | undefined;
  private queue: Promise<void> = Promise.resolve();
  /** The last press was sent; whether it has arrived is not for the page to know. */
  private sent = false;

  constructor(
    private readonly button: Button,
    private readonly changed: () => void,
    private readonly refused: (reason: unknown) => void,
  ) {}

  press(): void {
    this.send("press");
    this.repeating = setInterval(() => this.send("repeat"), REPEAT_MS);
  }

  release(): void {
    clearInterval(this.repeating);
    this.send("release");
  }

  private send(action: "press" | "repeat" | "release"): void {
    this.changed();
    const atMs = performance.now();
    this.queue = this.queue.then(() => this.deliver(action, atMs)).catch(this.refused);
  }

  /**
   * Sends what the finger did at `atMs`, if it still means something: after a stall of the network a press of a while ago would be a
   * tap that nobody makes now. A release is never too late, but that of a press that was not sent would take another's finger off.
   */
  private async deliver(action: "press" | "repeat" | "release", atMs: number): Promise<void> {
    const late = performance.now() - atMs > GRIP_MS;
    if (action === "press") {
      this.sent = !late;
      if (late) throw new Error("the press had to wait for too long");
    } else if (!this.sent || (late && action === "repeat")) return;
    await sendButton(this.button, action);
    if (action === "press") await new Promise((done) => setTimeout(done, SHORTEST_MS));
  }
}
