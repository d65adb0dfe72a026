// What strangers write is shown as text: in payloads, names, descriptions, addresses, and what agents say.

import { api, comment, equal, holds, open, settings, settled, story, until, writeSkill } from './kit.mjs';

const MARKUP = [
  '<img src=x onerror="window.hacked=1">',
  '<script>window.hacked=1</script>',
  '<svg onload="window.hacked=1"><animate onbegin="window.hacked=1">',
  '"><iframe srcdoc="<script>parent.hacked=1</script>">',
  "'-window.hacked-'",
  '{{constructor.constructor("window.hacked=1")()}}',
  '<a href="javascript:window.hacked=1">here</a>',
  '</title></textarea></style><b>bold</b>',
  '\u202etxt.exe',
].join(' ');
const ADDRESS = 'javascript:window.hacked=1//https://github.example/';

const skill = (name, more) => `---\nname: ${name}\ndescription: ${JSON.stringify(MARKUP.slice(0, 300))}\nwebhook_config:\n  provider: github\n  id: ${name}\n  name: ${JSON.stringify(MARKUP.slice(0, 100))}\n  secret_env_var: GITHUB_WEBHOOK_SECRET\n  command_prefix: "@agent"\n  default_command: look\n  commands:\n    - name: look\n      description: ${JSON.stringify(MARKUP.slice(0, 120))}\n      prompt_template: "Look at {{ text }}"\n${more}---\n# ${name}\n`;

writeSkill('hostile', skill('hostile', ''));
// Broken: its diagnostics repeat what stands in it.
writeSkill('broken', skill('broken', `  "<img src=x onerror=window.hacked=1>": 1\n`));
await until('the webhook', async () => (await api('/api/webhooks/hostile')).spec);
await until('the diagnostic', async () => JSON.stringify(await api('/api/skills')).includes('onerror=window.hacked'));
const more = { issue: { title: MARKUP, html_url: ADDRESS, labels: [{ name: MARKUP }] }, comment: { html_url: ADDRESS } };
const { tasks, delivery } = await comment(`@agent look ${MARKUP}`, { path: '/webhooks/github/hostile', more });
const task = await until('the task to end', async () => {
  const found = await api(`/api/tasks/${tasks[0]}`);
  return found.state === 'succeeded' && found;
});
const stored = await api(`/api/deliveries/${delivery}?body=true`);
holds(stored.body.includes('onerror'), 'the markup is in the body');
holds(task.result.text.includes('onerror'), 'the agent says markup');

const PAGES = ['', '#/webhooks', '#/webhooks?view=picture', '#/webhooks/hostile', '#/deliveries', `#/deliveries/${delivery}`, '#/tasks', `#/tasks/${tasks[0]}`, '#/approvals', '#/files', '#/files?kind=agents', '#/files/skills/hostile', '#/files/skills/broken', '#/changes', '#/proposals', '#/budgets', '#/chat', '#/providers', '#/health'];

await story('no page runs or draws what strangers wrote', async (page) => {
  for (const hash of PAGES) {
    await open(page, hash);
    await settled(page);
    await clean(page, hash);
  }
});

await story('addresses cannot be markup either', async (page) => {
  for (const hash of [`#/webhooks/${encodeURIComponent(MARKUP)}`, `#/webhooks?search=${encodeURIComponent(MARKUP)}`, `#/tasks?state=${encodeURIComponent(MARKUP)}`, '#/files/skills/%3Cimg%3E', `#/${encodeURIComponent(MARKUP)}`]) {
    await page.goto('about:blank');
    await page.goto(`${settings.admin}/${hash}`);
    await page.locator('main h1').waitFor();
    await settled(page);
    await clean(page, hash);
  }
}, { isRefused: true });

async function clean(page, where) {
  const found = await page.evaluate(() => {
    const all = [];
    const walk = (root) => root.querySelectorAll('*').forEach((node) => {
      if (node.shadowRoot) walk(node.shadowRoot);
      const name = node.tagName.toLowerCase();
      if (['img', 'iframe', 'object', 'embed', 'animate', 'b', 'script', 'base', 'form'].includes(name) && root.contains(node) && node.closest('main, [class^=cm-]')) {
        if (name !== 'form') all.push(name);
      }
      for (const { name: attribute, value } of node.attributes) {
        if (/^on/.test(attribute)) all.push(`${name} ${attribute}`);
        if (/^\s*(javascript|data|vbscript):/i.test(value)) all.push(`${name} ${attribute}=${value.slice(0, 30)}`);
      }
    });
    walk(document);
    return { all, hacked: window.hacked ?? null };
  });
  equal(found, { all: [], hacked: null }, `${where} shows it as text`);
}
