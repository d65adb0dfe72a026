// The frame around every page: who is asked for a token, where one can go, what is lost when the server is gone.

import './style.css';

import { render } from 'preact';
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks';

import { forgetRoutes, get, onUnauthorized, remember, remembered, signIn, signOut, token } from './api.js';
import { link, useAddress, useResource, useRoutes } from './hooks.js';
import { halt, start, watchConnection } from './live.js';
import { Fault } from './parts.jsx';
import { Approvals } from './pages/approvals.jsx';
import { Budgets } from './pages/budgets.jsx';
import { Changes } from './pages/changes.jsx';
import { Chat, Conversation } from './pages/chat.jsx';
import { Deliveries, Delivery } from './pages/deliveries.jsx';
import { File, Files } from './pages/files.jsx';
import { Health } from './pages/health.jsx';
import { Overview } from './pages/overview.jsx';
import { Proposal, Proposals } from './pages/proposals.jsx';
import { Providers } from './pages/providers.jsx';
import { Task, Tasks } from './pages/tasks.jsx';
import { Webhook, Webhooks } from './pages/webhooks.jsx';

/** Each page: its address, its name, what it shows; `one` shows a single thing of it. */
const PAGES = [
  { at: '', name: 'Overview', page: Overview },
  { at: 'webhooks', name: 'Webhooks', page: Webhooks, one: Webhook },
  { at: 'deliveries', name: 'Deliveries', page: Deliveries, one: Delivery },
  { at: 'tasks', name: 'Tasks', page: Tasks, one: Task },
  { at: 'approvals', name: 'Approvals', page: Approvals },
  { at: 'files', name: 'Skills and agents', page: Files, one: File, depth: 2 },
  { at: 'changes', name: 'Changes', page: Changes, one: Changes },
  { at: 'proposals', name: 'Proposals', page: Proposals, one: Proposal },
  { at: 'chat', name: 'Chat', page: Chat, one: Conversation },
  { at: 'budgets', name: 'Budgets', page: Budgets },
  { at: 'providers', name: 'Providers', page: Providers },
  { at: 'health', name: 'Health', page: Health },
];

const THEMES = { auto: 'Theme: system', light: 'Theme: light', dark: 'Theme: dark' };

function App() {
  // Whoever has a token is shown the page at once: whether it still holds is learned from what the page asks anyway.
  const [access, setAccess] = useState(token() === null ? 'asking' : 'open');
  const enter = async () => {
    try {
      await get('/api/status');
      setAccess('open');
    } catch (error) {
      setAccess(error.status === 401 ? 'closed' : 'open');
    }
  };
  useEffect(() => {
    if (access === 'asking') enter();
    return onUnauthorized(() => setAccess('closed'));
  }, []);
  // Before the page asks for anything, so that no news fall between.
  useLayoutEffect(() => {
    if (access !== 'open') return undefined;
    start();
    return halt;
  }, [access]);
  if (access === 'asking') return <p class="loading">Loading…</p>;
  if (access === 'closed') return <SignIn onDone={() => setAccess('open')} />;
  if (access === 'wanted') return <SignIn onDone={() => setAccess('open')} onBack={() => setAccess('open')} />;
  const leave = () => {
    signOut();
    forgetRoutes();
    setAccess('asking');
    enter();
  };
  return <Frame onSignOut={leave} onSignIn={() => setAccess('wanted')} />;
}

function SignIn({ onDone, onBack }) {
  const [value, setValue] = useState('');
  const [isKept, setKept] = useState(false);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const hadToken = useRef(token() !== null);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    signIn(value.trim(), isKept);
    try {
      await get('/api/status');
      forgetRoutes();
      onDone();
    } catch (refused) {
      signOut();
      setError(refused);
      setBusy(false);
    }
  };
  return (
    <main class="sign-in">
      <form onSubmit={submit} aria-label="Sign in">
        <h1>skillhook</h1>
        <p>{onBack ? 'With a token you can change things, as far as it allows.' : 'This server asks for a token.'}{hadToken.current && !error && ' The one that was kept here is no longer valid.'}</p>
        <label class="field">
          <span>Token</span>
          <input type="password" name="token" autocomplete="current-password" required spellcheck={false} value={value} onInput={(event) => setValue(event.currentTarget.value)} ref={(node) => node && !value && node.focus()} />
        </label>
        <label class="check">
          <input type="checkbox" checked={isKept} onChange={(event) => setKept(event.currentTarget.checked)} />
          <span>Keep it in this browser when the tab is closed</span>
        </label>
        <button type="submit" class="primary" disabled={busy || !value.trim()}>
          {busy ? 'Signing in…' : 'Sign in'}
        </button>
        {onBack && <button type="button" onClick={onBack}>Go on without one</button>}
        <Fault error={error} />
        <p class="hint">
          On the server, <code>skillhook token create</code> makes one. It is sent in a header and never stands in an address.
        </p>
      </form>
    </main>
  );
}

