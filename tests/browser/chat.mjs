// Asking in chat: the answer is read while it is written, the conversation goes on, and is found again.

import { accessible, open, signIn, story } from './kit.mjs';

await story('somebody asks for a webhook and reads the answer while it is written', async (page) => {
  await signIn(page);
  await open(page, '#/chat');
  await page.getByText('No conversation yet').waitFor();
  await page.getByRole('textbox', { name: 'Message' }).fill('Add a webhook for Linear, please');
  await page.getByRole('button', { name: 'Send' }).click();
  const talk = page.getByRole('list', { name: 'Messages' });
  await talk.getByText('Add a webhook for Linear, please').waitFor();
  // What the agent says stands there before its run has ended.
  await talk.getByText('shall I write it').waitFor();
  await talk.getByText('running', { exact: true }).waitFor();
  await talk.getByText('succeeded', { exact: true }).waitFor();
  await accessible(page, 'chat');
  await page.getByRole('textbox', { name: 'Message' }).fill('Yes');
  await page.getByLabel('It may change files').check();
  await page.getByRole('textbox', { name: 'Message' }).press('Control+Enter');
  await talk.getByText('succeeded', { exact: true }).nth(1).waitFor();
  await page.getByRole('navigation').getByRole('link', { name: 'Overview' }).click();
  await page.getByRole('navigation').getByRole('link', { name: 'Chat' }).click();
  await page.getByRole('link', { name: /Add a webhook for Linear/ }).click();
  await page.getByRole('list', { name: 'Messages' }).getByText('Yes', { exact: true }).waitFor();
  await accessible(page, 'a conversation');
}, { isRefused: true });
