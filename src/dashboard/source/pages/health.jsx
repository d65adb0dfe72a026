// Health: what monitoring sees, in words; the figures; what this server can do.

import { useMemo, useState } from 'preact/hooks';

import { token } from '../api.js';
import { useResource } from '../hooks.js';
import { Card, Digest, Loaded, Search, State, Text, When } from '../parts.jsx';
import { count, duration } from '../words.js';

export function Health() {
  const status = useResource('/api/status', { every: 10_000 });
  const metrics = useResource('/metrics', { every: 10_000 });
  const routes = useResource('/api');
  return (
    <>
      <h1 tabIndex={-1}>Health</h1>
      <Loaded of={status}>
        {(value) => (
          <>
            <Checks status={value} />
            <Copies of={value.copies ?? {}} committed={value.git?.committed.commit} />
          </>
        )}
      </Loaded>
      <Card title="Metrics" wide aside={token() === null && <a href="/metrics">as text</a>}>
        <Loaded of={metrics}>{(text) => <Metrics text={text} />}</Loaded>
      </Card>
      <Card title="Addresses of the API" wide aside={token() === null && <a href="/api/openapi.json">OpenAPI document</a>}>
        <Loaded of={routes}>{(value) => <Routes of={value.routes} />}</Loaded>
      </Card>
      <p class="hint">The dashboard is made with <a href="/assets/licences.txt">these libraries</a>.</p>
    </>
  );
}

function Checks({ status }) {
  const lag = status.push_lag_seconds ?? 0;
  const copies = Object.values(status.copies ?? {});
  const checks = [
    ['Routing state', status.ready, status.ready ? 'The first pass has been applied; deliveries find their webhooks.' : 'The first pass has not ended: look at the service’s log.'],
    ['Ledger', status.ledger.healthy, status.ledger.healthy ? 'The last write was kept.' : 'The last write failed: free disk space or look at the disk. Deliveries are answered with 503 until it works.'],
    ['Files', status.resources.stalled === 0, status.resources.stalled === 0 ? 'Every resource is in force as its file says.' : `${count(status.resources.stalled)} are stalled; what was last good stays in force. Their pages say why.`],
    ['Dead letters', status.queue.dead === 0, status.queue.dead === 0 ? 'No task has failed for good.' : `${count(status.queue.dead)} tasks have failed for good. Open them, mend the cause, retry.`],
    ['Agent', !status.queue.paused_until, status.queue.paused_until ? <>Its usage limit is reached: no run begins before <When at={status.queue.paused_until} />.</> : 'Nothing keeps runs from beginning.'],
    ['Cloud copies', copies.every((copy) => !copy.trouble), copies.length ? (copies.every((copy) => !copy.trouble) ? 'Nothing is in their way.' : 'One of them is in trouble: see below.') : 'There are none; git is the only copy elsewhere.'],
    ['Push', lag < 300, lag === 0 ? 'Nothing waits to be pushed.' : `The oldest commit has been waiting for ${duration(lag * 1000)}. See whether the remote answers.`],
  ];
  return (
    <Card title="Checks" wide>
      <ul class="checks">
        {checks.map(([name, good, text]) => (
          <li key={name}>
            <State of={good ? 'ready' : 'not ready'}>{good ? 'good' : 'look here'}</State> <strong>{name}</strong> <span>{text}</span>
          </li>
        ))}
      </ul>
    </Card>
  );
}

/** What each cloud copy holds, and how far it is behind. */
function Copies({ of, committed }) {
  const names = Object.keys(of);
  if (!names.length) return null;
  return (
    <Card title="Cloud copies" wide>
      <div class="scroll" tabIndex={0} role="region" aria-label="Cloud copies">
        <table class="whole">
          <thead><tr><th scope="col">Name</th><th scope="col">State</th><th scope="col">Lag</th><th scope="col">Holds</th><th scope="col">Since</th><th scope="col">Where</th></tr></thead>
          <tbody>
            {names.map((name) => {
              const copy = of[name];
              return (
                <tr key={name}>
                  <th scope="row">{name}</th>
                  <td><State of={copy.trouble ? 'not ready' : copy.commit && copy.commit === committed ? 'ready' : 'waiting'}>{copy.trouble ? 'in trouble' : copy.commit === committed ? 'up to date' : 'behind'}</State> {copy.trouble}</td>
                  <td>{copy.behind_since ? duration(Date.now() - new Date(copy.behind_since)) : 'none'}</td>
                  <td><Digest of={copy.commit} label={`Copy the commit that ${name} holds`} /></td>
                  <td><When at={copy.at} /></td>
                  <td><code>{copy.place}</code></td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </Card>
  );
}

function Metrics({ text }) {
  const [search, setSearch] = useState('');
  const lines = useMemo(() => text.split('\n').filter((line) => line && !line.startsWith('#') && !line.includes('_bucket{')), [text]);
  const wanted = lines.filter((line) => line.includes(search));
  return (
    <>
      <div class="toolbar"><Search label="Only lines with" value={search} onChange={setSearch} /></div>
      <Text label="Metrics">{wanted.join('\n') || 'No line has that in it.'}</Text>
    </>
  );
}

function Routes({ of }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Addresses">
      <table>
        <thead><tr><th scope="col">Method</th><th scope="col">Address</th><th scope="col">What it does</th></tr></thead>
        <tbody>
          {of.map((route) => (
            <tr key={`${route.method} ${route.path}`}><td>{route.method}</td><th scope="row"><code>{route.path}</code></th><td>{route.summary}</td></tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
