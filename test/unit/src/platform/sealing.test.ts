import { readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createSealer, openSealer } from '../../../../src/platform/sealing.ts';
import { createTempDir } from '../../../support/temp-dir.ts';

const KEY = Buffer.alloc(32, 7);

describe('a sealer', () => {
  const sealer = createSealer(KEY);

  it('gives back what it sealed, and never the same text twice', () => {
    for (const secret of ['', 'key', 'ÿ→𝄞'.repeat(500)]) {
      const sealed = sealer.seal(secret, 'hub/d1');
      expect(sealed).toMatch(new RegExp(`^sealed:1:${sealer.keyId}:`));
      expect(sealed).not.toBe(sealer.seal(secret, 'hub/d1'));
      if (secret !== '') expect(sealed).not.toContain(secret);
      expect(sealer.unseal(sealed, 'hub/d1')).toBe(secret);
    }
  });

  it('refuses what was changed anywhere, belongs elsewhere, or was sealed by another key', () => {
    const sealed = sealer.seal('secret', 'hub/d1');
    const from = sealed.lastIndexOf(':') + 1;
    for (let at = from; at < sealed.length - 1; at += 1) {
      const other = sealed[at] === 'A' ? 'B' : 'A';
      const changed = `${sealed.slice(0, at)}${other}${sealed.slice(at + 1)}`;
      expect(() => sealer.unseal(changed, 'hub/d1')).toThrow(expect.objectContaining({ code: 'GW_SEALED' }));
    }
    for (const text of ['', 'plain', sealed.slice(0, from), sealed.slice(0, from + 20)]) {
      expect(() => sealer.unseal(text, 'hub/d1')).toThrow(expect.objectContaining({ code: 'GW_SEALED' }));
    }
    expect(() => sealer.unseal(sealed, 'hub/d2')).toThrow(/belongs elsewhere/);
    expect(() => createSealer(Buffer.alloc(32, 8)).unseal(sealed, 'hub/d1')).toThrow(/Put back that key/);
  });
});

describe('the master key', () => {
  it('is made once, for its owner only, and stays', async () => {
    using dir = createTempDir();
    const first = await openSealer({ dataDirectory: dir.path, env: {} });
    expect(statSync(dir.file('secrets', 'master.key')).mode & 0o777).toBe(0o600);
    const again = await openSealer({ dataDirectory: dir.path, env: {} });
    expect(again.unseal(first.seal('s', 'c'), 'c')).toBe('s');
  });

  it('is never replaced when it was lost, changed or damaged', async () => {
    using dir = createTempDir();
    const path = dir.file('secrets', 'master.key');
    const sealed = (await openSealer({ dataDirectory: dir.path, env: {} })).seal('s', 'c');
    const kept = readFileSync(path);
    unlinkSync(path);
    await expect(openSealer({ dataDirectory: dir.path, env: {} })).rejects.toThrow(/is missing.*Put it back/);
    writeFileSync(path, `${KEY.toString('base64')}\n`);
    await expect(openSealer({ dataDirectory: dir.path, env: {} })).rejects.toThrow(/Put back that key/);
    writeFileSync(path, kept.subarray(0, 20));
    await expect(openSealer({ dataDirectory: dir.path, env: {} })).rejects.toThrow(/is no master key/);
    writeFileSync(path, kept);
    expect((await openSealer({ dataDirectory: dir.path, env: {} })).unseal(sealed, 'c')).toBe('s');
  });

  it('comes from a credential of systemd, as bytes or as text', async () => {
    using dir = createTempDir();
    const credentials = dir.directory('credentials');
    const dataDirectory = dir.directory('data');
    const env = { CREDENTIALS_DIRECTORY: credentials };
    writeFileSync(dir.file('credentials', 'fieldpost-master-key'), KEY);
    expect((await openSealer({ dataDirectory, env })).keyId).toBe(createSealer(KEY).keyId);
    writeFileSync(dir.file('credentials', 'fieldpost-master-key'), KEY.toString('base64'));
    expect((await openSealer({ dataDirectory, env })).keyId).toBe(createSealer(KEY).keyId);
    expect(() => statSync(dir.file('data', 'secrets', 'master.key'))).toThrow(/ENOENT/);
    await expect(openSealer({ dataDirectory, env: {} })).rejects.toThrow(/is missing/);
  });
});
