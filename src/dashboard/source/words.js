// How values are said: times, sizes, money, states. Pure functions.

const units = [
  [60, 'second'],
  [60, 'minute'],
  [24, 'hour'],
  [30, 'day'],
  [12, 'month'],
  [Infinity, 'year'],
];
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });

/** `3 minutes ago`. */
export function ago(time, now = Date.now()) {
  let amount = (new Date(time).getTime() - now) / 1000;
  if (Math.abs(amount) < 3) return 'now';
  for (const [size, unit] of units) {
    if (Math.abs(amount) < size) return relative.format(Math.round(amount), unit);
    amount /= size;
  }
  return '';
}

/** `1.2 s`, `340 ms`, `4 min 5 s`. */
export function duration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined || Number.isNaN(milliseconds)) return '–';
  if (milliseconds < 1) return '< 1 ms';
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} days`;
}

export function money(usd) {
  if (usd === null || usd === undefined) return '–';
  return `$${usd.toFixed(usd !== 0 && usd < 0.1 ? 4 : 2)}`;
}

export function count(number) {
  return number === null || number === undefined ? '–' : new Intl.NumberFormat('en').format(number);
}

export function bytes(number) {
  if (number < 1024) return `${number} bytes`;
  if (number < 1024 * 1024) return `${(number / 1024).toFixed(1)} KiB`;
  return `${(number / 1024 / 1024).toFixed(1)} MiB`;
}

export function clock(time) {
  return new Date(time).toLocaleTimeString('en-GB', { hour12: false }) + `.${String(new Date(time).getMilliseconds()).padStart(3, '0')}`;
}

/** A digest or an id, short enough to compare by eye. */
export function short(text, length = 12) {
  return text && text.length > length ? text.slice(0, length) : (text ?? '–');
}

/** The end of an id, which differs where ids are made of times. */
export function tail(id) {
  const [kind, rest] = id.split('_');
  return rest && rest.length > 12 ? `${kind}…${rest.slice(-8)}` : id;
}

/** Which colour a state has; its word always stands beside it. */
export function tone(state) {
  switch (state) {
    case 'succeeded':
    case 'accepted':
    case 'sent':
    case 'Ready':
    case 'ready':
    case 'matched':
    case 'merged':
      return 'good';
    case 'running':
    case 'sending':
    case 'queued':
    case 'checking':
    case 'waiting':
    case 'Reconciling':
    case 'open':
      return 'busy';
    case 'awaiting_approval':
    case 'waiting_input':
    case 'needs secret':
    case 'held':
    case 'expired':
    case 'unsigned':
      return 'warn';
    case 'dead':
    case 'failed':
    case 'refused':
    case 'stalled':
    case 'Stalled':
    case 'error':
    case 'not ready':
      return 'bad';
    default:
      return 'quiet';
  }
}

/** `awaiting_approval` as people say it. */
export function spoken(state) {
  return String(state).replaceAll('_', ' ');
}

/** What a webhook is, in one word: ready, needs secret, disabled, stalled, reconciling. */
export function standing(webhook) {
  const of = (kind) => webhook.conditions?.find((condition) => condition.type === kind);
  const ready = of('Ready');
  const enabled = webhook.enabled ?? webhook.spec?.enabled;
  if (enabled === false) return 'disabled';
  if (webhook.suspended) return 'suspended';
  if (/secret/i.test(ready?.status === false ? ready.reason : '') || /secret/i.test(of('Stalled')?.status ? of('Stalled').reason : '')) return 'needs secret';
  if (of('Stalled')?.status) return 'stalled';
  if (ready?.status) return 'ready';
  if (of('Reconciling')?.status) return 'reconciling';
  return 'not ready';
}

/** The first sentence about why it is not ready. */
export function whyNot(webhook) {
  const told = webhook.conditions?.filter((condition) => (condition.type === 'Ready') !== condition.status && ['Ready', 'Stalled'].includes(condition.type));
  return told?.find((condition) => condition.message)?.message ?? '';
}
