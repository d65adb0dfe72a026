// Chat: ask an agent of this server, and read its answer as it is written.

import { useEffect, useRef, useState } from 'preact/hooks';

import { at, post } from '../api.js';
import { link, useResource, useRoutes } from '../hooks.js';
import { Empty, Fault, Loaded, NotHere, State, When } from '../parts.jsx';
import { tail } from '../words.js';
import { useLog } from './tasks.jsx';

export function Chat() {
  const has = useRoutes();
  const known = has('POST', '/api/chat');
  return (
    <>
      <h1 tabIndex={-1}>Chat</h1>
      {known === false && <NotHere what="Chat" />}
      {known && (
        <>
          <Talk conversation={null} />
          {has('GET', '/api/conversations') && <Earlier />}
        </>
      )}
    </>
  );
}

function Earlier() {
  const list = useResource('/api/conversations', { when: (one) => one.task });
  return (
    <section aria-label="Earlier conversations">
      <h2>Earlier</h2>
      <Loaded of={list}>
        {({ items }) =>
          items.length ? (
            <ul class="lines">
              {items.map((one) => (
                <li key={one.id}>
                  <a href={link('chat', one.id)}>{one.title ?? one.id}</a> <span class="hint"><When at={one.updated_at} /></span>
                </li>
              ))}
            </ul>
          ) : (
            <Empty title="No conversation yet">Ask for something above, for example “add a webhook for Linear”.</Empty>
          )
        }
      </Loaded>
    </section>
  );
}

export function Conversation({ id }) {
  const messages = useResource(at`/api/conversations/${id}/messages`);
  return (
    <>
      <p class="crumbs"><a href={link('chat')}>Chat</a></p>
      <h1 tabIndex={-1}>Conversation</h1>
      <Loaded of={messages}>{({ items }) => <Talk key={id} conversation={id} before={items} />}</Loaded>
    </>
  );
}

/** What was said, and a field for what comes next. */
function Talk({ conversation, before = [] }) {
  const [said, setSaid] = useState(before);
  const [current, setCurrent] = useState(conversation);
  const [text, setText] = useState('');
  const [mayChange, setMayChange] = useState(false);
  const [state, setState] = useState({ busy: false, error: null });
  const end = useRef(null);
  useEffect(() => end.current?.scrollIntoView({ block: 'nearest' }), [said.length]);
  const send = async (event) => {
    event.preventDefault();
    const message = text.trim();
    if (!message || state.busy) return;
    setState({ busy: true, error: null });
    try {
      const done = await post('/api/chat', { message, ...(current && { conversation: current }), ...(mayChange && { confirm: true }) });
      setSaid((old) => old.concat({ role: 'user', text: message }, { role: 'agent', task: done.task }));
      setCurrent(done.conversation ?? current);
      setText('');
      setMayChange(false);
      setState({ busy: false, error: null });
    } catch (error) {
      setState({ busy: false, error });
    }
  };
  return (
    <>
      <ol class="talk" aria-label="Messages" aria-live="polite">
        {said.map((message, n) => (
          <li key={n} class={message.role === 'user' ? 'mine' : 'theirs'}>
            <span class="hint">{message.role === 'user' ? 'You' : 'Agent'}</span>
            {message.task && !message.text ? <Streamed task={message.task} /> : <p class="quote">{message.text}</p>}
          </li>
        ))}
      </ol>
      <div ref={end} />
      <form onSubmit={send} aria-label="Message">
        <label class="field">
          <span>Message</span>
          <textarea rows="3" value={text} onInput={(event) => setText(event.currentTarget.value)} onKeyDown={(event) => event.key === 'Enter' && (event.ctrlKey || event.metaKey) && send(event)} />
        </label>
        <label class="check">
          <input type="checkbox" checked={mayChange} onChange={(event) => setMayChange(event.currentTarget.checked)} />
          <span>It may change files for this, as if you had saved them yourself</span>
        </label>
        <button type="submit" class="primary" disabled={state.busy || !text.trim()}>{state.busy ? 'Sending…' : 'Send'}</button> <span class="hint">or Ctrl + Enter</span>
        <Fault error={state.error} />
      </form>
    </>
  );
}

/** The answer of a task, line by line while it is written, then as it is. */
function Streamed({ task }) {
  const whole = useResource(at`/api/tasks/${task}`, { when: (one) => one.task === task });
  const log = useLog(task);
  const lines = log.lines.filter((line) => line.kind === 'agent').map((line) => line.text);
  const value = whole.value;
  const answer = value?.result?.text;
  return (
    <>
      <p class="quote">{answer ?? lines.join('\n')}</p>
      <p class="hint">
        {value && <State of={value.state} />} {value?.reason && `${value.reason.code}: ${value.reason.message}`} <a href={link('tasks', task)}>{tail(task)}</a>
      </p>
      <Fault error={whole.error ?? log.error} />
    </>
  );
}
