// The form for a new webhook.

import { useEffect, useRef, useState } from "../vendor/preact-hooks.js";
import { Notice, Trouble, html, say, useSignal } from "../lib/ui.js";
import * as api from "../lib/api.js";
import { isInternal, refresh, topics } from "../lib/topics.js";
import { FORMATS, urlFault } from "../lib/webhooks.js";

const EMPTY = { url: "", topic: "", group: "push", format: "message", concurrency: "", timeout: "", secret: "" };

const bodyOf = (form) => ({
  topic: form.topic,
  group: form.group,
  url: form.url,
  format: form.format,
  concurrency: form.concurrency === "" ? undefined : Number(form.concurrency),
  timeout_ms: form.timeout === "" ? undefined : Math.round(Number(form.timeout) * 1000),
  secret: form.secret === "" ? undefined : form.secret,
});

export function CreateWebhook({ onCreated, onClose }) {
  const { list } = useSignal(topics);
  const [form, setForm] = useState(EMPTY);
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const [isTried, setTried] = useState(false);
  const first = useRef(null);
  useEffect(() => first.current.focus(), []);
  const set = (field) => (event) => setForm((now) => ({ ...now, [field]: event.target.value }));
  const fault = urlFault(form.url);
  const submit = async (event) => {
    event.preventDefault();
    setTried(true);
    if (fault) return first.current.focus();
    setBusy(true);
    setError(null);
    try {
      const webhook = await api.createWebhook(bodyOf(form));
      say("The webhook is on the board.");
      refresh();
      onCreated(webhook);
    } catch (problem) {
      setError(problem);
      setBusy(false);
    }
  };
  return html`
    <${Notice} title="New webhook" className="create" aside=${html`<button type="button" class="quiet small" onClick=${onClose}>Cancel</button>`}>
      <form onSubmit=${submit} onKeyDown=${(event) => event.key === "Escape" && onClose()}>
        <label class="field">URL
          <input ref=${first} class="mono" name="url" type="text" inputmode="url" value=${form.url} onInput=${set("url")} autocomplete="off" spellcheck=${false} autocapitalize="off"
            placeholder="https://example.com/hook" aria-invalid=${isTried && fault !== null} aria-describedby="url-fault" />
          <small id="url-fault" class=${isTried && fault ? "bad" : ""}>${isTried && fault ? fault : "It is called with POST for each record, and 2xx means that it is done."}</small></label>
        <div class="fields">
          <label class="field">Topic
            <input class="mono" name="topic" list="hook-topics" required value=${form.topic} onInput=${set("topic")} autocomplete="off" spellcheck=${false} autocapitalize="off" placeholder="orders" />
            <small>Made if it is not there.</small></label>
          <label class="field">Group
            <input class="mono" name="group" required value=${form.group} onInput=${set("group")} autocomplete="off" spellcheck=${false} autocapitalize="off" />
            <small>Its members share the records.</small></label>
        </div>
        <datalist id="hook-topics">${(list ?? []).filter((one) => !isInternal(one)).slice(0, 300).map((one) => html`<option key=${one.name} value=${one.name}></option>`)}</datalist>
        <fieldset class="choices">
          <legend>What it is sent</legend>
          ${FORMATS.map(([value, meaning]) => html`
            <label key=${value} class="choice">
              <input type="radio" name="format" value=${value} checked=${form.format === value} onChange=${set("format")} />
              <span><b>${value}</b> ${meaning}</span>
            </label>`)}
        </fieldset>
        <details class="more"><summary>More</summary>
          <div class="fields">
            <label class="field">Calls at the same time <input type="number" name="concurrency" min="1" max="100" placeholder="1" value=${form.concurrency} onInput=${set("concurrency")} /></label>
            <label class="field">Seconds for an answer <input type="number" name="timeout" min="0.1" max="300" step="any" placeholder="10" value=${form.timeout} onInput=${set("timeout")} /></label>
            <label class="field grow">Secret <input class="mono" name="secret" placeholder="made by the broker" value=${form.secret} onInput=${set("secret")} autocomplete="off" spellcheck=${false} autocapitalize="off" /></label>
          </div>
        </details>
        <${Trouble} error=${error} />
        <p class="actions"><button class="primary" disabled=${isBusy}>Create webhook</button></p>
      </form>
    </${Notice}>`;
}
