// Keys for the whole page: Space or K plays and pauses, M is the sound, F the full screen, arrows seek and set the volume.
// Pure but for the event that it reads.

export type KeyAction = "play" | "mute" | "fullscreen" | "back" | "forward" | "louder" | "quieter";

interface Press {
  key: string;
  ctrlKey: boolean;
  metaKey: boolean;
  altKey: boolean;
  /** Local names, with the type for an input, from the target outwards: `input:radio`, `button`, `media-time-range`. */
  path: string[];
}

const ACTIONS: Record<string, KeyAction> = {
  " ": "play",
  k: "play",
  m: "mute",
  f: "fullscreen",
  ArrowLeft: "back",
  ArrowRight: "forward",
  ArrowUp: "louder",
  ArrowDown: "quieter",
};

const TYPES_TEXT = /^(input:(text|search|url|email|number|password)|textarea|select)$/;
const USES_SPACE = /^(button|a|summary|input:\w+|media-\w+-(button|range))$/;
const USES_ARROWS = /^(input:(radio|range)|media-\w+-range|dialog)$/;

/** What a key asks for; `null` when the focused control needs the key for itself. */
export function actionOf(press: Press): KeyAction | null {
  if (press.ctrlKey || press.metaKey || press.altKey) return null;
  const action = ACTIONS[press.key.length === 1 ? press.key.toLowerCase() : press.key];
  if (action === undefined) return null;
  if (press.path.some((name) => TYPES_TEXT.test(name))) return null;
  if (press.key === " " && press.path.some((name) => USES_SPACE.test(name))) return null;
  if (press.key.startsWith("Arrow") && press.path.some((name) => USES_ARROWS.test(name))) return null;
  return action;
}

export function pathOf(event: Event): string[] {
  return event.composedPath().flatMap((node) => {
    if (!(node instanceof Element)) return [];
    return [node instanceof HTMLInputElement ? `input:${node.type}` : node.localName];
  });
}
