// A dry run: where a routing key would go. Nothing is published; the picture lights up what it would pass.

import { Trouble, html } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { topicHash } from "../lib/place.js";

/** `keyTyped` is null while nothing is asked; `run` as of `useDryRun`. */
export function DryRun({ exchanges, chosen, keyTyped, onKey, run, onChoose }) {
  const submit = (event) => {
    event.preventDefault();
    onKey(keyTyped ?? "");
  };
  const escape = (event) => {
    if (event.key === "Escape") onKey(null);
  };
  return html`
    <form class="look dry-run" onSubmit=${submit} onKeyDown=${escape}>
      <label>Where would <input id="dry-run-key" class="mono" aria-label="Routing key to try" value=${keyTyped ?? ""} onInput=${(event) => onKey(event.target.value)}
        placeholder="a routing key" autocomplete="off" autocapitalize="off" spellcheck=${false} /></label>
      <label>go through <select aria-label="Exchange to try it through" value=${chosen?.name ?? ""} onChange=${(event) => onChoose(event.target.value)}>
        ${chosen ? null : html`<option value="">an exchange</option>`}
        ${exchanges.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}
      </select>?</label>
      ${keyTyped === null ? html`<button class="small" disabled=${chosen === null} title="Nothing is published">Try it</button>`
        : html`<button type="button" class="small" onClick=${() => onKey(null)}>Clear</button>`}
      <div id="reached" class="reached" aria-live="polite"><${Reached} run=${run} /></div>
    </form>`;
}

const shownKey = (key) => (key === "" ? "The empty key" : html`<code>${key}</code>`);

function Reached({ run }) {
  if (run === null) return null;
  if (run.error) return html`<${Trouble} error=${run.error} />`;
  const { routes, exchanges, alternate } = run.answer;
  const passed = (exchanges ?? []).filter((name) => name !== run.exchange);
  const way = passed.length === 0 ? null : html` <span class="faint">By way of ${passed.join(", ")}${alternate ? ", because nothing matched and that is the alternate." : "."}</span>`;
  if (routes.length === 0) {
    return html`<p><b>${shownKey(run.key)} reaches nothing.</b> <span class="faint">Such a publish is refused as <code>unroutable</code>, and stores nothing.</span>${way}</p>`;
  }
  return html`
    <p><b>${shownKey(run.key)} reaches ${format.plural(routes.length, "topic")}.</b>${way}</p>
    <ul>${routes.map(({ topic }) => html`<li key=${topic}><a href=${topicHash(topic)}>${topic}</a></li>`)}</ul>`;
}
