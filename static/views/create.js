// The form for a new topic. What is left empty is left to the broker's defaults.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { Notice, Trouble, html, say } from "../lib/ui.js";
import * as api from "../lib/api.js";

const DURABILITIES = [
  ["fsync", "Flushed to disk before it counts. Survives a power cut."],
  ["os", "Handed to the system. Survives a killed broker, not a power cut."],
  ["memory", "Fastest. A restart forgets it."],
];

const TIMES = [["minutes", 60000], ["hours", 3600000], ["days", 86400000]];
const SIZES = [["KiB", 1024], ["MiB", 1 << 20], ["GiB", 1 << 30]];

/** What is wrong with the name of a topic or of `what` else, in words, or null. */
export function nameFault(name, what = "A topic") {
  if (name === "") return `${what} needs a name.`;
  if (!/^[A-Za-z0-9._-]+$/.test(name)) return "Letters, digits, and . _ - only.";
  if (name.split(".").includes("")) return "A dot stands between two words.";
  return name.length > 255 ? "At most 255 characters." : null;
}

/** A number with a unit; `value` is `{amount, unit}` with the amount as typed. */
function Quantity({ label, hint, units, value, onChange }) {
  return html`
    <fieldset class="quantity">
      <legend>${label}</legend>
      <input type="number" min="1" step="any" inputmode="decimal" placeholder=${hint} aria-label=${label} value=${value.amount}
        onInput=${(event) => onChange({ ...value, amount: event.target.value })} />
      <select aria-label=${`Unit of ${label.toLowerCase()}`} value=${value.unit} onChange=${(event) => onChange({ ...value, unit: event.target.value })}>
        ${units.map(([unit]) => html`<option key=${unit}>${unit}</option>`)}
      </select>
    </fieldset>`;
}

const inUnits = ({ amount, unit }, units) => (amount === "" ? undefined : Math.round(Number(amount) * units.find(([name]) => name === unit)[1]));
const inNumber = (text) => (text === "" ? undefined : Number(text));

function configOf(form) {
  const config = {
    name: form.name,
    partitions: inNumber(form.partitions),
    durability: form.durability,
    retention_ms: inUnits(form.keepTime, TIMES),
    retention_bytes: inUnits(form.keepBytes, SIZES),
    ttl_ms: inUnits(form.ttl, TIMES),
    dedup_window_ms: inNumber(form.dedup),
    records_max: inNumber(form.recordsMax),
    silent_after_ms: inUnits(form.silent, TIMES),
    temporary: form.temporary ? true : undefined,
  };
  if (config.records_max !== undefined) config.when_full = form.whenFull;
  return config;
}

const EMPTY = {
  name: "", partitions: "1", durability: "fsync", dedup: "", recordsMax: "", whenFull: "refuse",
  keepTime: { amount: "", unit: "days" }, keepBytes: { amount: "", unit: "MiB" }, ttl: { amount: "", unit: "minutes" },
  silent: { amount: "", unit: "minutes" }, temporary: false,
};

export function CreateTopic({ onCreated, onClose }) {
  const [form, setForm] = useState(EMPTY);
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const first = useRef(null);
  useEffect(() => first.current.focus(), []);
  const set = (field) => (value) => setForm((now) => ({ ...now, [field]: value?.target ? value.target.value : value }));
  const fault = nameFault(form.name);
  const submit = async (event) => {
    event.preventDefault();
    if (fault) return first.current.focus();
    setBusy(true);
    setError(null);
    try {
      const topic = await api.createTopic(configOf(form));
      say(`${form.name} is on the board.`);
      onCreated(topic ?? { name: form.name });
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };
  const isNameTaken = error?.code === "topic_exists";
  return html`
    <${Notice} title="New topic" className="create" aside=${html`<button type="button" class="quiet small" onClick=${onClose}>Cancel</button>`}>
      <form onSubmit=${submit} onKeyDown=${(event) => event.key === "Escape" && onClose()} novalidate>
        <div class="fields">
          <label class="field grow">Name
            <input ref=${first} class="mono" name="name" value=${form.name} onInput=${set("name")} autocomplete="off" spellcheck=${false} autocapitalize="off"
              placeholder="orders.eu" aria-invalid=${isNameTaken || (form.name !== "" && fault !== null)} aria-describedby="name-fault" />
            <small id="name-fault" class=${isNameTaken || (form.name && fault) ? "bad" : ""}>
              ${isNameTaken ? "A topic of this name is there already." : form.name && fault ? fault : "Words split by dots, so that a pattern can follow many."}</small>
          </label>
          <label class="field narrow">Partitions
            <input type="number" name="partitions" min="1" max="1024" step="1" value=${form.partitions} onInput=${set("partitions")} />
            <small>1 keeps one order</small>
          </label>
        </div>
        <fieldset class="choices">
          <legend>Durability</legend>
          ${DURABILITIES.map(([value, meaning]) => html`
            <label key=${value} class="choice">
              <input type="radio" name="durability" value=${value} checked=${form.durability === value} onChange=${set("durability")} />
              <span><b>${value}</b> ${meaning}</span>
            </label>`)}
        </fieldset>
        <div class="fields">
          <${Quantity} label="Keep for" hint="for ever" units=${TIMES} value=${form.keepTime} onChange=${set("keepTime")} />
          <${Quantity} label="Keep a partition below" hint=${form.durability === "memory" ? "64 MiB" : "no limit"} units=${SIZES} value=${form.keepBytes} onChange=${set("keepBytes")} />
        </div>
        <details class="more"><summary>More</summary><${More} form=${form} set=${set} /></details>
        ${isNameTaken ? null : html`<${Trouble} error=${error} />`}
        <p class="actions"><button class="primary" disabled=${isBusy}>Create topic</button></p>
      </form>
    </${Notice}>`;
}

function More({ form, set }) {
  return html`
    <div class="fields">
      <${Quantity} label="A record lives for" hint="no end" units=${TIMES} value=${form.ttl} onChange=${set("ttl")} />
      <label class="field">Repeats are recognised for (ms)
        <input type="number" min="0" placeholder="120000" value=${form.dedup} onInput=${set("dedup")} />
      </label>
      <label class="field">Unfinished records at most
        <input type="number" min="1" placeholder="no limit" value=${form.recordsMax} onInput=${set("recordsMax")} />
      </label>
      <label class="field">When it is full
        <select value=${form.whenFull} onChange=${set("whenFull")}>
          <option value="refuse">refuse the publisher</option><option value="wait">let the publisher wait</option>
        </select>
      </label>
      <${Quantity} label="Tell when silent for" hint="never" units=${TIMES} value=${form.silent} onChange=${set("silent")} />
      <label class="choice lone-choice"><input type="checkbox" name="temporary" checked=${form.temporary} onChange=${(event) => set("temporary")(event.target.checked)} />
        <span><b>temporary</b> Deleted when its last subscriber goes.</span></label>
    </div>`;
}
