// Moving a group to another place in its topic, and deleting it: both are asked for twice, because both change what its members get.

import { useState } from "../vendor/preact-hooks.js";
import { Dialog, Trouble, html, say } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";

const PLACES = [
  ["earliest", "The beginning", "Everything that is kept is processed again."],
  ["latest", "The end", "What is there now is passed over; only new records are processed."],
  ["time", "A time", "Goes on from the first record at or after it."],
];

export function Seek({ topic, group, isOpen, onClose, onSought }) {
  const [place, setPlace] = useState("earliest");
  const [time, setTime] = useState("");
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    setError(null);
    try {
      const from = place === "time" ? { time: new Date(time).toISOString() } : place;
      onSought(await api.seekGroup(topic, group.group, from));
      say(`${group.group} goes on from ${place === "time" ? format.moment(Date.parse(time)) : place === "latest" ? "the end" : "the beginning"}.`);
      onClose();
    } catch (problem) {
      setError(problem);
    }
  };
  return html`
    <${Dialog} isOpen=${isOpen} onClose=${onClose} title=${`Seek ${group.group}`}>
      <form onSubmit=${submit} class="seek">
        <fieldset class="choices">
          <legend>Go on from</legend>
          ${PLACES.map(([value, title, meaning]) => html`
            <label key=${value} class="choice">
              <input type="radio" name="place" value=${value} checked=${place === value} onChange=${() => setPlace(value)} />
              <span><b>${title}</b> ${meaning}</span>
            </label>`)}
        </fieldset>
        ${place === "time" ? html`<label class="field">Date and time, as on this clock
          <input type="datetime-local" name="time" step="1" required value=${time} onInput=${(event) => setTime(event.target.value)} /></label>` : null}
        <p class="side-text">${group.mode === "shared"
          ? "Leases that are out end, and nothing after the new place counts as done."
          : "Each member loses its partitions for a moment and gets them back at the new place."} In all ${format.plural(group.partitions.length, "partition")}.</p>
        <${Trouble} error=${error} />
        <p class="actions"><button class="primary">Seek</button> <button type="button" class="quiet" onClick=${onClose}>Leave it</button></p>
      </form>
    </${Dialog}>`;
}

export function DeleteGroup({ topic, group, isOpen, onClose, onDeleted }) {
  const [error, setError] = useState(null);
  const remove = async () => {
    setError(null);
    try {
      await api.deleteGroup(topic, group.group);
    } catch (problem) {
      if (problem.status !== 404) {
        setError(problem);
        return;
      }
    }
    say(`${group.group} is deleted.`);
    onClose();
    onDeleted();
  };
  const members = group.members.length;
  return html`
    <${Dialog} isOpen=${isOpen} onClose=${onClose} title=${`Delete ${group.group}?`}>
      <p>The group forgets how far it came${members > 0 ? html`, and its ${format.plural(members, "member")} ${members === 1 ? "is" : "are"} told that it is gone` : ""}.
        The records of ${topic} stay${group.dead_letters > 0 ? html`, and so do its ${format.plural(group.dead_letters, "dead letter")}` : ""}. This cannot be taken back.</p>
      <${Trouble} error=${error} />
      <p class="actions">
        <button type="button" class="danger" onClick=${remove}>Delete the group</button>
        <button type="button" class="quiet" onClick=${onClose}>Keep it</button>
      </p>
    </${Dialog}>`;
}
