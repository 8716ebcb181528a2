import { access, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  endRepair,
  endSalvage,
  forgetAside,
  layOut,
  leaveAsFound,
  setAside,
  takeBack,
} from '../../../../src/store/aside.ts';
import { GatewayError } from '../../../../src/core/errors.ts';

const WALL_MS = Date.UTC(2026, 0, 2);
let root: string;
let directory: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'fieldpost-aside-'));
  directory = join(root, 'log');
  await write('log', { CURRENT: 'MANIFEST-000001', '000003.log': 'as it was found' });
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function write(name: string, files: Readonly<Record<string, string>>): Promise<void> {
  await mkdir(join(root, name), { recursive: true });
  for (const [file, text] of Object.entries(files)) await writeFile(join(root, name, file), text);
}

const logOf = (name: string): Promise<string> => readFile(join(root, name, '000003.log'), 'utf8');

/** What LevelDB does: drops the log that it has read. */
async function rewrite(): Promise<void> {
  await rm(join(directory, '000003.log'));
  await write('log', { '000004.log': '' });
}

describe('an opening that a crash interrupted', () => {
  it('is undone by the next one, as often as that is', async () => {
    for (let life = 0; life < 3; life += 1) {
      await takeBack(directory);
      expect(await readdir(directory)).toEqual(['000003.log', 'CURRENT']);
      await setAside(directory, false);
      await rewrite();
    }
    await takeBack(directory);
    expect(await logOf('log')).toBe('as it was found');
    expect(await readdir(root)).toEqual(['log']);
  });

  it('leaves an aside that is not whole to nobody', async () => {
    await write('log.opening', { CURRENT: 'MANIFEST-000001' });
    await takeBack(directory);
    await setAside(directory, false);
    expect(await logOf('log.found')).toBe('as it was found');
    expect(await readdir(root)).toEqual(['log', 'log.found']);
  });

  it('is undone also from between the two renames that undo it', async () => {
    await setAside(directory, false);
    await rm(directory, { recursive: true });
    await write('log.undone', { CURRENT: 'MANIFEST-000009' });
    await takeBack(directory);
    expect(await logOf('log')).toBe('as it was found');
    expect(await readdir(root)).toEqual(['log']);
  });
});

describe('an opening that ended', () => {
  it('is not undone, also when a crash interrupts the removal of what was found', async () => {
    await setAside(directory, false);
    await rewrite();
    await forgetAside(directory);
    await write('log.undone', { CURRENT: 'MANIFEST-000001' });
    await takeBack(directory);
    expect(await readdir(directory)).toEqual(['000004.log', 'CURRENT']);
    expect(await readdir(root)).toEqual(['log']);
  });

  it('puts back what was found when it failed, but not under another process that has the store open', async () => {
    await setAside(directory, false);
    await rewrite();
    await leaveAsFound(directory, new GatewayError('GW_STORE_OPEN', 'no'));
    expect(await logOf('log')).toBe('as it was found');
    await setAside(directory, false);
    await rewrite();
    await leaveAsFound(directory, new GatewayError('GW_DATA_LOCKED', 'no'));
    expect(await readdir(directory)).toEqual(['000004.log', 'CURRENT']);
    expect(await readdir(root)).toEqual(['log']);
  });
});

describe('a salvage', () => {
  it('keeps what was found under a name of its own', async () => {
    await write('log.damaged-4-2025-12-31', {});
    await setAside(directory, false);
    await rewrite();
    await write('log.repairing', { 'old scrap': '' });
    expect(await layOut(directory)).toBe(`${directory}.repairing`);
    await writeFile(join(root, 'log.repairing', 'repaired'), '');
    const kept = await endSalvage(directory, WALL_MS);
    expect(kept).toBe(join(root, 'log.damaged-5-2026-01-02'));
    expect(await readdir(kept)).toEqual(['000003.log', 'CURRENT']);
    expect(await readdir(directory)).toEqual(['000003.log', 'CURRENT', 'repaired']);
    expect(await readdir(root)).toEqual(['log', 'log.damaged-4-2025-12-31', 'log.damaged-5-2026-01-02']);
  });

  it.each([['log', 'log.found'], ['log', 'log.damaged-1-2026-01-02'], ['log.damaged-1-2026-01-02']])(
    'goes on from where a crash interrupted it (%j, %j)',
    async (...names) => {
      await rm(directory, { recursive: true });
      if (names.includes('log')) await write('log', { '000004.log': 'what LevelDB made of it' });
      await write(names.at(-1) ?? '', { '000003.log': 'as it was found' });
      await write('log.repaired', { '000005.ldb': 'repaired' });
      await endRepair(directory, WALL_MS);
      await takeBack(directory);
      expect(await readdir(directory)).toEqual(['000005.ldb']);
      expect(await logOf('log.damaged-1-2026-01-02')).toBe('as it was found');
      expect(await readdir(root)).toEqual(['log', 'log.damaged-1-2026-01-02']);
    },
  );

  it('keeps the store as it stands when what was found is missing', async () => {
    await layOut(directory);
    const kept = await endSalvage(directory, WALL_MS);
    expect(await readFile(join(kept, 'CURRENT'), 'utf8')).toBe('MANIFEST-000001');
    await access(join(directory, 'CURRENT'));
  });
});
