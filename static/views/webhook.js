// One webhook: its state, what it answered lately, and how it is called.

import { useState } from "../vendor/preact-hooks.js";
import { Dialog, Notice, Trouble, html, say, useSignal, useTick } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { groupHash, recordHash, topicHash } from "../lib/place.js";
import { usePolled } from "../lib/poll.js";
import { POLL_MS, answerOf, isGood, reasonWords } from "../lib/webhooks.js";
import { State, turn } from "./webhooks.js";

export function Webhook({ connection, id, go }) {
  const opened = useSignal(connection.opened);
  const { value: webhook, error, askAgain } = usePolled(() => api.getWebhook(id), opened, POLL_MS);
  if (error?.status === 404) {
    return html`<${Head} title=${id} /><${Notice} title="There is no such webhook" className="slim"><p>It was deleted. <a href="#/webhooks">All webhooks</a></p></${Notice}>`;
  }
  if (webhook === null) return html`<${Head} title=${id} /><p class="on-board-text">${error ? error.message : "Looking for it…"}</p>`;
  return html`<${Board} webhook=${webhook} error=${error} onChanged=${askAgain} go=${go} />`;
}

function Board({ webhook, error, onChanged, go }) {
  const [isDoomed, setDoomed] = useState(false);
  const isOff = webhook.state === "disabled";
  const tools = html`
    <div class="board-tools">
      <button type="button" class=${isOff ? "primary" : "on-board"} onClick=${() => turn(webhook, isOff).then(onChanged)}>${isOff ? "Enable" : "Disable"}</button>
      <button type="button" class="on-board" onClick=${() => setDoomed(true)}>Delete</button>
    </div>`;
  return html`
    <${Head} title=${new URL(webhook.url).host} tools=${tools} />
    <${Trouble} error=${error} />
    <div class="topic-grid webhook-grid">
      <div class="topic-main"><${Calls} webhook=${webhook} /></div>
      <div class="topic-side"><${Work} webhook=${webhook} /><${How} webhook=${webhook} /></div>
    </div>
    <${DeleteWebhook} webhook=${webhook} isOpen=${isDoomed} onClose=${() => setDoomed(false)} onDeleted=${() => go("#/webhooks")} />`;
}

const Head = ({ title, tools }) => html`
  <div class="board-head"><h1><a href="#/webhooks" class="up">Webhooks</a> ${title}</h1>${tools}</div>`;

function Work({ webhook }) {
  useTick(1000);
  const now = Date.now();
  return html`
    <${Notice} title="How it goes" className="work-of-hook" aside=${html`<${State} webhook=${webhook} now=${now} />`}>
      ${webhook.state === "disabled" ? html`
        <p class="trouble">Disabled ${webhook.disabled_at ? html`<span title=${format.moment(Date.parse(webhook.disabled_at))}>${format.ago(Date.parse(webhook.disabled_at), now)}</span>` : ""}:
          ${" "}<span id="disabled-reason">${reasonWords(webhook.disabled_reason)}</span>. Its records wait in the group until it is enabled.</p>` : null}
      <dl class="figures">
        <div><dt>Taken</dt><dd id="succeeded">${format.count(webhook.succeeded)}</dd></div>
        <div><dt>Failed</dt><dd id="failed">${format.count(webhook.failed)}</dd></div>
        <div title="Calls that wait for their answer"><dt>Open now</dt><dd>${format.count(webhook.in_flight)}</dd></div>
      </dl>
      ${webhook.consecutive_failures > 0 ? html`<p class="stage-note">${format.plural(webhook.consecutive_failures, "failure")} in a row.</p>` : null}
    </${Notice}>`;
}

function How({ webhook }) {
  return html`
    <${Notice} title="How it is called">
      <dl class="facts">
        <div class="wide"><dt>URL</dt><dd class="mono">${webhook.url}</dd></div>
        <div><dt>Topic</dt><dd><a href=${topicHash(webhook.topic)}>${webhook.topic}</a></dd></div>
        <div><dt>Group</dt><dd><a href=${groupHash(webhook.topic, webhook.group)}>${webhook.group}</a></dd></div>
        <div><dt>Format</dt><dd>${webhook.format}</dd></div>
        <div><dt>At the same time</dt><dd>${format.plural(webhook.concurrency, "call")}</dd></div>
        <div><dt>Time for an answer</dt><dd>${format.span(webhook.timeout_ms)}</dd></div>
        <div><dt>Made</dt><dd title=${format.moment(Date.parse(webhook.created_at))}>${format.ago(Date.parse(webhook.created_at))}</dd></div>
        <div class="wide"><dt>Id</dt><dd class="mono">${webhook.id}</dd></div>
      </dl>
    </${Notice}>`;
}

function Calls({ webhook }) {
  const answers = webhook.answers ?? [];
  return html`
    <${Notice} title="Last answers" className="flush">
      ${answers.length === 0 ? html`<p class="nothing">It has not been called yet. Publish to <a href=${topicHash(webhook.topic)}>${webhook.topic}</a>, and it will be.</p>` : html`
        <table class="answers">
          <thead><tr>
            <th scope="col">When</th><th scope="col">Answer</th><th scope="col" class="number">Took</th><th scope="col" class="number">Attempt</th><th scope="col">Record</th>
          </tr></thead>
          <tbody>${answers.map((one, at) => html`
            <tr key=${`${one.at} ${at}`}>
              <td title=${format.moment(Date.parse(one.at))}>${format.clock(Date.parse(one.at)).slice(0, 8)}</td>
              <td><span class=${isGood(one) ? "peg" : "peg peg-bad"} aria-hidden="true"></span> <span class=${isGood(one) ? "" : "bad"}>${answerOf(one)}</span></td>
              <td class="number">${format.span(one.duration_ms)}</td>
              <td class="number">${format.count(one.attempt)}</td>
              <td><a href=${recordHash(webhook.topic, one)}>p${one.partition} @${format.count(one.offset)}</a></td>
            </tr>`)}
          </tbody>
        </table>`}
    </${Notice}>`;
}

function DeleteWebhook({ webhook, isOpen, onClose, onDeleted }) {
  const [error, setError] = useState(null);
  const remove = async () => {
    setError(null);
    try {
      await api.deleteWebhook(webhook.id);
    } catch (problem) {
      if (problem.status !== 404) {
        setError(problem);
        return;
      }
    }
    say("The webhook is deleted.");
    onClose();
    onDeleted();
  };
  return html`
    <${Dialog} isOpen=${isOpen} onClose=${onClose} title="Delete this webhook?">
      <p><span class="mono url">${webhook.url}</span> is not called any more, and its secret is forgotten. The group ${webhook.group} keeps its place in
        ${" "}${webhook.topic}. To stop for a while, disable it instead.</p>
      <${Trouble} error=${error} />
      <p class="actions">
        <button type="button" class="danger" onClick=${remove}>Delete the webhook</button>
        <button type="button" class="quiet" onClick=${onClose}>Keep it</button>
      </p>
    </${Dialog}>`;
}
