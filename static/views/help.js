// The sheet of keyboard shortcuts: what works on the page right now.

import { Dialog, html } from "../lib/ui.js";
import { allKeys } from "../lib/keys.js";

export function Help({ isOpen, onClose }) {
  return html`
    <${Dialog} isOpen=${isOpen} onClose=${onClose} title="Keyboard">
      <dl class="keys">
        ${allKeys().map(({ keys, what }) => html`
          <div key=${keys}><dt>${(keys === " " ? ["Space"] : keys.split(" ")).map((one) => html`<kbd>${one}</kbd>`)}</dt><dd>${what}</dd></div>`)}
        <div><dt><kbd>Ctrl</kbd><kbd>Enter</kbd></dt><dd>Publish, while writing a record</dd></div>
      </dl>
    </${Dialog}>`;
}
