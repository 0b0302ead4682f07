// One group: who holds what, how far it is, who its members are, and what it could not process.

import { useMemo, useState } from "../vendor/preact-hooks.js";
import { Notice, Rate, Snippet, Trouble, html, useSignal } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { POLL_MS, Palette, history, joinSnippet, note, pace } from "../lib/groups.js";
import { useKeys } from "../lib/keys.js";
import { topicHash } from "../lib/place.js";
import { usePolled } from "../lib/poll.js";
import { refresh } from "../lib/topics.js";
import { DeadLetters } from "./deadletters.js";
import { PartitionMap } from "./groupmap.js";
import { GroupPartitions, Members } from "./grouptables.js";
import { Leases } from "./leases.js";
import { Chart, RECORD_STEPS } from "./rates.js";
import { DeleteGroup, Seek } from "./seek.js";

/** Steps of an axis of seconds, in milliseconds. */
const TIME_STEPS = [100, 200, 500, ...[1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800].map((seconds) => seconds * 1000)];

export function Group({ connection, topic, name, go }) {
  const opened = useSignal(connection.opened);
  const polled = usePolled(async () => {
    const group = await api.getGroup(topic, name);
    note(topic, [group], Date.now());
    return group;
  }, opened, POLL_MS);
  const { value: group, error } = polled;
  if (error?.status === 404) return html`<${Head} topic=${topic} name=${name} /><${Missing} topic=${topic} name=${name} onAgain=${polled.askAgain} />`;
  if (group === null) return html`<${Head} topic=${topic} name=${name} /><p class="on-board-text">${error ? error.message : "Looking for it…"}</p>`;
  return html`<${Board} topic=${topic} group=${group} polled=${polled} go=${go} />`;
}

function Missing({ topic, name, onAgain }) {
  return html`
    <${Notice} title="There is no such group" className="slim">
      <p>It was deleted, or nobody has joined it yet. The first member makes a group and sets its mode.</p>
      <${Snippet} ...${joinSnippet(topic, name, "partitioned")} />
      <p class="actions"><button type="button" class="primary" onClick=${onAgain}>Look again</button> <a href=${topicHash(topic)}>Back to ${topic}</a></p>
    </${Notice}>`;
}

function Board({ topic, group, polled, go }) {
  const [asked, setAsked] = useState(null);
  const close = () => setAsked(null);
  useKeys({
    u: ["Up to the topic", () => go(topicHash(topic))],
    s: ["Seek the group", () => setAsked("seek")],
  });
  const palette = useMemo(() => new Palette(), []);
  const colours = palette.paint(group.members.map((one) => one.member));
  const isShared = group.mode === "shared";
  const redriven = () => {
    polled.askAgain();
    refresh();
  };
  return html`
    <${Head} topic=${topic} name=${group.group} group=${group} onAsk=${setAsked} />
    <${Trouble} error=${polled.error} />
    <div class="topic-grid">
      <div class="topic-main">
        ${isShared ? html`<${Leases} group=${group} />` : html`<${PartitionMap} group=${group} colours=${colours} />`}
        ${isShared || group.dead_letters > 0 ? html`<${DeadLetters} topic=${topic} group=${group} onRedriven=${redriven} />` : null}
        <${Members} group=${group} colours=${colours} />
        <${GroupPartitions} group=${group} colours=${colours} />
      </div>
      <div class="topic-side">
        <${Lag} topic=${topic} group=${group} />
        <${Join} topic=${topic} group=${group} />
      </div>
    </div>
    <${Seek} topic=${topic} group=${group} isOpen=${asked === "seek"} onClose=${close} onSought=${polled.put} />
    <${DeleteGroup} topic=${topic} group=${group} isOpen=${asked === "delete"} onClose=${close} onDeleted=${() => go(topicHash(topic))} />`;
}

function Head({ topic, name, group, onAsk }) {
  return html`
    <div class="board-head">
      <h1><a href="#/" class="up">Topics</a> <a href=${topicHash(topic)} class="up">${topic}</a> ${name}</h1>
      ${group ? html`
        <p class="sums">
          <span class="stamp">${group.mode}</span>
          <span><b>${format.count(group.members.length)}</b> ${group.members.length === 1 ? "member" : "members"}</span>
          <span><b id="group-lag">${format.count(group.lag)}</b> ${group.lag === 1 ? "record" : "records"} behind${group.lag > 0 ? html` by <b>${format.span(group.lag_ms)}</b>` : null}</span>
          <span><b><${Rate} value=${pace(history(topic, group.group))} /></b> done</span>
          ${group.mode === "shared" ? null : html`<span>generation <b id="generation">${format.count(group.generation)}</b></span>`}
        </p>
        <div class="board-tools">
          <button type="button" class="on-board" onClick=${() => onAsk("seek")}>Seek</button>
          <button type="button" class="on-board" onClick=${() => onAsk("delete")}>Delete</button>
        </div>` : null}
    </div>`;
}

function Lag({ topic, group }) {
  const points = history(topic, group.group);
  return html`
    <${Notice} title="Lag" className="rates">
      <p class="chart-head"><span>Records behind</span> <span class="figure">${format.count(group.lag)}</span></p>
      <${Chart} label="Records behind over the last minutes" points=${points} value=${(point) => point.lag} of="--chart-a" show=${format.short} steps=${RECORD_STEPS} least=${4} />
      <p class="chart-head"><span>Age of the oldest</span> <span class="figure">${format.span(group.lag_ms)}</span></p>
      <${Chart} label="Age of the oldest unfinished record over the last minutes" points=${points} value=${(point) => point.lagMs} of="--chart-b"
        show=${(value) => format.span(Math.round(value))} steps=${TIME_STEPS} least=${1000} />
    </${Notice}>`;
}

function Join({ topic, group }) {
  const isEmpty = group.members.length === 0;
  return html`
    <${Notice} title=${isEmpty ? "Nobody is in this group" : "One more member"}>
      <p class="side-text">${isEmpty ? "Its place in the topic is kept: whoever joins goes on from there. " : ""}Paste this into the console of a page,
        and that page is a member until it is closed.</p>
      <${Snippet} ...${joinSnippet(topic, group.group, group.mode)} />
    </${Notice}>`;
}
