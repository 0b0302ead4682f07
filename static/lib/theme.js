// Dark or light: the system's choice unless the reader made one, which this browser remembers.

import { signal } from "../vendor/signals-core.js";

const KEY = "callboard-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // Storage may be forbidden; the page then follows the system.
  }
}

const current = () => remembered() ?? (system.matches ? "dark" : "light");

/** `dark` or `light`: what is shown now. */
export const theme = signal(current());

function show() {
  theme.value = current();
  document.documentElement.dataset.theme = theme.value;
}

export function toggleTheme() {
  const chosen = theme.value === "dark" ? "light" : "dark";
  try {
    // The system's own choice is not stored, so that the page goes on following it.
    if ((chosen === "dark") === system.matches) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, chosen);
  } catch {
    // See `remembered`.
  }
  document.documentElement.dataset.theme = chosen;
  theme.value = chosen;
}

system.addEventListener("change", show);
show();
