// Routing: the picture of exchanges and topics, where a key would go, the bindings of one exchange, and what nothing matched lately.

import { useMemo, useState } from "../vendor/preact-hooks.js";
import { Notice, Rate, Snippet, Trouble, html, useSignal } from "../lib/ui.js";
import * as format from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { routingHash } from "../lib/place.js";
import { litBy, useDryRun, useRouting } from "../lib/routing.js";
import { Bindings } from "./bindings.js";
import { DryRun } from "./dryrun.js";
import { CreateExchange, DeleteExchange } from "./exchange.js";
import { Publish } from "./publish.js";
import { RoutingMap } from "./routingmap.js";
import { Unroutable } from "./unroutable.js";

export function Routing({ connection, asked, go }) {
  const opened = useSignal(connection.opened);
  const routing = useRouting(opened);
  const [isCreating, setCreating] = useState(false);
  const [doomed, setDoomed] = useState(null);
  useKeys({
    n: ["New exchange", () => setCreating(true)],
    "/": ["Try a routing key", () => document.querySelector("#dry-run-key")?.focus()],
  });
  const { value, error, askAgain } = routing;
  const created = (exchange) => {
    setCreating(false);
    askAgain();
    go(routingHash(exchange.name));
  };
  const deleted = () => {
    setDoomed(null);
    askAgain();
    go("#/routing", true);
  };
  const create = isCreating ? html`<${CreateExchange} exchanges=${value?.exchanges ?? []} onCreated=${created} onClose=${() => setCreating(false)} />` : null;
  return html`
    <${Head} value=${value} onCreate=${() => setCreating(true)} />
    ${value === null && !error ? html`<p class="on-board-text">Reading the board…</p>` : null}
    ${error ? html`<${Notice} title="No answer"><${Trouble} error=${error} /><p>The page goes on trying.</p></${Notice}>` : null}
    ${create}
    ${value === null ? null : value.exchanges.length === 0 ? html`<${None} onCreate=${() => setCreating(true)} />`
      : html`<${Board} connection=${connection} value=${value} asked=${asked} go=${go} askAgain=${askAgain} onDelete=${setDoomed} />`}
    ${value?.exchanges.length === 0 && value.unroutable.length > 0 ? html`<${Unroutable} list=${value.unroutable} />` : null}
    <${DeleteExchange} exchange=${doomed} onClose=${() => setDoomed(null)} onDeleted=${deleted} />`;
}

const sum = (list, of) => list.reduce((total, one) => total + of(one), 0);

function Head({ value, onCreate }) {
  const list = value?.exchanges ?? [];
  const lost = sum(list, (one) => one.unroutable);
  return html`
    <div class="board-head">
      <h1>Routing</h1>
      ${list.length === 0 ? null : html`
        <p class="sums">
          <span><b>${format.count(list.length)}</b> ${list.length === 1 ? "exchange" : "exchanges"}</span>
          <span><b>${format.count(sum(list, (one) => one.count))}</b> bindings</span>
          <span><b><${Rate} value=${sum(list, (one) => one.rates?.publishes_per_s ?? 0)} /></b> routed</span>
          ${lost > 0 ? html`<span><b id="unroutable-sum">${format.count(lost)}</b> unroutable</span>` : null}
        </p>`}
      <div class="board-tools"><button type="button" class="primary" onClick=${onCreate}>New exchange</button></div>
    </div>`;
}

/** What is looked at first: an exchange that nothing leads to. */
function firstOf(exchanges) {
  const inner = new Set(exchanges.flatMap((one) => [one.alternate, ...one.bindings.map((binding) => binding.exchange)]));
  return exchanges.find((one) => !inner.has(one.name)) ?? exchanges[0];
}

function Board({ connection, value, asked, go, askAgain, onDelete }) {
  const { exchanges, unroutable } = value;
  const chosen = exchanges.find((one) => one.name === asked) ?? (asked === null ? firstOf(exchanges) : null);
  const choose = (name) => go(routingHash(name), true);
  const [key, setKey] = useState(null);
  const run = useDryRun(chosen?.name ?? null, key, value);
  const lit = useMemo(() => litBy(run), [run]);
  return html`
    ${chosen === null ? html`<${Missing} name=${asked} />` : null}
    <${RoutingMap} exchanges=${exchanges} chosen=${chosen?.name ?? null} lit=${lit} tookAlternate=${run?.answer?.alternate === true} onChoose=${choose}>
      <${DryRun} exchanges=${exchanges} chosen=${chosen} keyTyped=${key} onKey=${setKey} run=${run} onChoose=${choose} />
    </${RoutingMap}>
    <div class="topic-grid">
      <div class="topic-main">
        ${chosen === null ? null : html`<${Bindings} key=${chosen.name} exchange=${chosen} exchanges=${exchanges} onChanged=${askAgain} onDelete=${() => onDelete(chosen)} />`}
        <${Unroutable} list=${unroutable} />
      </div>
      <div class="topic-side">
        ${chosen === null ? null : html`<${Publish} key=${chosen.name} connection=${connection} topic=${null} exchange=${chosen.name} go=${go} />`}
      </div>
    </div>`;
}

const Missing = ({ name }) => html`
  <${Notice} title="There is no such exchange" className="slim">
    <p><code>${name}</code> was deleted, or it has not been made yet.</p>
  </${Notice}>`;

/** How to route, typed into the console of any page that may connect. */
const snippet = () => `const ws = new WebSocket("${new URL(".", location.href.split("#")[0]).href.replace(/^http/, "ws")}ws");
const send = (frame) => ws.send(JSON.stringify(frame));
ws.onmessage = (event) => console.log(event.data);
ws.onopen = () => {
  send({ type: "declare", id: 1, exchange: "readings", kind: "topic" });
  send({ type: "bind", id: 2, exchange: "readings",
         topic: "plant", routing_key: "plant.#" });
  send({ type: "publish", id: 3, exchange: "readings",
         routing_key: "plant.boiler.temp", payload: 21.5 });
};`;

function None({ onCreate }) {
  return html`
    <div class="columns">
      <${Notice} title="No exchange yet">
        <p>A publisher that names a topic reaches that topic. One that names an <em>exchange</em> and a routing key reaches every topic that is bound
          to it and matches: all of them, or none at all.</p>
        <p class="actions"><button type="button" class="primary large" onClick=${onCreate}>Make an exchange</button></p>
      </${Notice}>
      <${Notice} title="In a browser console">
        <${Snippet} title="An exchange, a binding, a publish" text=${snippet()} />
      </${Notice}>
    </div>`;
}
