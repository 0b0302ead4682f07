// Making an exchange, and deleting one.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { Dialog, Notice, Trouble, html, say } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { nameFault } from "./create.js";

const KINDS = [
  ["topic", "Keys are words split by dots, and a binding may leave some open: plant.*.temp, plant.#"],
  ["direct", "A binding matches exactly its own key."],
  ["fanout", "Everything goes to everything that is bound."],
];

export function CreateExchange({ exchanges, onCreated, onClose }) {
  const [form, setForm] = useState({ name: "", type: "topic", alternate: "" });
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const first = useRef(null);
  useEffect(() => first.current.focus(), []);
  const set = (field) => (event) => setForm((now) => ({ ...now, [field]: event.target.value }));
  const fault = nameFault(form.name, "An exchange");
  const submit = async (event) => {
    event.preventDefault();
    if (fault) return first.current.focus();
    setBusy(true);
    setError(null);
    try {
      const exchange = await api.createExchange({ name: form.name, type: form.type, alternate: form.alternate === "" ? undefined : form.alternate });
      say(`${form.name} is on the board. Bind something to it.`);
      onCreated(exchange);
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  const isNameTaken = error?.status === 409;
  const wrong = isNameTaken ? "An exchange of this name is there already." : form.name !== "" && fault ? fault : null;
  return html`
    <${Notice} title="New exchange" className="create" aside=${html`<button type="button" class="quiet small" onClick=${onClose}>Cancel</button>`}>
      <form onSubmit=${submit} onKeyDown=${(event) => event.key === "Escape" && onClose()} novalidate>
        <div class="fields">
          <label class="field grow">Name
            <input ref=${first} class="mono" name="name" value=${form.name} onInput=${set("name")} autocomplete="off" spellcheck=${false} autocapitalize="off" placeholder="readings"
              aria-invalid=${wrong !== null} aria-describedby="exchange-fault" />
            <small id="exchange-fault" class=${wrong ? "bad" : ""}>${wrong ?? "Publishers name it instead of a topic."}</small></label>
          <label class="field">What nothing matches
            <select name="alternate" value=${form.alternate} onChange=${set("alternate")}>
              <option value="">is refused</option>
              ${exchanges.map((one) => html`<option key=${one.name} value=${one.name}>goes to ${one.name}</option>`)}
            </select></label>
        </div>
        <fieldset class="choices">
          <legend>Kind</legend>
          ${KINDS.map(([value, meaning]) => html`
            <label key=${value} class="choice">
              <input type="radio" name="type" value=${value} checked=${form.type === value} onChange=${set("type")} />
              <span><b>${value}</b> ${meaning}</span>
            </label>`)}
        </fieldset>
        ${isNameTaken ? null : html`<${Trouble} error=${error} />`}
        <p class="actions"><button class="primary" disabled=${isBusy}>Create exchange</button></p>
      </form>
    </${Notice}>`;
}

export function DeleteExchange({ exchange, onClose, onDeleted }) {
  const [error, setError] = useState(null);
  const remove = async () => {
    setError(null);
    try {
      await api.deleteExchange(exchange.name);
    } catch (problem) {
      if (problem.status !== 404) {
        setError(problem);
        return;
      }
    }
    say(`${exchange.name} is deleted.`);
    onDeleted();
  };
  return html`
    <${Dialog} isOpen=${exchange !== null} onClose=${onClose} title=${`Delete ${exchange?.name ?? ""}?`}>
      <p>${exchange && exchange.count > 0 ? html`Its ${format.plural(exchange.count, "binding")} ${exchange.count === 1 ? "goes" : "go"} with it. ` : ""}The
        topics stay, with all their records. Who publishes to it then is refused.</p>
      <${Trouble} error=${error} />
      <p class="actions">
        <button type="button" class="danger" onClick=${remove}>Delete the exchange</button>
        <button type="button" class="quiet" onClick=${onClose}>Keep it</button>
      </p>
    </${Dialog}>`;
}
