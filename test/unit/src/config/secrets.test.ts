import { expect, it } from 'vitest';
import { redactMeantUrl, redactUrls } from '../../../../src/config/secrets.ts';

it.each([
  ['mqtts://bob:hunter2@host:8883/x', 'mqtts://bob:***@host:8883/x'],
  ['see mqtt://bob:hun@ter/2@host and mqtt://host:1883', 'see mqtt://bob:***@host and mqtt://host:1883'],
  ['{"url":"amqp://:hunter2@host","to":"a@b"}', '{"url":"amqp://:***@host","to":"a@b"}'],
  ['http://host:80/a, mailto a@b', 'http://host:80/a, mailto a@b'],
])('hides the password within the URLs of %s', (text, shown) => {
  expect(redactUrls(text)).toBe(shown);
});

it.each([
  ['bob:hunter2@host:1883', 'bob:***@host:1883'],
  ['mqtt:/bob:hun@ter@host', 'mqtt:***@host'],
  ['mqtt://bob:hunter2/x@host', 'mqtt://bob:***@host'],
  ['mqtt//bob:hunter2@host', 'mqtt//bob:***@host'],
  ['mqtt://bob:hun ter2@host:1883x', 'mqtt://bob:***@host:1883x'],
  ['mqtt://host:1883/a', 'mqtt://host:1883/a'],
  ['anna@host:1883', 'anna@host:1883'],
])('hides the password of what may be meant as a URL: %s', (text, shown) => {
  expect(redactMeantUrl(text)).toBe(shown);
});

it('reads a long text once', () => {
  // Tried from each of its characters to the end, this takes half a minute.
  expect(redactUrls(`${'x'.repeat(2_000_000)}://a:b@c`)).toMatch(/x:\/\/a:\*\*\*@c$/);
  expect(redactMeantUrl(`${'://'.repeat(700_000)}@`)).toHaveLength(2_100_001);
}, 20_000);
