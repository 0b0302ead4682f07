// Deleting a topic: asked for twice, because it cannot be taken back.

import { useState } from "../vendor/preact-hooks.js";
import { Dialog, Trouble, html, say } from "../lib/ui.js";
import * as api from "../lib/api.js";
import * as format from "../lib/format.js";
import { bytesKept, recordsKept, refresh } from "../lib/topics.js";

export function DeleteTopic({ topic, onClose, onDeleted }) {
  const [error, setError] = useState(null);
  const remove = async () => {
    setError(null);
    try {
      await api.deleteTopic(topic.name);
    } catch (problem) {
      if (problem.status !== 404) {
        setError(problem);
        return;
      }
    }
    say(`${topic.name} is deleted.`);
    refresh();
    onClose();
    onDeleted?.();
  };
  return html`
    <${Dialog} isOpen=${topic !== null} onClose=${onClose} title=${`Delete ${topic?.name ?? ""}?`}>
      <p>${topic ? html`Its ${format.plural(recordsKept(topic), "record")} (${format.bytes(bytesKept(topic))})` : null} go with it, and its
        subscribers are told that it is gone. This cannot be taken back.</p>
      <${Trouble} error=${error} />
      <p class="actions">
        <button type="button" class="danger" onClick=${remove}>Delete the topic</button>
        <button type="button" class="quiet" onClick=${onClose}>Keep it</button>
      </p>
    </${Dialog}>`;
}
