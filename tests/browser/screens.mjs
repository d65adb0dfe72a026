// Every page in light and dark at two widths, as pictures that a person looks at; nothing may stick out sideways.

import { accessible, api, comment, holds, open, ownWebhook, picture, story, until, writeSkill } from './kit.mjs';

const SIZES = [['wide', 1440, 900], ['narrow', 360, 740]];

for (const [n, text] of ['analyze why it is slow', 'review', 'frobnicate', 'plan the fix'].entries()) await comment(`@agent ${text}`, { id: `s-${n}` });
writeSkill('bare-hook', ownWebhook('bare-hook', { secret: 'BARE_WEBHOOK_SECRET' }));
writeSkill('triage', ownWebhook('triage', { command: 'triage' }));
await until('the webhooks', async () => (await api('/api/webhooks/triage')).spec && (await api('/api/webhooks/bare-hook')).spec);
const task = await until('a task that has ended', async () => (await api('/api/tasks?state=succeeded')).items[0]);

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
  chat: '#/chat',
  providers: '#/providers',
  health: '#/health',
};

for (const [size, width, height] of SIZES) {
  for (const scheme of ['light', 'dark']) {
    await story(`${size} ${scheme}`, async (page) => {
      for (const [name, hash] of Object.entries(PAGES)) {
        await open(page, hash);
        await page.waitForFunction(() => !document.querySelector('[aria-busy="true"]'));
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        holds(over <= 0, `${name} ${size}: nothing sticks out, but it does by ${over} pixels`);
        await page.screenshot({ path: picture(`${name}-${size}-${scheme}`), fullPage: true });
        if (scheme === 'dark') await accessible(page, `${name} ${size} ${scheme}`);
      }
    }, { width, height, scheme });
  }
}
