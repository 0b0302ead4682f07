// Webhooks: endpoints that the broker calls with each record, how they answer, and which of them have stopped.

import { useState } from "../vendor/preact-hooks.js";
import { CopyButton, Notice, Trouble, html, say, useSignal, useTick } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { groupHash, topicHash, webhookHash } from "../lib/place.js";
import { usePolled } from "../lib/poll.js";
import { POLL_MS, answerOf, answersInWords, isGood, reasonWords, stateOf } from "../lib/webhooks.js";
import { CreateWebhook } from "./webhookform.js";

const ROWS_MAX = 200;
const ORDER = ["disabled", "paused", "active"];

export function Webhooks({ connection }) {
  const opened = useSignal(connection.opened);
  const { value: list, error, askAgain } = usePolled(api.listWebhooks, opened, POLL_MS);
  const [isCreating, setCreating] = useState(false);
  const [made, setMade] = useState(null);
  useKeys({ n: ["New webhook", () => setCreating(true)] });
  const created = (webhook) => {
    setCreating(false);
    setMade(webhook.secret ? webhook : null);
    askAgain();
  };
  const waiting = error ? null : html`<p class="nothing">Reading the list…</p>`;
  return html`
    <div class="board-head">
      <h1>Webhooks</h1>
      ${list && list.length > 0 ? html`<p class="sums">${ORDER.map((state) => html`<${StateSum} key=${state} list=${list} state=${state} />`)}</p>` : null}
      <div class="board-tools"><button type="button" class="primary" onClick=${() => setCreating(true)}>New webhook</button></div>
    </div>
    ${isCreating ? html`<${CreateWebhook} onCreated=${created} onClose=${() => setCreating(false)} />` : null}
    ${made ? html`<${Secret} webhook=${made} onClose=${() => setMade(null)} />` : null}
    <${Notice} title="Called for each record" id="webhooks-title" className="flush">
      <${Trouble} error=${error} />
      ${list === null ? waiting : list.length === 0 ? html`<${None} />` : html`<${Table} list=${list} onChanged=${askAgain} />`}
    </${Notice}>`;
}

function StateSum({ list, state }) {
  const number = list.filter((one) => one.state === state).length;
  return number === 0 ? null : html`<span><b>${format.count(number)}</b> ${state}</span>`;
}

const None = () => html`
  <p class="nothing">No endpoint is called yet. A webhook is a member of a shared group that is an HTTP endpoint: it is called with each record of a
    topic, signed, tried again when it fails, and what it never takes goes to the dead letters.</p>`;

/** The secret of a webhook that was just made: the only time that it is shown. */
function Secret({ webhook, onClose }) {
  return html`
    <${Notice} title="Keep this secret now" id="secret-title" className="create secret" aside=${html`<button type="button" class="small" onClick=${onClose}>I have it</button>`}>
      <p>Every call to <span class="mono url">${webhook.url}</span> is signed with it, as Standard Webhooks has it. It is not shown again.</p>
      <p class="secret-line"><code id="secret">${webhook.secret}</code> <${CopyButton} text=${webhook.secret} what="secret" /></p>
    </${Notice}>`;
}

function Table({ list, onChanged }) {
  useTick(1000);
  const now = Date.now();
  const sorted = list.slice().sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || (a.url < b.url ? -1 : 1));
  return html`
    <table class="webhooks">
      <thead><tr>
        <th scope="col">Endpoint</th><th scope="col">State</th><th scope="col">Last answers</th><th scope="col" class="number">Taken</th><th scope="col" class="number">Failed</th>
        <th scope="col"><span class="unseen">Switch</span></th>
      </tr></thead>
      <tbody>${sorted.slice(0, ROWS_MAX).map((one) => html`<${Row} key=${one.id} one=${one} now=${now} onChanged=${onChanged} />`)}</tbody>
    </table>
    ${list.length > ROWS_MAX ? html`<p class="nothing">${ROWS_MAX} of ${format.count(list.length)} webhooks are shown.</p>` : null}`;
}

/** Switches a webhook on or off, and says what came of it. */
export async function turn(webhook, isOn) {
  try {
    await (isOn ? api.enableWebhook(webhook.id) : api.disableWebhook(webhook.id));
    say(isOn ? "Enabled. What waited is delivered now." : "Disabled. Its records wait in the group.");
  } catch (problem) {
    say(problem.message, "bad");
  }
}

export function State({ webhook, now }) {
  const tone = { disabled: "tag-bad", paused: "tag-warn", active: "tag-good" }[webhook.state] ?? "";
  return html`<span class=${`tag ${tone}`} data-state=${webhook.state}>${stateOf(webhook, now)}</span>`;
}

function Row({ one, now, onChanged }) {
  const isOff = one.state === "disabled";
  const flip = () => turn(one, isOff).then(onChanged);
  return html`
    <tr data-webhook=${one.id}>
      <th scope="row"><a class="url" href=${webhookHash(one.id)}>${one.url}</a>
        <span class="client"><a href=${topicHash(one.topic)}>${one.topic}</a> by group <a href=${groupHash(one.topic, one.group)}>${one.group}</a></span></th>
      <td data-label="State" class="hook-state"><${State} webhook=${one} now=${now} />${isOff ? html`<span class="client">${reasonWords(one.disabled_reason)}</span>` : null}</td>
      <td data-label="Last answers"><${Answers} answers=${one.answers ?? []} /></td>
      <td data-label="Taken" class="number">${format.count(one.succeeded)}</td>
      <td data-label="Failed" class="number">${format.count(one.failed)}</td>
      <td class="row-end"><button type="button" class="quiet small" aria-label=${`${isOff ? "Enable" : "Disable"} ${one.url}`} onClick=${flip}>${isOff ? "Enable" : "Disable"}</button></td>
    </tr>`;
}

/** The last answers as a row of pegs, the newest on the right. */
export function Answers({ answers }) {
  if (answers.length === 0) return html`<span class="faint">none yet</span>`;
  return html`
    <span class="pegs" role="img" aria-label=${answersInWords(answers)}>
      ${answers.slice().reverse().map((one) => html`<span class=${isGood(one) ? "peg" : "peg peg-bad"} title=${`${answerOf(one)}, ${format.span(one.duration_ms)}, ${format.moment(Date.parse(one.at))}`}></span>`)}
    </span>`;
}
