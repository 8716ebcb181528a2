import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { SystemClock } from '../../../../src/platform/clock.ts';
import { verifyPassword } from '../../../../src/platform/password.ts';
import { keepPasswordHashes, removePasswordFiles } from '../../../../src/platform/password-file.ts';
import { createTempDir, type TempDir } from '../../../support/temp-dir.ts';

let directory: TempDir;
let path: string;

beforeEach(() => {
  directory = createTempDir('passwords');
  path = directory.file('secrets', 'passwords', 'field.json');
});

afterEach(() => directory.remove());

async function keep(passwords: Readonly<Record<string, string>>, signal = new AbortController().signal) {
  const told = new Map<string, string>();
  await keepPasswordHashes({
    dataDirectory: directory.path,
    owner: 'field',
    passwords: new Map(Object.entries(passwords)),
    clock: new SystemClock(),
    signal,
    onHash: (username, encoded) => void told.set(username, encoded),
  });
  return told;
}

const stored = (): Record<string, string> => JSON.parse(readFileSync(path, 'utf8')) as Record<string, string>;
const bits = (name: string): number => statSync(name).mode & 0o777;

it('keeps salted hashes for the owner only, and no clear password', async () => {
  const told = await keep({ pump: 'pump-secret', twin: 'pump-secret' });
  expect(Object.fromEntries(told)).toEqual(stored());
  expect(readFileSync(path, 'utf8')).not.toContain('pump-secret');
  const { pump, twin } = stored();
  expect(pump).not.toBe(twin);
  expect(await verifyPassword('pump-secret', pump ?? '')).toBe(true);
  expect([bits(path), bits(directory.file('secrets', 'passwords')), bits(directory.file('secrets'))]).toEqual([
    0o600, 0o700, 0o700,
  ]);
});

it('hashes anew only what has changed, and forgets who is gone', async () => {
  await keep({ pump: 'one', fan: 'two', lamp: 'three' });
  const before = stored();
  const { ino } = statSync(path);
  await keep({ pump: 'one', fan: 'two', lamp: 'three' });
  expect(statSync(path).ino).toBe(ino);
  await keep({ pump: 'one', fan: 'other' });
  const after = stored();
  expect(Object.keys(after)).toEqual(['pump', 'fan']);
  expect(after['pump']).toBe(before['pump']);
  expect(await verifyPassword('other', after['fan'] ?? '')).toBe(true);
  await keep({});
  expect(existsSync(path)).toBe(false);
});

it('makes anew what is no hash, and closes a file that others could read', async () => {
  await keep({ pump: 'one' });
  for (const damaged of ['{', 'null', '{"pump":"scrypt$1$2$3"}', '{"pump":1,"__proto__":"x"}']) {
    writeFileSync(path, damaged, { mode: 0o644 });
    await keep({ pump: 'one' });
    expect(await verifyPassword('one', stored()['pump'] ?? '')).toBe(true);
    expect(bits(path)).toBe(0o600);
  }
});

it('ends early when it is told to, with what it has', async () => {
  const stop = new AbortController();
  const names = Array.from({ length: 50 }, (_, index): [string, string] => [`user-${index}`, 'x']);
  const kept = keep(Object.fromEntries(names), stop.signal);
  stop.abort();
  expect((await kept).size).toBeLessThan(50);
});

it('removes the files of owners that are gone', async () => {
  await removePasswordFiles(directory.path, new Set());
  await keep({ pump: 'one' });
  await removePasswordFiles(directory.path, new Set(['field']));
  expect(existsSync(path)).toBe(true);
  await removePasswordFiles(directory.path, new Set(['other']));
  expect(existsSync(path)).toBe(false);
});
