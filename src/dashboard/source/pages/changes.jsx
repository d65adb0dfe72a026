// Changes: what was changed by whom, what a commit changed, what a branch would do, and the way back.

import { useState } from 'preact/hooks';

import { post, query } from '../api.js';
import { link, useAction, usePages, useResource, useRoutes } from '../hooks.js';
import { Act, Card, Diagnostics, Digest, Empty, Fault, Loaded, NotHere, Outside, State, Text, When } from '../parts.jsx';

export function Changes({ id }) {
  const has = useRoutes();
  const known = has('GET', '/api/history');
  return (
    <>
      {id && <p class="crumbs"><a href={link('changes')}>Changes</a></p>}
      <h1 tabIndex={-1}>{id ? `Commit ${id.slice(0, 12)}` : 'Changes'}</h1>
      {known === false && <NotHere what="The history" command="git log -- .claude" />}
      {known && (id ? <One id={id} canRollBack={has('POST', '/api/rollback')} /> : <Several has={has} />)}
    </>
  );
}

function Several({ has }) {
  return (
    <>
      {has('GET', '/api/plan') && <Plan />}
      <History />
    </>
  );
}

/** What the files ask for that is not in force yet. */
function Plan() {
  const plan = useResource('/api/plan', { when: (one) => one.kind.startsWith('reconcile.') });
  return (
    <Card title="Not in force yet" wide>
      <Loaded of={plan}>
        {(value) => {
          const actions = (value.actions ?? []).map((action) => (typeof action === 'string' ? action : [action.verb ?? action.kind, action.resource ?? action.name].filter(Boolean).join(' ')));
          return (
            <>
              {actions.length ? <ul class="lines">{actions.map((action) => <li key={action}><code>{action}</code></li>)}</ul> : <p class="hint">The files and what is in force agree.</p>}
              <Diagnostics of={value.diagnostics} />
            </>
          );
        }}
      </Loaded>
    </Card>
  );
}

function History() {
  const list = usePages('/api/history', {}, { when: (one) => one.kind.startsWith('reconcile.') || one.kind.startsWith('change.'), size: 50 });
  return (
    <Card title="History" wide>
      <Fault error={list.error} reload={list.reload} />
      {list.items.length > 0 ? (
        <ul class="lines">
          {list.items.map((one) => (
            <li key={one.commit}>
              <p><a href={link('changes', one.commit)}>{subject(one)}</a></p>
              <p class="hint"><code>{one.commit.slice(0, 12)}</code> {author(one)} <When at={one.at ?? one.committed_at ?? one.time} />{one.pr_url && <> · <Outside href={one.pr_url}>proposal</Outside></>}</p>
            </li>
          ))}
        </ul>
      ) : (
        !list.loading && !list.error && <Empty title="Nothing was changed yet">Edits of files below <code>.claude/</code> stand here once they are committed.</Empty>
      )}
      {list.next && <button type="button" onClick={list.more}>Show more</button>}
    </Card>
  );
}

function subject(one) {
  return one.subject ?? one.title ?? one.message?.split('\n')[0] ?? one.commit;
}

function author(one) {
  const who = one.author ?? one.by;
  return typeof who === 'string' ? `by ${who}` : who?.name ? `by ${who.name}` : '';
}

function One({ id, canRollBack }) {
  const diff = useResource(`/api/diff${query({ from: `${id}^`, to: id })}`);
  return (
    <>
      <div class="headline">
        <Digest of={id} label="Copy the whole commit" />
        {canRollBack && <RollBack id={id} />}
      </div>
      <Card title="What it changed" wide>
        <Loaded of={diff}>{(value) => <Diff of={value} />}</Loaded>
      </Card>
    </>
  );
}

function Diff({ of }) {
  const files = of.files ?? of.items ?? [];
  if (typeof of === 'string' || of.diff) return <Lines text={typeof of === 'string' ? of : of.diff} />;
  if (!files.length) return <p class="hint">Nothing below .claude.</p>;
  return files.map((file) => (
    <section key={file.path} aria-label={file.path}>
      <h3>{file.path} <State of={file.status ?? 'changed'} /></h3>
      <Lines text={file.diff ?? file.patch ?? ''} />
    </section>
  ));
}

/** A unified diff; its signs stay, so that colour is not the only carrier. */
function Lines({ text }) {
  return (
    <pre class="text diff" tabIndex={0} role="region" aria-label="Difference">
      {text.split('\n').map((line, n) => (
        <span key={n} class={line.startsWith('+') ? 'plus' : line.startsWith('-') ? 'minus' : line.startsWith('@@') ? 'place' : ''}>
          {line}
          {'\n'}
        </span>
      ))}
    </pre>
  );
}

function RollBack({ id }) {
  const [done, setDone] = useState(null);
  const [run, { busy, error }] = useAction(async () => setDone(await post('/api/rollback', { commit: id })));
  return (
    <>
      <Act run={run} busy={busy} label="Roll back to before it" kind="danger" confirm="A new commit takes the files back; history stays." />
      <Fault error={error} />
      {done && <span role="status">Rolled back: {done.status}{done.commit && <> as <code>{done.commit.slice(0, 12)}</code></>} {done.pr_url && <Outside href={done.pr_url}>see the proposal</Outside>}</span>}
    </>
  );
}
