// The header: where one is, whether the broker is there, and how the page looks.

import { html, useSignal, useTick } from "../lib/ui.js";
import { theme, toggleTheme } from "../lib/theme.js";

const PHASES = { connecting: "Connecting", open: "Connected", waiting: "Reconnecting" };

/** Pages that belong to another one of the views. */
const WITHIN = { topic: "overview", group: "overview", webhook: "webhooks" };

function ConnectionState({ connection }) {
  const state = useSignal(connection.state);
  useTick(state.phase === "waiting" ? 500 : 60000);
  const seconds = state.retryAt ? Math.max(0, Math.ceil((state.retryAt - Date.now()) / 1000)) : 0;
  const detail = state.phase === "waiting" && seconds > 0 ? ` in ${seconds} s` : "";
  return html`
    <div class=${`link link-${state.phase}`} data-phase=${state.phase}>
      <span class="lamp" aria-hidden="true"></span>
      <span role="status">${PHASES[state.phase]}</span><span aria-hidden="true">${detail}</span>
      ${state.phase === "waiting" ? html`<button type="button" class="small" onClick=${() => connection.retryNow()}>Try now</button>` : null}
      ${state.phase === "open" ? html`<span class="version" title="What answers at the other end">${state.welcome.server}</span>` : null}
    </div>`;
}

export function Header({ connection, view, onHelp }) {
  const shown = useSignal(theme);
  const current = (name) => (view === name || WITHIN[view] === name ? "page" : null);
  return html`
    <header class="top">
      <a class="brand" href="#/" aria-label="Callboard, to the topics">
        <img src="icon.svg" alt="" width="26" height="26" /> <span>Callboard</span>
      </a>
      <nav aria-label="Views">
        <a href="#/" aria-current=${current("overview")}>Topics</a>
        <a href="#/routing" aria-current=${current("routing")}>Routing</a>
        <a href="#/webhooks" aria-current=${current("webhooks")}>Webhooks</a>
        <a href="#/events" aria-current=${current("events")}>Events</a>
        <a href="#/sessions" aria-current=${current("sessions")}>Sessions</a>
      </nav>
      <${ConnectionState} connection=${connection} />
      <div class="top-tools">
        <button type="button" class="on-board" onClick=${toggleTheme} aria-label=${`Switch to ${shown === "dark" ? "light" : "dark"} theme`}>
          ${shown === "dark" ? "Lights up" : "Lights down"}
        </button>
        <button type="button" class="on-board" onClick=${onHelp} aria-label="Keyboard shortcuts" title="Keyboard shortcuts">?</button>
      </div>
    </header>`;
}
