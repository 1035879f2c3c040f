// Copying where the page has no secure context: a box in a local network is reached over plain HTTP, and there
// `navigator.clipboard` does not exist.

export async function copy(text: string): Promise<boolean> {
  if (window.isSecureContext && navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // The browser refused; the old way may still do.
    }
  }
  const area = document.createElement("textarea");
  const focused = document.activeElement;
  area.value = text;
  area.setAttribute("readonly", "");
  area.className = "unseen";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return copied;
}

/** Screen readers hear a change of a live region, not one of a button's text. */
const spoken = document.createElement("p");
spoken.className = "unseen";
spoken.setAttribute("role", "status");
document.body.append(spoken);

/** Makes a button copy what `text` returns and say so for two seconds. */
export function copyButton(button: HTMLButtonElement, text: () => string): void {
  const label = button.textContent ?? "";
  let timer: number | undefined;
  button.addEventListener("click", async () => {
    const outcome = (await copy(text())) ? "Copied" : "Not allowed";
    button.textContent = outcome;
    spoken.textContent = outcome;
    window.clearTimeout(timer);
    timer = window.setTimeout(() => {
      button.textContent = label;
      spoken.textContent = "";
    }, 2000);
  });
}
