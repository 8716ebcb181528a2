import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeDirectory, syncDirectory, writeFileAtomic } from '../../../../src/platform/files.ts';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fieldpost-files-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('writeFileAtomic', () => {
  it('writes a new file and replaces an old one, leaving nothing beside it', async () => {
    const path = join(folder, 'a.yaml');
    await writeFileAtomic(path, 'one');
    await writeFileAtomic(path, Buffer.from('two'));
    expect(await readFile(path, 'utf8')).toBe('two');
    expect(await readdir(folder)).toEqual(['a.yaml']);
  });

  it('sets the permissions that were asked for, whatever the umask', async () => {
    const before = process.umask(0o077);
    try {
      await writeFileAtomic(join(folder, 'open'), 'x', { mode: 0o664 });
      await writeFileAtomic(join(folder, 'closed'), 'x', { mode: 0o600 });
    } finally {
      process.umask(before);
    }
    expect((await stat(join(folder, 'open'))).mode & 0o777).toBe(0o664);
    expect((await stat(join(folder, 'closed'))).mode & 0o777).toBe(0o600);
  });

  it('shows readers the old or the new content, whole', async () => {
    const path = join(folder, 'a');
    const texts = ['a'.repeat(200_000), 'b'.repeat(300_000)];
    await writeFileAtomic(path, texts[0] ?? '');
    const writer = (async () => {
      for (let round = 0; round < 20; round += 1) await writeFileAtomic(path, texts[round % 2] ?? '');
    })();
    const reader = (async () => {
      for (let round = 0; round < 100; round += 1) expect(texts).toContain(await readFile(path, 'utf8'));
    })();
    await Promise.all([writer, reader]);
  });

  it('keeps writes to one file apart when they overlap', async () => {
    const path = join(folder, 'a');
    const texts = ['1', '2', '3', '4', '5', '6'].map((digit) => digit.repeat(100_000));
    await Promise.all(texts.map((text) => writeFileAtomic(path, text)));
    expect(texts).toContain(await readFile(path, 'utf8'));
    expect(await readdir(folder)).toEqual(['a']);
  });

  it('leaves the old file and no other when it fails', async () => {
    const path = join(folder, 'in-the-way');
    await mkdir(path);
    await writeFile(join(path, 'x'), 'x');
    await expect(writeFileAtomic(path, 'new')).rejects.toThrow(/EISDIR|ENOTEMPTY/);
    expect(await readdir(folder)).toEqual(['in-the-way']);
    await expect(writeFileAtomic(join(folder, 'no', 'such', 'folder'), 'new')).rejects.toThrow(/ENOENT/);
  });
});

describe('makeDirectory', () => {
  it('makes one that several want at once', async () => {
    const path = join(folder, 'files', 'captures');
    await Promise.all(Array.from({ length: 8 }, () => makeDirectory(path)));
    expect((await stat(path)).isDirectory()).toBe(true);
  });

  it('makes a folder and its parents, and is content when it is there', async () => {
    const path = join(folder, 'a', 'b', 'c');
    await makeDirectory(path, 0o700);
    await makeDirectory(path, 0o700);
    expect((await stat(path)).mode & 0o777).toBe(0o700);
    await syncDirectory(path);
  });

  it('ends where the system says for ever that the parent is missing', async () => {
    await expect(makeDirectory('/proc/fieldpost-test/data')).rejects.toThrow(/ENOENT/);
  });

  it('fails where a file stands in the way', async () => {
    await writeFile(join(folder, 'a'), 'x');
    await expect(makeDirectory(join(folder, 'a', 'b'))).rejects.toThrow(/ENOTDIR/);
  });
});
