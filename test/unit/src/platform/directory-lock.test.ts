import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockDirectory } from '../../../../src/platform/directory-lock.ts';

const HOLDER = `
  const { lockDirectory } = await import(process.argv[1]);
  try {
    const lock = await lockDirectory(process.argv[2]);
    process.stdout.write('locked\\n');
    process.stdin.on('end', () => lock.release().then(() => process.exit(0))).resume();
  } catch (error) {
    process.stdout.write(error.code + '\\n');
    process.exit(3);
  }
`;
const MODULE = join(import.meta.dirname, '../../../../src/platform/directory-lock.ts');

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fieldpost-lock-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function holder() {
  const child = spawn(process.execPath, ['--input-type=module', '-e', HOLDER, MODULE, folder], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, said: line.toString().trim() };
}

describe('lockDirectory', () => {
  it('refuses a second instance while the first lives, naming it, and not after it stopped', async () => {
    const { child, said } = await holder();
    expect(said).toBe('locked');
    await expect(lockDirectory(folder)).rejects.toMatchObject({
      code: 'GW_DATA_LOCKED',
      message: expect.stringContaining(`process ${child.pid}`) as string,
    });
    expect((await readdir(folder)).toSorted()).toEqual(['lock']);
    child.stdin.end();
    await once(child, 'exit');
    const lock = await lockDirectory(folder);
    await lock.release();
    await lock.release();
    expect(await readdir(folder)).toEqual([]);
  });

  it('takes over what a killed process left', async () => {
    const { child } = await holder();
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await readdir(folder)).toEqual(['lock']);
    const lock = await lockDirectory(folder);
    expect(await readlink(join(folder, 'lock'))).toMatch(new RegExp(`^${process.pid} `));
    await lock.release();
  });

  it('knows that a process id was given to another process since, and takes rubbish for stale', async () => {
    const path = join(folder, 'lock');
    for (const left of [`${process.ppid} 00000000-0000-0000-0000-000000000000 1`, 'rubbish', '-1 x 0']) {
      await symlink(left, path);
      await (await lockDirectory(folder)).release();
      // As earlier releases made it.
      await writeFile(path, `${left}\n`);
      await (await lockDirectory(folder)).release();
    }
    await writeFile(path, '');
    await (await lockDirectory(folder)).release();
    expect(await readdir(folder)).toEqual([]);
  });

  it('lets one of many that start at once have it', async () => {
    await writeFile(join(folder, 'lock'), '1 stale 1\n');
    const holders = await Promise.all(Array.from({ length: 4 }, holder));
    const said = holders.map((one) => one.said).toSorted();
    expect(said).toEqual(['GW_DATA_LOCKED', 'GW_DATA_LOCKED', 'GW_DATA_LOCKED', 'locked']);
    for (const { child } of holders) child.stdin.end();
  });

  it('says what to do when the directory cannot be written', async () => {
    await expect(lockDirectory(join(folder, 'nowhere'))).rejects.toMatchObject({ code: 'GW_DATA_DIRECTORY' });
  });
});
