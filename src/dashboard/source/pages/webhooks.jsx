// Webhooks: which there are, what each needs, what it listens to, and where each command comes from.

import { useState } from 'preact/hooks';

import { Problem, at, post, put } from '../api.js';
import { link, setFields, useAction, usePages, useResource, useRoutes } from '../hooks.js';
import { Act, Card, Choice, Copy, Diagnostics, Empty, Facts, Fault, Field, Loaded, NotHere, Search, State, Text, When } from '../parts.jsx';
import { Picture } from '../picture.jsx';
import { Listed } from '../rows.jsx';
import { count, short, standing, tail, whyNot } from '../words.js';

const STATES = [['', 'Any state'], ['ready', 'Ready'], ['needs secret', 'Needs a secret'], ['stalled', 'Stalled'], ['not ready', 'Not ready'], ['disabled', 'Disabled']];
const REFRESH_MS = 5000;
const aboutFiles = (one) => one.kind.startsWith('reconcile.');

export function Webhooks({ fields }) {
  const isPicture = fields.view === 'picture';
  return (
    <>
      <h1 tabIndex={-1}>Webhooks</h1>
      <div class="tabs" role="group" aria-label="How to show them">
        <button type="button" aria-pressed={!isPicture} onClick={() => setFields({ view: '' })}>
          List
        </button>
        <button type="button" aria-pressed={isPicture} onClick={() => setFields({ view: 'picture' })}>
          Picture
        </button>
      </div>
      {isPicture ? <WholePicture fields={fields} /> : <List fields={fields} />}
    </>
  );
}

function WholePicture({ fields }) {
  const search = fields.search ?? '';
  const picture = useResource(`/api/picture?limit=30&search=${encodeURIComponent(search)}`, { when: aboutFiles });
  return (
    <>
      <div class="toolbar">
        <Search label="Only with this in a name" value={search} onChange={(next) => setFields({ search: next })} placeholder="github, review, planning…" />
      </div>
      <Loaded of={picture}>
        {(value) =>
          value.items.length ? (
            <>
              <Picture items={value.items} />
              {value.left_out > 0 && <p class="hint">{count(value.left_out)} more webhooks are not drawn: search for a name to see them.</p>}
            </>
          ) : (
            <Nothing isFiltered={search !== ''} />
          )
        }
      </Loaded>
    </>
  );
}

function List({ fields }) {
  const filter = { search: fields.search, state: fields.state?.replaceAll(' ', '_') };
  const list = usePages('/api/webhooks', filter, { when: aboutFiles, cursor: 'after', size: 100 });
  const base = useResource('/api/status').value?.receiver_url ?? '';
  const columns = [
    { name: 'Webhook', width: 'minmax(0, 2fr)', cell: (one) => <a href={link('webhooks', one.id)} class="clip">{one.id}</a> },
    { name: 'State', width: '9rem', cell: (one) => <span title={whyNot(one)}><State of={standing(one)} /></span> },
    { name: 'Provider', width: 'minmax(0, 1fr)', cell: (one) => <span class="clip">{one.provider}{one.is_builtin ? ' (built in)' : ''}</span> },
    { name: 'Commands', width: '6rem', kind: 'number', cell: (one) => count(one.commands) },
    { name: 'Address', width: 'minmax(0, 2.5fr)', cell: (one) => <span class="copyable"><code class="clip">{one.endpoint}</code><Copy text={base + one.endpoint} label={`Copy the address of ${one.id}`} /></span> },
  ];
  return (
    <>
      <div class="toolbar">
        <Search label="Only with this in a name" value={fields.search} onChange={(search) => setFields({ search })} />
        <Choice label="State" value={fields.state} options={STATES} onChange={(state) => setFields({ state })} />
      </div>
      <Listed list={list} label="Webhooks" columns={columns} what="webhook">
        <Nothing isFiltered={Object.values(filter).some(Boolean)} />
      </Listed>
    </>
  );
}

function Nothing({ isFiltered }) {
  if (isFiltered) {
    return (
      <Empty title="No webhook is like that">
        <p>Change the words above, or <button type="button" onClick={() => setFields({ search: '', state: '' })}>show all</button>.</p>
      </Empty>
    );
  }
  return (
    <Empty title="There are no webhooks yet">
      <p>
        <code>skillhook init</code> lays the built-in ones down. A webhook of your own is a <code>webhook_config</code> in a
        <code>SKILL.md</code> below <code>.claude/skills/</code>.
      </p>
    </Empty>
  );
}

