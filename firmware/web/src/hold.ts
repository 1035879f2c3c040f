// A hardware button on a page: what fingers and keys do becomes press and release, never twice and never one without the
// other. Sending is ordered, because two requests on two connections can overtake each other.

import { type Button, sendButton } from "./api";

/** How long GO LIVE is held to end a broadcast (the panel's own rule). */
export const HOLD_MS = 1500;

/** A press lasts only while it is repeated: a page that dies takes its finger with it (the box lets go after a second). */
const REPEAT_MS = 250;

/** A click can be over in a millisecond; a button that bounces for less than this is not believed. */
const SHORTEST_MS = 80;

export class HardwareButton {
  pressedAtMs: number | null = null;
  private repeating: number | undefined;
  private queue: Promise<void> = Promise.resolve();

  constructor(
    readonly element: HTMLButtonElement,
    private readonly button: Button,
    private readonly changed: () => void,
    private readonly refused: (reason: string) => void,
  ) {
    element.addEventListener("pointerdown", (event) => {
      if (event.button === 0) this.press();
    });
    for (const type of ["pointerup", "pointercancel", "pointerleave", "blur"] as const) {
      element.addEventListener(type, () => this.release());
    }
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("keydown", (event) => {
      if (event.key !== " " && event.key !== "Enter") return;
      event.preventDefault();
      if (!event.repeat) this.press();
    });
    element.addEventListener("keyup", (event) => {
      if (event.key === " " || event.key === "Enter") this.release();
    });
    // Screen readers click without a finger; that is a tap.
    element.addEventListener("click", (event) => {
      if (event.detail !== 0 || this.pressedAtMs !== null) return;
      this.press();
      this.release();
    });
    // A page that goes away takes its finger off the button.
    window.addEventListener("pagehide", () => this.release());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.release();
    });
  }

  press(): void {
    if (this.pressedAtMs !== null) return;
    this.pressedAtMs = performance.now();
    this.element.classList.add("pressed");
    this.send("press");
    this.repeating = window.setInterval(() => this.send("press"), REPEAT_MS);
  }

  release(): void {
    if (this.pressedAtMs === null) return;
    this.pressedAtMs = null;
    window.clearInterval(this.repeating);
    this.element.classList.remove("pressed");
    this.send("release");
  }

  /** Holds as a finger would: the way to end a broadcast for those who cannot hold a button. */
  async holdAlone(): Promise<void> {
    this.press();
    await new Promise((done) => setTimeout(done, HOLD_MS + 200));
    this.release();
    await this.queue;
  }

  private send(action: "press" | "release"): void {
    this.changed();
    this.queue = this.queue
      .then(async () => {
        await sendButton(this.button, action);
        if (action === "press") await new Promise((done) => setTimeout(done, SHORTEST_MS));
      })
      .catch((error: unknown) => this.refused(error instanceof Error ? error.message : String(error)));
  }
}
