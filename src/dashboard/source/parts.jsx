// The pieces that every page is made of. What others wrote is only ever a text node or an attribute that cannot run.

import { useEffect, useRef, useState } from 'preact/hooks';

import { safeUrl } from './api.js';
import { ago, spoken, tail, tone } from './words.js';

export function State({ of, children }) {
  return <span class={`state ${tone(of)}`}>{children ?? spoken(of)}</span>;
}

/** `3 minutes ago`, the exact time on hover and for machines. */
export function When({ at }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((n) => n + 1), 20_000);
    return () => clearInterval(timer);
  }, []);
  if (!at) return <span>–</span>;
  return (
    <time dateTime={at} title={new Date(at).toLocaleString('en-GB')}>
      {ago(at)}
    </time>
  );
}

/** A link to what others named; plain text when a browser should not open it. */
export function Outside({ href, children }) {
  const url = safeUrl(href);
  if (!url) return <span>{children ?? href}</span>;
  return (
    <a href={url} rel="noreferrer noopener" target="_blank">
      {children ?? url}
    </a>
  );
}

export function Copy({ text, label }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without a secure context there is no clipboard: the old way.
      const area = document.createElement('textarea');
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return (
    <button type="button" class="small" onClick={copy} aria-label={done ? 'Copied' : label}>
      {done ? 'Copied' : 'Copy'}
    </button>
  );
}

/** A digest or id: short to read, whole to copy. */
export function Digest({ of, label }) {
  if (!of) return <span>–</span>;
  return (
    <span class="digest">
      <code title={of}>{of.includes('_') ? tail(of) : of.slice(0, 12)}</code> <Copy text={of} label={label ?? 'Copy the whole digest'} />
    </span>
  );
}

export function Fault({ error, reload }) {
  if (!error) return null;
  return (
    <div class="notice bad" role="alert">
      <p>
        <strong>{error.code ? `${error.code}: ` : ''}</strong>
        {error.message}
      </p>
      {error.hint && <p class="hint">{error.hint}</p>}
      {reload && (
        <button type="button" onClick={reload}>
          Try again
        </button>
      )}
    </div>
  );
}

export function Empty({ title, children }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      <div>{children}</div>
    </div>
  );
}

/** For what this server does not have: said, not imitated. */
export function NotHere({ what, command }) {
  return (
    <Empty title={`${what} is not available on this server`}>
      <p>
        Its API does not list the address for it. {command && <>On the command line: <code>{command}</code>.</>} An update
        of skillhook may bring it.
      </p>
    </Empty>
  );
}

/** Loading, error, or what `children(value)` makes of it. */
export function Loaded({ of, children }) {
  if (of.value !== null && of.value !== undefined) {
    return (
      <>
        <Fault error={of.error} reload={of.reload} />
        {children(of.value)}
      </>
    );
  }
  if (of.error) return <Fault error={of.error} reload={of.reload} />;
  return (
    <p class="loading" aria-busy="true">
      Loading…
    </p>
  );
}

/** Pairs of a word and what it is; pairs without a value are left out. */
export function Facts({ of }) {
  const told = of.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== '');
  return (
    <dl class="facts">
      {told.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** How much of what may be used is used: a bar with the same in words. */
export function Meter({ name, value, most, say }) {
  const words = most === null ? `${say(value)}, without a limit` : `${say(value)} of ${say(most)}`;
  const share = most ? Math.min(value / most, 1) : 0;
  return (
    <div class="meter">
      <span>{name}</span> <span>{words}</span>
      {most !== null && (
        <span class="track" role="meter" aria-label={name} aria-valuemin={0} aria-valuemax={most} aria-valuenow={Math.min(value, most)} aria-valuetext={words}>
          <span class={share >= 1 ? 'full' : ''} style={{ width: `${share * 100}%` }} />
        </span>
      )}
    </div>
  );
}

export function Card({ title, aside, children, wide, id }) {
  return (
    <section class={wide ? 'card wide' : 'card'} aria-label={title} id={id}>
      <header>
        <h2>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

/** Text of others, in its own lines; long ones scroll and can be reached by keyboard. */
export function Text({ children, label }) {
  return (
    <pre class="text" tabIndex={0} role="region" aria-label={label}>
      {children}
    </pre>
  );
}

/** A button that says that it is busy, and what went wrong beside it. */
export function Act({ run, label, busy, kind, disabled, confirm }) {
  const [asked, setAsked] = useState(false);
  if (confirm && asked) {
    return (
      <span class="confirm" role="group" aria-label={label}>
        <span>{confirm}</span>
        <button type="button" class={kind} disabled={busy} onClick={() => run().then(() => setAsked(false))} ref={(node) => node?.focus()}>
          {busy ? 'Working…' : label}
        </button>
        <button type="button" onClick={() => setAsked(false)}>
          Keep
        </button>
      </span>
    );
  }
  return (
    <button type="button" class={kind} disabled={busy || disabled} onClick={() => (confirm ? setAsked(true) : run())}>
      {busy ? 'Working…' : label}
    </button>
  );
}

export function Diagnostics({ of, none }) {
  if (!of?.length) return none ?? null;
  return (
    <ul class="diagnostics">
      {of.map((one, n) => (
        <li key={n} class={one.severity === 'error' ? 'bad' : 'warn'}>
          <p>
            <State of={one.severity === 'error' ? 'error' : 'held'}>{one.severity}</State> <code>{one.code}</code>{' '}
            <span class="place">
              {one.path}
              {one.position && `:${one.position.line}:${one.position.column}`}
            </span>
          </p>
          <p>{one.message}</p>
          {one.hint && <p class="hint">{one.hint}</p>}
        </li>
      ))}
    </ul>
  );
}

/** A field with its label above it. */
export function Field({ label, children }) {
  return (
    <label class="field">
      <span>{label}</span>
      {children}
    </label>
  );
}

/** Waits until typing pauses. */
export function Search({ label, value, onChange, placeholder }) {
  const [text, setText] = useState(value ?? '');
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <Field label={label}>
      <input
        type="search"
        value={text}
        placeholder={placeholder}
        onInput={(event) => {
          const next = event.currentTarget.value;
          setText(next);
          clearTimeout(timer.current);
          timer.current = setTimeout(() => onChange(next), 200);
        }}
      />
    </Field>
  );
}

export function Choice({ label, value, options, onChange }) {
  return (
    <Field label={label}>
      <select value={value ?? ''} onChange={(event) => onChange(event.currentTarget.value)}>
        {options.map(([name, text]) => (
          <option key={name} value={name}>
            {text}
          </option>
        ))}
      </select>
    </Field>
  );
}