export function Webhook({ id }) {
  const webhook = useResource(at`/api/webhooks/${id}`, { when: (one) => aboutFiles(one) || one.webhook === id, every: REFRESH_MS });
  return (
    <>
      <p class="crumbs"><a href={link('webhooks')}>Webhooks</a></p>
      <h1 tabIndex={-1}>{id}</h1>
      <Loaded of={webhook}>{(value) => <One webhook={value} reload={webhook.reload} />}</Loaded>
    </>
  );
}

function One({ webhook, reload }) {
  const { spec } = webhook;
  const status = useResource('/api/status');
  const picture = useResource(`/api/picture?limit=50&search=${encodeURIComponent(spec.id)}`);
  const drawn = picture.value?.items.filter((item) => item.id === spec.id) ?? [];
  const paths = new Map(drawn.flatMap((item) => item.commands.map((command) => [command.name, command.path])));
  const address = `${status.value?.receiver_url ?? ''}${spec.endpoint}`;
  const state = standing(webhook);
  return (
    <>
      <div class="headline">
        <State of={state} />
        <span>{spec.description}</span>
        <Switch spec={spec} reload={reload} />
        <Hold id={spec.id} since={status.value?.suspended?.webhooks[spec.id]} reload={status.reload} />
      </div>
      {state === 'needs secret' && <NeedsSecret webhook={webhook} reload={reload} />}
      {state !== 'needs secret' && whyNot(webhook) && <p class="notice warn">{whyNot(webhook)}</p>}
      <Diagnostics of={webhook.diagnostics} />
      <div class="grid">
        <Card title="Address">
          <p class="copyable"><code class="wrap">{address}</code><Copy text={address} label="Copy the address" /></p>
          <p class="hint">Enter it at {spec.provider} together with the secret.</p>
          <Facts
            of={[
              ['Provider', spec.provider],
              ['Layer', spec.builtin ? 'built in' : 'from this repository'],
              ['Generation', count(webhook.generation)],
              ['Signature', spec.requires_signature ? 'required' : <State of="unsigned">not required: anyone may call</State>],
              ['Secrets', Object.entries(spec.secrets).map(([slot, references]) => `${slot}: ${references.map(secretName).join(', ')}`).join(' · ')],
              ['Prefix', spec.prefixes.join(', ')],
              ['Default command', spec.default_command],
              ['Default agent', spec.target_agent],
              ['Match', spec.match_mode],
              ['Acknowledged by', spec.ack],
              ['Answered by', spec.reply],
            ]}
          />
        </Card>
        <Card title="Who may call">
          <Facts
            of={[
              ['Permission', spec.allow.permission ?? 'write, where the provider can tell'],
              ['Actors', spec.allow.actors.join(', ')],
              ['Associations', spec.allow.associations.join(', ')],
              ['Bots', spec.allow.bots.join(', ') || 'none'],
              ['Only in', spec.allow.resources.join(', ')],
              ['At once', spec.concurrency_max],
              ['Rate', spec.rate_limit && `${spec.rate_limit.max} in ${spec.rate_limit.per_seconds} s`],
            ]}
          />
          <Conditions of={webhook.conditions} />
        </Card>
        <Test webhook={webhook} />
      </div>
      <Card title="Commands" wide>
        <Commands spec={spec} paths={paths} />
      </Card>
      <Card title="Routing" wide>
        {picture.error ? <Fault error={picture.error} reload={picture.reload} /> : drawn.length > 0 && <Picture items={drawn} />}
      </Card>
      <Latest id={spec.id} />
    </>
  );
}

function secretName(reference) {
  if (typeof reference === 'string') return reference;
  const [kind, value] = Object.entries(reference).find(([, text]) => typeof text === 'string') ?? [];
  return kind === 'sealed' || kind === 'age' ? 'sealed in the file' : (value ?? 'set');
}

function NeedsSecret({ webhook, reload }) {
  const names = Object.values(webhook.spec.secrets).flat().map(secretName);
  return (
    <section class="notice warn" aria-label="A secret is missing">
      <p><strong>{whyNot(webhook) || 'A secret is missing.'}</strong> Until it is there, deliveries are answered with 503 and nothing runs.</p>
      <ol>
        <li>Choose a long random secret and enter it at {webhook.spec.provider}.</li>
        <li>Give the server the same one: {names.length ? <>set <code>{names.join(' or ')}</code> in its environment or its secrets directory</> : 'in its environment or its secrets directory'}.</li>
        <li>Nothing needs a restart when the secret is a file; the state above changes by itself.</li>
      </ol>
      <SetSecret id={webhook.spec.id} reload={reload} />
    </section>
  );
}

