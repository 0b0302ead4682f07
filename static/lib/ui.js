// The few pieces that every view uses: templates, signals in components, notices, copying, and what is said to screen readers.

import { h } from "../vendor/preact.js";
import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import htm from "../vendor/htm.js";
import { effect, signal } from "../vendor/signals-core.js";
import { rate } from "./format.js";

export const html = htm.bind(h);

/** The value of a signal; the component is drawn again when it changes. */
export function useSignal(source) {
  const [, redraw] = useState(0);
  const drawn = useRef(null);
  drawn.current = source.peek();
  // The effect begins after the component was drawn, and the signal may have changed in between: so it compares, and does not just skip
  // its first run.
  useEffect(() => effect(() => {
    if (source.value !== drawn.current) redraw((count) => count + 1);
  }), [source]);
  return drawn.current;
}

/** Draws the component again every `ms`, for times that grow old. */
export function useTick(ms) {
  const [, redraw] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || redraw((count) => count + 1), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

/** The last thing that happened, for the live region and the slip at the foot of the page: `{text, tone}`. */
export const said = signal(null);
let saidTimer = 0;

export function say(text, tone = "plain") {
  said.value = { text, tone };
  clearTimeout(saidTimer);
  saidTimer = setTimeout(() => (said.value = null), 6000);
}

/** A pinned sheet of paper with a heading. `aside` stands beside the heading. */
export function Notice({ title, aside, children, className = "", id, level = 2 }) {
  const heading = id ?? `notice-${title.toLowerCase().replace(/\W+/g, "-")}`;
  return html`
    <section class=${`notice ${className}`} aria-labelledby=${heading}>
      <div class="notice-head">
        ${h(`h${level}`, { id: heading, class: "notice-title" }, title)}
        ${aside}
      </div>
      ${children}
    </section>`;
}

/** What went wrong, in place. */
export function Trouble({ error, children }) {
  if (!error) return null;
  return html`<p class="trouble" role="alert">
    <strong>${error.title && error.title !== error.message ? `${error.title}. ` : ""}</strong>${error.message}
    ${error.code ? html` <code>${error.code}</code>` : null} ${children}
  </p>`;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("This browser does not let the page copy. Select the text instead.", "bad");
  }
}

export function CopyButton({ text, label = "Copy", what }) {
  return html`<button type="button" class="quiet small" onClick=${() => copy(text)} aria-label=${what ? `Copy ${what}` : null}>${label}</button>`;
}

/** A snippet to copy: `title` says where it is typed. */
export function Snippet({ title, text }) {
  return html`
    <figure class="snippet">
      <figcaption><span>${title}</span> <${CopyButton} text=${text} what=${title.toLowerCase()} /></figcaption>
      <pre tabindex="0"><code>${text}</code></pre>
    </figure>`;
}

/** The durability of a topic or a reply, as a rubber stamp. */
export const Stamp = ({ durability }) => html`
  <span class=${`stamp stamp-${durability}`} title=${MEANING[durability] ?? ""}>${durability}</span>`;

const MEANING = {
  fsync: "Flushed to disk before it is acknowledged or shown",
  os: "Written to the operating system before it is acknowledged or shown",
  memory: "Kept in memory only: a restart forgets it",
  replicated: "On more than one machine before it is acknowledged or shown",
};

/** A line of the last `most` points of `of(point)`, scaled to its own highest. */
export function Sparkline({ points, of, label, most = 60 }) {
  const width = 240;
  const height = 30;
  const last = points.slice(-most);
  const top = Math.max(1, ...last.map(of));
  const step = width / (most - 1);
  const x0 = width - (last.length - 1) * step;
  const path = last.map((point, index) => `${(x0 + index * step).toFixed(1)},${(height - 2 - (of(point) / top) * (height - 4)).toFixed(1)}`);
  return html`
    <svg class="spark" viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} role="img" aria-label=${label} preserveAspectRatio="none">
      <line x1="0" x2=${width} y1=${height - 1.5} y2=${height - 1.5} class="spark-base" />
      ${path.length > 1
        ? html`<polygon class="spark-fill" points=${`${x0.toFixed(1)},${height - 2} ${path.join(" ")} ${width},${height - 2}`} />
            <polyline class="spark-line" points=${path.join(" ")} />`
        : null}
    </svg>`;
}

export const Rate = ({ value }) => html`<span class="figure">${rate(value)}<span class="unit">/s</span></span>`;

/** A dialog that is modal while `isOpen`; Escape and the backdrop close it. */
export function Dialog({ isOpen, onClose, title, children }) {
  const ref = useRef(null);
  useEffect(() => {
    if (isOpen && !ref.current.open) ref.current.showModal();
    if (!isOpen && ref.current.open) ref.current.close();
  }, [isOpen]);
  return html`
    <dialog ref=${ref} class="notice sheet" aria-label=${title} onClose=${onClose}
      onClick=${(event) => event.target === ref.current && ref.current.close()}>
      <div class="notice-head">
        <h2 class="notice-title">${title}</h2>
        <button type="button" class="quiet small" onClick=${() => ref.current.close()}>Close</button>
      </div>
      ${isOpen ? children : null}
    </dialog>`;
}
