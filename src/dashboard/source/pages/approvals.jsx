// What waits for a person: each with the prompt that would run, and two buttons.

import { at, post, query } from '../api.js';
import { link, useAction, usePages, useResource, useRoutes } from '../hooks.js';
import { Act, Card, Empty, Facts, Fault, Loaded, NotHere, Outside, Text, When } from '../parts.jsx';
import { money, tail } from '../words.js';

export function Approvals() {
  const list = usePages('/api/tasks', { state: 'awaiting_approval' }, { when: (one) => one.task, size: 20 });
  return (
    <>
      <h1 tabIndex={-1}>Approvals</h1>
      {list.error?.code === 'SH0902' ? <NotHere what="Approval" /> : <Fault error={list.error} reload={list.reload} />}
      {list.items.map((task) => (
        <Waiting key={task.id} id={task.id} reload={list.reload} />
      ))}
      {list.next && <button type="button" onClick={list.more}>Show more</button>}
      {!list.items.length && !list.loading && !list.error && (
        <Empty title="Nothing waits for you">
          <p>Commands with <code>requires_approval: true</code> stop here, and run when somebody who may says so.</p>
        </Empty>
      )}
    </>
  );
}

/** Binds the decision to the prompt that was shown: it is void for any other one. */
export async function decide(task, verb) {
  const digest = verb === 'approve' ? await sha256(task.spec.prompt) : null;
  return post(at`/api/tasks/${task.spec.id}/` + verb + query({ digest }));
}

/** Only where the page came over HTTPS or from this machine: elsewhere browsers have no digests. */
async function sha256(text) {
  if (!crypto.subtle) return null;
  const bytes = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function Waiting({ id, reload }) {
  const task = useResource(at`/api/tasks/${id}`, { when: (one) => one.task === id });
  return <Loaded of={task}>{(value) => <One task={value} reload={reload} />}</Loaded>;
}

function One({ task, reload }) {
  const { spec } = task;
  const has = useRoutes();
  const act = (verb) => async () => {
    await decide(task, verb);
    reload();
  };
  const [approve, approving] = useAction(act('approve'));
  const [reject, rejecting] = useAction(act('reject'));
  const known = has('POST', '/api/tasks/{}/approve');
  return (
    <Card title={`${spec.command} for ${spec.webhook}`} wide aside={<a href={link('tasks', spec.id)}>{tail(spec.id)}</a>}>
      <Facts
        of={[
          ['Asked by', spec.source.actor],
          ['At', spec.source.url && <Outside href={spec.source.url} />],
          ['Waiting since', <When at={task.updated_at} />],
          ['Agent', spec.agent],
          ['Tools', spec.run.tools?.join(', ')],
          ['Budget', spec.run.budget_usd !== null && money(spec.run.budget_usd)],
        ]}
      />
      <h3>What would run</h3>
      <Text label={`Prompt of ${spec.command}`}>{spec.prompt}</Text>
      {known ? (
        <div class="headline">
          <Act run={approve} busy={approving.busy} label="Approve" kind="primary" />
          <Act run={reject} busy={rejecting.busy} label="Reject" confirm="It will not run." />
        </div>
      ) : (
        known === false && <p class="hint">Approve it at its source, with the command <code>approve</code>.</p>
      )}
      <Fault error={approving.error ?? rejecting.error} />
    </Card>
  );
}
