// The bindings of one exchange: what goes where, how much of it, and one more.

import { useState } from "../vendor/preact-hooks.js";
import { Notice, Rate, Trouble, html, say, useSignal } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { routingHash, topicHash } from "../lib/place.js";
import { topics } from "../lib/topics.js";

/** Rows drawn at once. */
const ROWS_MAX = 300;

const HINTS = {
  topic: "* stands for one word, # for any number of them: plant.*.temp, plant.#",
  direct: "Only a publish with exactly this key is matched.",
  fanout: "A fanout exchange sends everything everywhere, whatever the key.",
};

export function Bindings({ exchange, exchanges, onChanged, onDelete }) {
  const [error, setError] = useState(null);
  const [filter, setFilter] = useState("");
  const remove = async (binding) => {
    setError(null);
    try {
      await api.unbind(exchange.name, binding.id);
    } catch (problem) {
      if (problem.status !== 404) setError(problem);
    }
    onChanged();
  };
  const wanted = filter.toLowerCase();
  const found = exchange.bindings.filter((one) => `${one.routing_key} ${one.topic ?? one.exchange}`.toLowerCase().includes(wanted));
  const tools = html`
    <div class="tools">
      ${exchange.bindings.length > 10 ? html`<input type="search" placeholder="Find a binding" aria-label="Find a binding" value=${filter} onInput=${(event) => setFilter(event.target.value)} />` : null}
      <button type="button" class="quiet small" onClick=${onDelete}>Delete ${exchange.name}</button>
    </div>`;
  return html`
    <${Notice} title=${exchange.name} id="exchange-title" className="flush" aside=${tools}>
      <p class="groups-none faint"><b>${exchange.type}</b> exchange, ${format.plural(exchange.count, "binding")}.${" "}
        ${exchange.alternate ? html`What nothing matches goes to <a href=${routingHash(exchange.alternate)}>${exchange.alternate}</a>.` : "What nothing matches is refused as unroutable."}</p>
      <${Bind} exchange=${exchange} exchanges=${exchanges} onBound=${onChanged} />
      <${Trouble} error=${error} />
      ${exchange.isTooMany ? html`<p class="nothing">Too many to list here. The dry run tells where a key goes.</p>`
        : exchange.count === 0 ? html`<p class="nothing">Bound to nothing yet.</p>` : html`<${Table} list=${found.slice(0, ROWS_MAX)} kind=${exchange.type} onRemove=${remove} />`}
      ${found.length > ROWS_MAX ? html`<p class="nothing">${ROWS_MAX} of ${format.count(found.length)} bindings are shown.</p>` : null}
    </${Notice}>`;
}

function Table({ list, kind, onRemove }) {
  return html`
    <div class="bindings-scroll">
    <table class="bindings">
      <thead><tr>
        <th scope="col">Routing key</th><th scope="col">To</th><th scope="col" class="number">Through</th><th scope="col"><span class="unseen">Unbind</span></th>
      </tr></thead>
      <tbody>${list.map((one) => html`
        <tr key=${one.id} data-binding=${one.id}>
          <td class="routing-key">${one.routing_key === "" ? html`<span class="faint">${kind === "fanout" ? "every key" : "the empty key"}</span>` : html`<code>${one.routing_key}</code>`}</td>
          <td class="where">${one.topic === undefined ? html`<a href=${routingHash(one.exchange)}>${one.exchange}</a> <span class="tag">exchange</span>` : html`<a href=${topicHash(one.topic)}>${one.topic}</a>`}</td>
          <td class="number"><${Rate} value=${one.rates?.publishes_per_s ?? null} /></td>
          <td class="row-end"><button type="button" class="quiet small" aria-label=${`Unbind ${one.topic ?? one.exchange} from ${one.routing_key || "the empty key"}`}
            onClick=${() => onRemove(one)}>Unbind</button></td>
        </tr>`)}
      </tbody>
    </table>
    </div>`;
}

function Bind({ exchange, exchanges, onBound }) {
  const { list } = useSignal(topics);
  const [form, setForm] = useState({ kind: "topic", to: "", key: "" });
  const [error, setError] = useState(null);
  const set = (field) => (event) => setForm((now) => ({ ...now, [field]: event.target.value }));
  const others = exchanges.filter((one) => one.name !== exchange.name);
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    try {
      await api.bind(exchange.name, { [form.kind]: form.to, routing_key: form.key });
      say(`${form.to} is bound to ${exchange.name}.`);
      setForm((now) => ({ ...now, to: "", key: "" }));
      onBound();
    } catch (problem) {
      setError(problem);
    }
  };
  const isTopic = form.kind === "topic";
  return html`
    <form class="bind-form" onSubmit=${submit}>
      <div class="fields">
        ${exchange.type === "fanout" ? null : html`
          <label class="field grow">Routing key
            <input class="mono" name="routing_key" value=${form.key} onInput=${set("key")} placeholder=${exchange.type === "topic" ? "plant.#" : "eu"} autocomplete="off" autocapitalize="off" spellcheck=${false} /></label>`}
        <label class="field narrow">To a
          <select name="kind" value=${form.kind} onChange=${(event) => setForm((now) => ({ ...now, kind: event.target.value, to: "" }))}>
            <option value="topic">topic</option><option value="exchange" disabled=${others.length === 0}>exchange</option></select></label>
        <label class="field grow">${isTopic ? "Topic" : "Exchange"}
          ${isTopic ? html`<input class="mono" name="to" list="topic-names" required value=${form.to} onInput=${set("to")} placeholder="made if it is not there" autocomplete="off" autocapitalize="off" spellcheck=${false} />`
            : html`<select name="to" required value=${form.to} onChange=${set("to")}><option value="">choose one</option>
              ${others.map((one) => html`<option key=${one.name} value=${one.name}>${one.name}</option>`)}</select>`}</label>
        <button class="primary">Bind</button>
      </div>
      <datalist id="topic-names">${(list ?? []).filter((one) => !one.name.startsWith("$")).slice(0, 300).map((one) => html`<option key=${one.name} value=${one.name}></option>`)}</datalist>
      <p class="faint"><small>${HINTS[exchange.type]}</small></p>
      <${Trouble} error=${error} />
    </form>`;
}