function Frame({ onSignOut, onSignIn }) {
  const address = useAddress();
  const [online, setOnline] = useState(true);
  const main = useRef(null);
  const [first, ...rest] = address.path;
  const page = PAGES.find(({ at }) => at === (first ?? '')) ?? null;
  useEffect(() => watchConnection(setOnline), []);
  const where = address.path.join('/');
  const before = useRef(where);
  useEffect(() => {
    document.title = `${page?.name ?? 'Not found'} · skillhook`;
    if (before.current === where) return;
    before.current = where;
    scrollTo(0, 0);
    main.current?.querySelector('h1')?.focus({ preventScroll: true });
  }, [where]);
  const Content = !page || rest.length > (page.one ? (page.depth ?? 1) : 0) ? Unknown : rest.length ? page.one : page.page;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.querySelector('h1')?.focus(); }}>
        Skip to the content
      </a>
      <Navigation current={page?.at} onSignOut={onSignOut} onSignIn={onSignIn} />
      <div class="stage">
        {!online && (
          <p class="notice bad" role="alert">
            The server cannot be reached; what stands here may be old. Trying again…
          </p>
        )}
        <main ref={main} id="main">
          <Content key={where} id={rest[0]} rest={rest} fields={address.fields} />
        </main>
      </div>
    </>
  );
}

function Navigation({ current, onSignOut, onSignIn }) {
  const has = useRoutes();
  const me = useResource(has('GET', '/api/me') ? '/api/me' : null).value;
  const marked = useRef(null);
  // On narrow screens the names scroll sideways.
  useEffect(() => marked.current?.scrollIntoView({ block: 'nearest', inline: 'center' }), [current]);
  return (
    <header class="bar">
      <a class="brand" href={link()}>
        <span class="hook" aria-hidden="true" />
        skillhook
      </a>
      <nav aria-label="Pages">
        <ul>
          {PAGES.map(({ at, name }) => (
            <li key={at}>
              <a href={at ? link(at) : link()} aria-current={at === current ? 'page' : undefined} ref={at === current ? marked : undefined}>
                {name}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <div class="settings">
        <Theme />
        {me?.kind === 'anonymous' && (
          <button type="button" onClick={onSignIn} title="Without a token you can look, and change nothing">
            Sign in
          </button>
        )}
        {token() !== null && (
          <button type="button" onClick={onSignOut} title={me?.name && `Signed in as ${me.name}: ${me.scopes.join(', ')}`}>
            Sign out
          </button>
        )}
      </div>
    </header>
  );
}

function Theme() {
  const [theme, setTheme] = useState(readTheme);
  return (
    <select
      aria-label="Theme"
      value={theme}
      onChange={(event) => {
        const next = event.currentTarget.value;
        remember('skillhook.theme', next === 'auto' ? null : next);
        showTheme();
        setTheme(next);
        dispatchEvent(new Event('skillhook-theme'));
      }}
    >
      {Object.entries(THEMES).map(([name, text]) => (
        <option key={name} value={name}>
          {text}
        </option>
      ))}
    </select>
  );
}

function readTheme() {
  const kept = remembered('skillhook.theme');
  return kept in THEMES ? kept : 'auto';
}

function showTheme() {
  const theme = readTheme();
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function Unknown() {
  return (
    <>
      <h1 tabIndex={-1}>There is no such page</h1>
      <p>
        The address may be mistyped. <a href={link()}>Go to the overview</a>.
      </p>
    </>
  );
}

showTheme();
render(<App />, document.getElementById('page'));
