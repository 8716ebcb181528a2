import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { keepAside } from '../../../../src/store/aside.ts';

it('keeps the store as it stands when the copy from before its opening is missing', async () => {
  const root = await mkdtemp(join(tmpdir(), 'fieldpost-aside-'));
  try {
    const directory = join(root, 'log');
    await mkdir(directory);
    await writeFile(join(directory, 'CURRENT'), 'MANIFEST-000001');
    const kept = await keepAside(directory, Date.UTC(2026, 0, 2));
    expect(kept).toBe(join(root, 'log.damaged-1-2026-01-02'));
    expect(await readFile(join(kept, 'CURRENT'), 'utf8')).toBe('MANIFEST-000001');
    expect(await readdir(directory)).toEqual(['CURRENT']);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
});
