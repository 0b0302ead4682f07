// Keyboard shortcuts: one table, which the help sheet prints. Views add theirs while they are on the page.

import { useLayoutEffect } from "../vendor/preact-hooks.js";

const bindings = new Map();
let pending = null;
let pendingTimer = 0;

/** `keys` is one key, or two after each other as in `g t`. Returns how to take it away again. */
export function bind(keys, what, run) {
  bindings.set(keys, { keys, what, run });
  return () => bindings.delete(keys);
}

/** Binds while the component is on the page: `{keys: [what, run]}`. */
export function useKeys(table) {
  // Not after the next paint, as an ordinary effect: a key pressed before it would meet what stood there before.
  useLayoutEffect(() => {
    const undo = Object.entries(table).map(([keys, [what, run]]) => bind(keys, what, run));
    return () => undo.forEach((one) => one());
  });
}

export const allKeys = () => [...bindings.values()];

const isTyping = (target) => target.closest("input, textarea, select, [contenteditable]") !== null;

/** Pressing a button or a link with Enter or Space is that element's own affair. */
const isPressing = (target, key) => (key === " " || key === "Enter") && target.closest("button, a, summary, tr, pre") !== null;

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.target instanceof Element)) return;
  if (isTyping(event.target) || isPressing(event.target, event.key)) return;
  if (document.querySelector("dialog[open]") && event.key !== "?") return;
  const chord = pending ? `${pending} ${event.key}` : event.key;
  pending = null;
  clearTimeout(pendingTimer);
  const found = bindings.get(chord) ?? bindings.get(event.key);
  if (found) {
    event.preventDefault();
    found.run(event);
  } else if ([...bindings.keys()].some((keys) => keys.startsWith(`${event.key} `))) {
    pending = event.key;
    pendingTimer = setTimeout(() => (pending = null), 1200);
  }
});
