// Every page, signed in, in light and dark at two widths, as pictures that a person looks at; nothing may stick out
// sideways, on the widest screens neither.

import { accessible, api, comment, fits, open, ownWebhook, picture, story, until, writeSkill } from './kit.mjs';

const SIZES = [['wide', 1440, 900], ['narrow', 360, 740]];
const WIDEST = [3840, 2160];

writeSkill('bare-hook', ownWebhook('bare-hook', { secret: 'BARE_WEBHOOK_SECRET' }));
writeSkill('careful', ownWebhook('careful', { command: 'deploy' }).replace('      prompt_template', '      requires_approval: true\n      prompt_template').replace('  commands:', '  budget: {usd_per_day: 2, runs_per_day: 5}\n  commands:'));
writeSkill('triage', ownWebhook('triage', { command: 'triage' }));
for (const name of ['bare-hook', 'careful', 'triage']) await until(name, async () => (await api(`/api/webhooks/${name}`)).spec);
for (const [n, text] of ['analyze why it is slow', 'review', 'frobnicate', 'plan the fix'].entries()) await comment(`@agent ${text}`, { id: `s-${n}` });
await comment('@agent deploy version 2 to the test machines', { path: '/webhooks/github/careful' });
const talk = await api('/api/chat', { method: 'POST', body: { message: 'Which webhooks still need a secret?' } });
const proposal = await api('/api/registry/skills/triage/content?propose=true', { method: 'PUT', body: { content: ownWebhook('triage', { command: 'sort' }) } });
const task = await until('a task that has ended', async () => (await api('/api/tasks?state=succeeded&webhook=github')).items[0]);
await until('the answer', async () => (await api(`/api/tasks/${talk.task}`)).state === 'succeeded');
await until('the approval', async () => (await api('/api/approvals')).items.length === 1);
await until('the proposal', async () => (await api('/api/status')).git.proposals.length === 1);
await until('the copy', async () => (await api('/api/status')).copies.dir.commit);
const [change] = (await until('the commits', async () => (await api('/api/history?limit=5')).items.length && api('/api/history?limit=5'))).items;

const PAGES = {
  overview: '',
  webhooks: '#/webhooks',
  picture: '#/webhooks?view=picture',
  webhook: '#/webhooks/github',
  'webhook-needs-secret': '#/webhooks/bare-hook',
  deliveries: '#/deliveries',
  delivery: `#/deliveries/${task.delivery}`,
  tasks: '#/tasks',
  task: `#/tasks/${task.id}`,
  approvals: '#/approvals',
  files: '#/files',
  file: '#/files/skills/triage',
  changes: '#/changes',
  change: `#/changes/${change.commit}`,
  proposals: '#/proposals',
  proposal: `#/proposals/${encodeURIComponent(proposal.branch)}`,
  chat: '#/chat',
  conversation: `#/chat/${talk.conversation}`,
  budgets: '#/budgets',
  providers: '#/providers',
  health: '#/health',
};

const stories = SIZES.flatMap(([size, width, height]) => ['light', 'dark'].map((scheme) => ({ size, width, height, scheme })));
for (const { size, width, height, scheme } of stories) {
  await story(`${size} ${scheme}`, async (page) => {
    for (const [name, hash] of Object.entries(PAGES)) {
      await open(page, hash);
      await page.waitForFunction(() => !document.querySelector('[aria-busy="true"]'));
      // The editor is loaded when it is needed, and judges what is in it.
      if (name === 'file') await page.getByText('valid', { exact: true }).waitFor();
      await fits(page, `${name} ${size}`);
      await page.screenshot({ path: picture(`${name}-${size}-${scheme}`), fullPage: true });
      await accessible(page, `${name} ${size} ${scheme}`);
    }
  }, { width, height, scheme, isSignedIn: true });
}

await story('the widest', async (page) => {
  for (const [name, hash] of Object.entries(PAGES)) {
    await open(page, hash);
    await fits(page, `${name} at ${WIDEST[0]} pixels`);
  }
  await open(page, '');
  await page.screenshot({ path: picture('overview-widest-light') });
}, { width: WIDEST[0], height: WIDEST[1], isSignedIn: true });
