// The editor: CodeMirror in a shadow root, where its styles can be adopted under a policy that forbids style elements.
// Tab leaves it, as it leaves every other field.

import { defaultKeymap, history, historyKeymap } from '@codemirror/commands';
import { markdown } from '@codemirror/lang-markdown';
import { yamlFrontmatter } from '@codemirror/lang-yaml';
import { HighlightStyle, bracketMatching, syntaxHighlighting } from '@codemirror/language';
import { lintGutter, lintKeymap, setDiagnostics } from '@codemirror/lint';
import { EditorState } from '@codemirror/state';
import { EditorView, drawSelection, highlightActiveLine, keymap, lineNumbers } from '@codemirror/view';
import { tags } from '@lezer/highlight';

const colours = HighlightStyle.define([
  { tag: [tags.heading, tags.definition(tags.propertyName), tags.propertyName], color: 'var(--link)', fontWeight: '600' },
  { tag: [tags.string, tags.monospace], color: 'var(--good)' },
  { tag: [tags.number, tags.bool, tags.keyword, tags.atom], color: 'var(--warn)' },
  { tag: [tags.comment, tags.meta, tags.separator], color: 'var(--quiet)' },
  { tag: tags.emphasis, fontStyle: 'italic' },
  { tag: tags.strong, fontWeight: '700' },
  { tag: [tags.link, tags.url], color: 'var(--link)', textDecoration: 'underline' },
]);

const look = EditorView.theme({
  '&': { backgroundColor: 'var(--card)', color: 'var(--ink)', border: '1px solid var(--strong-line)', borderRadius: '8px', fontSize: '14px' },
  '&.cm-focused': { outline: '2px solid var(--accent)', outlineOffset: '1px' },
  '.cm-scroller': { fontFamily: 'var(--mono)', lineHeight: '1.55', minHeight: '20rem', maxHeight: '70vh', overflow: 'auto' },
  '.cm-content': { caretColor: 'var(--ink)' },
  '.cm-gutters': { backgroundColor: 'var(--raised)', color: 'var(--quiet)', border: 'none', borderRadius: '8px 0 0 8px' },
  '.cm-activeLine': { backgroundColor: 'color-mix(in srgb, var(--accent) 7%, transparent)' },
  '.cm-activeLineGutter': { backgroundColor: 'transparent' },
  '.cm-cursor': { borderLeftColor: 'var(--ink)' },
  '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': { backgroundColor: 'color-mix(in srgb, var(--accent) 28%, transparent)' },
  '.cm-tooltip': { backgroundColor: 'var(--card)', color: 'var(--ink)', border: '1px solid var(--strong-line)', borderRadius: '6px', maxWidth: '32rem' },
  '.cm-diagnostic': { whiteSpace: 'pre-wrap' },
  // Signs of text in place of images, which the policy does not let in.
  '.cm-lint-marker': { width: '1em', content: 'normal !important', fontWeight: '700', textAlign: 'center' },
  '.cm-lint-marker-error': { content: 'normal !important', color: 'var(--bad)' },
  '.cm-lint-marker-warning': { content: 'normal !important', color: 'var(--warn)' },
  '.cm-lint-marker-error::before': { content: '"●"' },
  '.cm-lint-marker-warning::before': { content: '"▲"' },
  '.cm-lintRange': { backgroundImage: 'none !important', textDecoration: 'underline wavy', textDecorationSkipInk: 'none' },
  '.cm-lintRange-error': { textDecorationColor: 'var(--bad)' },
  '.cm-lintRange-warning': { textDecorationColor: 'var(--warn)' },
});

/** `{set(text), show(diagnostics), destroy()}` in `host`; `onChange(text)` on every edit. */
export function open(host, { text, label, isReadOnly, onChange }) {
  const root = host.shadowRoot ?? host.attachShadow({ mode: 'open' });
  root.replaceChildren();
  const parent = document.createElement('div');
  root.append(parent);
  const view = new EditorView({
    root,
    parent,
    state: EditorState.create({
      doc: text,
      extensions: [
        lineNumbers(),
        history(),
        drawSelection(),
        bracketMatching(),
        highlightActiveLine(),
        lintGutter(),
        EditorView.lineWrapping,
        EditorState.readOnly.of(Boolean(isReadOnly)),
        EditorState.tabSize.of(2),
        yamlFrontmatter({ content: markdown() }),
        syntaxHighlighting(colours),
        look,
        keymap.of([...defaultKeymap, ...historyKeymap, ...lintKeymap]),
        EditorView.contentAttributes.of({ 'aria-label': label, 'aria-multiline': 'true', spellcheck: 'false' }),
        EditorView.updateListener.of((update) => update.docChanged && onChange(update.state.doc.toString())),
      ],
    }),
  });
  return {
    set: (next) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: next } }),
    show: (diagnostics) => view.dispatch(setDiagnostics(view.state, diagnostics.map((one) => placed(view.state.doc, one)))),
    go: (line, column) => {
      const at = offset(view.state.doc, { line, column });
      view.dispatch({ selection: { anchor: at }, scrollIntoView: true });
      view.focus();
    },
    destroy: () => view.destroy(),
  };
}

/** From where a diagnostic points to the end of the word there. */
function placed(doc, { position, severity, code, message, hint }) {
  const from = position ? offset(doc, position) : 0;
  const line = doc.lineAt(from);
  const rest = /^\S+/.exec(line.text.slice(from - line.from));
  const to = rest ? from + rest[0].length : line.to;
  return { from, to, severity, source: code, message: hint ? `${message}\n${hint}` : message };
}

/** Lines and columns count from 1, in characters; the editor counts UTF-16 units. */
function offset(doc, { line, column }) {
  const found = doc.line(Math.min(Math.max(line, 1), doc.lines));
  const before = [...found.text].slice(0, Math.max(column - 1, 0)).join('');
  return Math.min(found.from + before.length, found.to);
}
