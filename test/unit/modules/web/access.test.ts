import { describe, expect, it } from 'vitest';
import { hostNames, isLocal, isLoopback, isOwnHost, showsToken } from '../../../../modules/web/server/access.ts';

describe('loopback', () => {
  it.each(['127.0.0.1', '127.255.3.4', '::1', '::ffff:127.0.0.1'])('%s is', (address) => {
    expect(isLoopback(address)).toBe(true);
  });
  it.each(['10.0.0.1', '128.0.0.1', '::2', '::ffff:10.0.0.1', '0.0.0.0', '::', 'localhost', '', undefined])(
    '%s is not',
    (address) => {
      expect(isLoopback(address)).toBe(false);
    },
  );
});

describe('who counts as local', () => {
  it('takes a request from the machine itself', () => {
    expect(isLocal({ remoteAddress: '127.0.0.1', headers: {} })).toBe(true);
  });
  it.each(['forwarded', 'x-forwarded-for', 'x-real-ip', 'via'])(
    'does not take one that a proxy passed on (%s)',
    (name) => {
      expect(isLocal({ remoteAddress: '127.0.0.1', headers: { [name]: '1.2.3.4' } })).toBe(false);
    },
  );
});

describe('token', () => {
  const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
  const asker = (authorization?: string) => ({
    remoteAddress: '10.0.0.9',
    headers: authorization === undefined ? {} : { authorization },
  });

  it.each(['Bearer abc123', 'bearer abc123', 'Bearer   abc123 ', basic('admin:abc123'), basic(':abc123')])(
    '%s is right',
    (text) => {
      expect(showsToken(asker(text), 'abc123')).toBe(true);
    },
  );
  it.each([
    undefined,
    '',
    'Bearer',
    'Bearer ',
    'Bearer abc12',
    'Bearer abc1234',
    'abc123',
    'Digest abc123',
    basic('abc123:x'),
    basic(''),
  ])('%s is wrong', (text) => {
    expect(showsToken(asker(text), 'abc123')).toBe(false);
  });
});

describe('host', () => {
  const names = hostNames('Plant-7.example.org', '0.0.0.0');

  it.each([
    'localhost',
    'LOCALHOST:8080',
    'ui.localhost',
    '127.0.0.1:8080',
    '192.168.1.20',
    '[::1]:8080',
    '[fe80::1]',
    'plant-7',
    'plant-7.local:8080',
    'plant-7.example.org',
    'plant-7.',
  ])('%s is ours', (host) => {
    expect(isOwnHost(host, names)).toBe(true);
  });
  it.each([
    undefined,
    '',
    'evil.example',
    'evil.example:8080',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '[evil]',
    '[::1',
    'a b',
    'plant-7.evil',
    '127.0.0.1:8080:1',
    'localhost:port',
  ])('%s is not', (host) => {
    expect(isOwnHost(host, names)).toBe(false);
  });
});
