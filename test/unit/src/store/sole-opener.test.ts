import { spawnSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { lockStore } from '../../../../src/store/sole-opener.ts';
import { createTempDir } from '../../../support/temp-dir.ts';
import { entry, held, openTestOutbox } from './harness.ts';

const FILE_LOCK = join(import.meta.dirname, '../../../../src/platform/file-lock.ts');
const OTHER = `
  const { lockFile } = await import(process.argv[1]);
  process.stdout.write(lockFile(process.argv[2]) === undefined ? 'held' : 'free');
`;

it('refuses a second opener before anything is touched that stands beside the store', async () => {
  using dir = createTempDir('sole');
  const path = dir.file('db', 'log');
  const { outbox } = await openTestOutbox(path);
  const look = (): string[] =>
    [dir.file('db'), path].map((each) => `${readdirSync(each).join(' ')} ${statSync(each).mtimeMs}`);
  const before = look();
  await expect(openTestOutbox(path)).rejects.toMatchObject({ code: 'GW_DATA_LOCKED' });
  expect(look()).toEqual(before);
  await outbox.append([entry('goes on')]);
  await outbox.close();
  const { outbox: again } = await openTestOutbox(path);
  expect(await held(again)).toEqual(['goes on']);
  await again.close();
});

it('does not keep a store locked that did not open', async () => {
  using dir = createTempDir('sole');
  const path = dir.file('log');
  const level = () => Promise.reject(new Error('no'));
  await expect(openTestOutbox(path, { level })).rejects.toMatchObject({ code: 'GW_STORE_OPEN' });
  const { outbox } = await openTestOutbox(path);
  await outbox.close();
  expect(readdirSync(join(path, '..')).toSorted()).toEqual(['log', 'log.clean']);
});

it('locks against processes that it cannot see, where there may be some', async () => {
  using dir = createTempDir('sole');
  const path = dir.file('db', 'log');
  const lock = await lockStore(path, true);
  // As another process would: the lock is the system's.
  const other = spawnSync(process.execPath, ['--input-type=module', '-e', OTHER, FILE_LOCK, `${path}.lock`]);
  expect(other.stdout.toString(), other.stderr.toString()).toBe('held');
  lock.release();
  const after = spawnSync(process.execPath, ['--input-type=module', '-e', OTHER, FILE_LOCK, `${path}.lock`]);
  expect(after.stdout.toString(), after.stderr.toString()).toBe('free');
});
