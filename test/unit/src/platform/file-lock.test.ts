import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { lockFile } from '../../../../src/platform/file-lock.ts';
import { createTempDir } from '../../../support/temp-dir.ts';
import { waitFor } from '../../../support/wait.ts';

const HOLDER = `
  const { lockFile } = await import(process.argv[1]);
  process.stdout.write(lockFile(process.argv[2]) === undefined ? 'refused' : 'locked');
  setInterval(() => {}, 1000);
`;
const MODULE = join(import.meta.dirname, '../../../../src/platform/file-lock.ts');

it('is held by one at a time, and leaves the file empty', () => {
  using dir = createTempDir('lock');
  const path = dir.file('log.lock');
  const lock = lockFile(path);
  expect(lock).toBeDefined();
  expect(lockFile(path)).toBeUndefined();
  expect(readdirSync(dir.path)).toEqual(['log.lock']);
  lock?.release();
  lock?.release();
  const next = lockFile(path);
  expect(next).toBeDefined();
  next?.release();
  expect(readFileSync(path)).toHaveLength(0);
});

it('ends with the process that holds it', async () => {
  using dir = createTempDir('lock');
  const path = dir.file('log.lock');
  const child = spawn(process.execPath, ['--input-type=module', '-e', HOLDER, MODULE, path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  expect(said.toString()).toBe('locked');
  expect(lockFile(path)).toBeUndefined();
  child.kill('SIGKILL');
  await once(child, 'exit');
  await waitFor(() => {
    const lock = lockFile(path);
    lock?.release();
    return lock !== undefined;
  });
});

it('says so when the file cannot be made', () => {
  using dir = createTempDir('lock');
  expect(() => lockFile(dir.file('nowhere', 'log.lock'))).toThrow('unable to open');
});
