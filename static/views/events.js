// What happens in the broker, live: who came and went, what was made, what has stopped.

import { useState } from "../vendor/preact-hooks.js";
import { Notice, html, useSignal, useTick } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { KINDS, TOPIC, brief, isOfKind, useEvents } from "../lib/events.js";
import { topicHash } from "../lib/place.js";

/** Events that are read back when the page opens. */
const BACK = 50;
const LATELY_SHOWN = 5;
const SHOWN_MAX = 300;

const WORDS = {
  starting: "Subscribing…",
  waiting: "The connection is away. It goes on where it stopped.",
  missing: "This broker keeps no events.",
  ended: "The broker has ended this subscription.",
};

const stateWords = (state) => (state.phase === "refused" ? state.error.message : WORDS[state.phase]);

export function Events({ connection }) {
  const events = useEvents(connection, BACK);
  useSignal(events.version);
  const state = useSignal(events.state);
  useTick(10000);
  const [kind, setKind] = useState("");
  const found = events.list.filter((one) => isOfKind(one, kind)).slice(0, SHOWN_MAX);
  const tools = html`
    <label class="field-inline">Show <select value=${kind} onChange=${(event) => setKind(event.target.value)}>
      <option value="">everything</option>
      ${Object.keys(KINDS).map((one) => html`<option key=${one}>${one}</option>`)}
    </select></label>`;
  return html`
    <div class="board-head">
      <h1>Events</h1>
      <p class="sums"><span>what <a class="on-board-link" href=${topicHash(TOPIC)}>${TOPIC}</a> says; any client can subscribe to it</span></p>
    </div>
    <${Notice} title="As it happens" id="events-title" className="flush" aside=${tools}>
      ${state.phase === "live" ? null : html`<p class="nothing" role="status">${stateWords(state)}</p>`}
      ${found.length === 0 && state.phase === "live" ? html`<p class="nothing">${kind === "" ? "Nothing has happened yet." : "Nothing of this kind lately."}</p>` : null}
      <ol class="events" id="events">${found.map((one) => html`<${Event} key=${one.id} one=${one} />`)}</ol>
    </${Notice}>`;
}

const Part = ({ part }) => (typeof part === "string" ? part : part.href ? html`<a href=${part.href}>${part.text}</a>` : html`<code>${part.code}</code>`);

function Event({ one }) {
  return html`
    <li class=${one.isGrave ? "grave" : ""} data-event=${one.name}>
      <time class="event-time" datetime=${new Date(one.at).toISOString()} title=${format.moment(one.at)}>${format.day(one.at)}</time>
      <span class="event-words">${one.words.map((part) => html`<${Part} part=${part} />`)}</span>
      <span class="event-ago faint">${format.ago(one.at)}</span>
    </li>`;
}

/** The newest few, on the overview. */
export function Lately({ connection }) {
  const events = useEvents(connection, BACK);
  useSignal(events.version);
  useTick(10000);
  const shown = brief(events.list, LATELY_SHOWN);
  if (shown.length === 0) return null;
  return html`
    <${Notice} title="Lately" id="lately-title" className="flush" aside=${html`<a href="#/events">All events</a>`}>
      <ol class="events" id="lately">${shown.map((one) => html`<${Event} key=${one.id} one=${one} />`)}</ol>
    </${Notice}>`;
}