/** Sealed on the server before anything is written; it goes in here and never comes out. */
function SetSecret({ id, reload }) {
  const has = useRoutes();
  const me = useResource('/api/me').value;
  const [value, setValue] = useState('');
  const [save, { busy, error }] = useAction(async () => {
    await put(at`/api/secrets/${id}`, { value });
    setValue('');
    reload();
  });
  if (!has('PUT', '/api/secrets/{}') || !me?.scopes?.includes('admin')) return null;
  const submit = (event) => {
    event.preventDefault();
    save();
  };
  return (
    <form onSubmit={submit} aria-label="Set the secret here" class="toolbar">
      <Field label="Or set it here: it is sealed into the webhook’s file">
        <input type="password" autocomplete="off" required value={value} onInput={(event) => setValue(event.currentTarget.value)} />
      </Field>
      <button type="button" onClick={() => setValue(randomSecret())}>Make a random one</button>
      {value && <Copy text={value} label="Copy the secret, to enter it at the provider" />}
      <button type="submit" class="primary" disabled={busy || !value}>{busy ? 'Sealing…' : 'Seal and save'}</button>
      <Fault error={error} />
    </form>
  );
}

function randomSecret() {
  return Array.from(crypto.getRandomValues(new Uint8Array(32)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function Switch({ spec, reload }) {
  const has = useRoutes();
  const verb = spec.enabled ? 'disable' : 'enable';
  const [run, { busy, error }] = useAction(async () => {
    await post(at`/api/webhooks/${spec.id}/` + verb);
    reload();
  });
  if (!has('POST', '/api/webhooks/{}/enable')) return null;
  return (
    <>
      <Act run={run} busy={busy} label={spec.enabled ? 'Disable' : 'Enable'} confirm={spec.enabled ? 'Deliveries will be ignored.' : undefined} />
      <Fault error={error} />
    </>
  );
}

/** Deliveries are stored and their tasks held back, until somebody lets them go. */
function Hold({ id, since, reload }) {
  const has = useRoutes();
  const [run, { busy, error }] = useAction(async () => {
    await post(at`/api/webhooks/${id}/` + (since ? 'resume' : 'suspend'));
    reload();
  });
  if (!has('POST', '/api/webhooks/{}/suspend')) return null;
  return (
    <>
      {since && <State of="held">suspended: its tasks are held back</State>}
      <Act run={run} busy={busy} label={since ? 'Let its tasks go' : 'Suspend'} confirm={since ? undefined : 'Deliveries will be stored, and their tasks held back.'} />
      <Fault error={error} />
    </>
  );
}

function Conditions({ of }) {
  if (!of.length) return null;
  return (
    <ul class="conditions">
      {of.map((condition) => (
        <li key={condition.type}>
          <State of={condition.status === (condition.type !== 'Stalled' && condition.type !== 'Reconciling') ? 'ready' : condition.type === 'Stalled' ? 'stalled' : 'held'}>
            {condition.type}: {condition.status ? 'yes' : 'no'}
          </State>{' '}
          <span class="hint">{condition.message || condition.reason}, <When at={condition.last_transition} /></span>
        </li>
      ))}
    </ul>
  );
}

/** A sample: what would be done about it, or sent for real, signed with the webhook's own secret. */
function Test({ webhook }) {
  const has = useRoutes();
  const { spec, samples = [] } = webhook;
  const me = useResource('/api/me').value;
  const [sample, setSample] = useState(samples[0] ?? '');
  const [payload, setPayload] = useState('');
  const [tried, setTried] = useState(null);
  const [sent, setSent] = useState(null);
  const choose = (name) => {
    setSample(name);
    setPayload('');
    setTried(null);
  };
  const ask = (verb) => post(at`/api/webhooks/${spec.id}/` + verb, { ...(sample && { sample }), ...(payload.trim() && { payload: parsed(payload) }) });
  const [attempt, trying] = useAction(async () => {
    setSent(null);
    setTried(await ask('test'));
  });
  const [send, sending] = useAction(async () => {
    setTried(null);
    setSent(await ask('deliver'));
  });
  if (has('POST', '/api/webhooks/{}/test') === undefined) return null;
  const maySend = has('POST', '/api/webhooks/{}/deliver') && me?.scopes?.includes('admin');
  const submit = (event) => {
    event.preventDefault();
    attempt();
  };
  return (
    <Card title="Test">
      <form onSubmit={submit} aria-label="Test">
        <p class="hint">Tried, a sample is matched and its prompts are rendered: nothing runs. Sent, it is a delivery like any other.</p>
        {samples.length > 0 && <Choice label="Sample" value={sample} options={samples.map((name) => [name, name])} onChange={choose} />}
        <Field label={samples.length ? 'Payload in its place, as JSON (may be empty)' : 'Payload, as JSON'}>
          <textarea rows="3" value={payload} onInput={(event) => setPayload(event.currentTarget.value)} spellcheck={false} />
        </Field>
        <div class="headline">
          <button type="submit" disabled={trying.busy}>{trying.busy ? 'Trying…' : 'Try it'}</button>
          {maySend && <Act run={send} busy={sending.busy} label="Send a test delivery" kind="primary" />}
          {tried && !payload && <button type="button" onClick={() => setPayload(JSON.stringify(tried.payload, null, 2))}>Edit its payload</button>}
        </div>
        {me && !maySend && <p class="hint">Sending one for real needs a token with the scope <code>admin</code>, because a delivery speaks for whomever it names; or <code>skillhook trigger {sample || spec.provider}</code> on the server.</p>}
        <Fault error={trying.error ?? sending.error} />
        {tried?.would.map((plan, n) => <Would key={n} plan={plan} />)}
        {sent && <Sent of={sent} />}
      </form>
    </Card>
  );
}

function Sent({ of }) {
  return (
    <div role="status">
      <ul class="lines" aria-label="What was sent">
        {of.sent.map((one) => (
          <li key={one.delivery}>
            {of.sample} was taken in as <a href={link('deliveries', one.delivery)}>{tail(one.delivery)}</a>
            {one.tasks.length === 0 && '; no command matched it'}
            {one.tasks.map((task) => <> · <a href={link('tasks', task)}>watch {tail(task)}</a></>)}
          </li>
        ))}
      </ul>
    </div>
  );
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Problem({ status: 400, detail: `the payload is not JSON: ${error.message}` });
  }
}

/** What a delivery would do: its event, each rule, and the prompts. */
export function Would({ plan }) {
  return (
    <section aria-label={`What ${plan.event} would do`}>
      <h3>{plan.event}</h3>
      {plan.ignored && <p class="notice">{plan.ignored}</p>}
      {plan.rules.length > 0 && <Rules of={plan.rules} />}
      {plan.tasks.map((task) => (
        <div key={task.command}>
          <p><strong>{task.command}</strong> <span class="hint">{task.agent ? `by ${task.agent}` : 'without an agent'}</span></p>
          <Text label={`Prompt of ${task.command}`}>{task.prompt}</Text>
        </div>
      ))}
    </section>
  );
}

/** Rule by rule: which command, did it match, and why. */
export function Rules({ of }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Rules">
      <table class="rules">
        <thead><tr><th scope="col">Command</th><th scope="col">Result</th><th scope="col">Why</th></tr></thead>
        <tbody>
          {of.map((rule) => (
            <tr key={rule.command}>
              <th scope="row">{rule.command}</th>
              <td><State of={rule.matched ? 'matched' : 'not matched'} /></td>
              <td>{rule.why}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Commands({ spec, paths }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Commands of this webhook">
      <table>
        <thead><tr><th scope="col">Command</th><th scope="col">Called by</th><th scope="col">Agent</th><th scope="col">Comes from</th><th scope="col">What it does</th></tr></thead>
        <tbody>
          {spec.commands.map((command) => (
            <tr key={command.name}>
              <th scope="row">
                {command.name}
                {command.requires_approval && <> <State of="held">asks first</State></>}
              </th>
              <td>{command.triggers.length ? command.triggers.join(', ') : ['its name', ...command.aliases].join(', ')}{command.conditions && <span class="hint"> with conditions</span>}</td>
              <td>{agentOf(command, spec)}</td>
              <td><a href={link('files', 'skills', command.source)}>{command.source}</a><br /><span class="hint">{paths.get(command.name) ?? 'comes with the program'}</span></td>
              <td>{command.description}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function agentOf(command, spec) {
  if (!['create_task', 'ask'].includes(command.action)) return 'none: answered at once';
  return command.target_agent ?? `${spec.target_agent} decides`;
}

function Latest({ id }) {
  const deliveries = useResource(`/api/deliveries?limit=10&webhook=${encodeURIComponent(id)}`, { when: (one) => one.webhook === id });
  return (
    <Card title="Latest deliveries" wide aside={<a href={link('deliveries', { webhook: id })}>All of them</a>}>
      <Loaded of={deliveries}>
        {({ items }) =>
          items.length ? (
            <ul class="lines">
              {items.map((one) => (
                <li key={one.id}>
                  <a href={link('deliveries', one.id)}>{tail(one.id)}</a> <State of={one.outcome} /> {one.events.join(', ')} {one.actor && `by ${short(one.actor, 40)}`} <When at={one.received_at} />
                </li>
              ))}
            </ul>
          ) : (
            <Empty title="Nothing has come in yet">Copy the address above to {id}’s provider, or send a test.</Empty>
          )
        }
      </Loaded>
    </Card>
  );
}
