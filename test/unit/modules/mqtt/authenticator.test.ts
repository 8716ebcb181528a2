import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createAuthenticator } from '../../../../modules/mqtt/authenticator.ts';
import { mqttConfig } from '../../../../modules/mqtt/config.ts';
import { hashPassword } from '../../../../src/platform/password.ts';
import { createTempDir } from '../../../support/temp-dir.ts';
import { record } from './harness.ts';

const NEVER = new AbortController().signal;

function authenticator(clients: readonly object[], dataDirectory = '/dev/null') {
  const created = createAuthenticator(mqttConfig.parse({ clients }), record({ dataDirectory }).context);
  return {
    hashPasswords: (): Promise<void> => created.hashPasswords(NEVER),
    login: async (username: string, password: string): Promise<string | undefined> =>
      (await created.authenticate({ username, password, remoteAddress: '10.0.0.9' }))?.username,
  };
}

it('knows clear passwords at once, and refuses all others the same way before and after they are hashed', async () => {
  using directory = createTempDir('mqtt');
  const { login, hashPasswords } = authenticator([{ username: 'pump', password: 'right' }], directory.path);
  for (const hashed of [false, true]) {
    if (hashed) await hashPasswords();
    expect(await login('pump', 'right')).toBe('pump');
    expect(await login('pump', 'wrong')).toBeUndefined();
    expect(await login('pump', '')).toBeUndefined();
    expect(await login('nobody', 'right')).toBeUndefined();
  }
  const text = readFileSync(directory.file('secrets', 'passwords', 'field-broker.json'), 'utf8');
  expect(text).toMatch(/"pump": "scrypt\$/);
  expect(text).not.toContain('right');
});

it('does not take the password of the last run any more', async () => {
  using directory = createTempDir('mqtt');
  await authenticator([{ username: 'pump', password: 'old' }], directory.path).hashPasswords();
  const { login, hashPasswords } = authenticator([{ username: 'pump', password: 'new' }], directory.path);
  const hashing = hashPasswords();
  expect(await login('pump', 'old')).toBeUndefined();
  await hashing;
  expect([await login('pump', 'old'), await login('pump', 'new')]).toEqual([undefined, 'pump']);
});

it('pays for a slow hash once a client and run, not once a connection', async () => {
  const { login } = authenticator([{ username: 'pump', password_hash: await hashPassword('right') }]);
  // Of the processor, which others who use it do not change.
  const usedMicros = (since?: NodeJS.CpuUsage): number => {
    const { user, system } = process.cpuUsage(since);
    return user + system;
  };
  const before = process.cpuUsage();
  await login('pump', 'right');
  const slowMicros = usedMicros(before);
  const start = process.cpuUsage();
  for (let count = 0; count < 1000; count += 1) expect(await login('pump', 'right')).toBe('pump');
  expect(usedMicros(start)).toBeLessThan(100 * slowMicros);
});

it('goes on without a place for the hashes', async () => {
  const { login, hashPasswords } = authenticator([{ username: 'pump', password: 'right' }]);
  await hashPasswords();
  expect(await login('pump', 'right')).toBe('pump');
});

it('lets those without a name publish as devices of nobody else, and send no commands', async () => {
  const clients = [
    { username: 'pump', password: 'right' },
    { username: 'bridge', password: 'right', devices: ['fan-1', 'fan-2'] },
    { username: 'tool', password: 'right', devices: ['*'] },
  ];
  const config = mqttConfig.parse({ clients, anonymous: 'all' });
  const login = { username: undefined, password: undefined, remoteAddress: '10.0.0.9' };
  const nobody = await createAuthenticator(config, record().context).authenticate(login);
  const devices = ['pump', 'fan-2', 'bridge', 'valve'];
  expect(devices.filter((device) => nobody?.mayPublishAs(device))).toEqual(['bridge', 'valve']);
  expect(nobody?.everyDevice).toBe(false);
  expect(devices.filter((device) => nobody?.mayCommand(device))).toEqual([]);
});
