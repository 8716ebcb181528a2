import { X509Certificate } from 'node:crypto';
import { readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openPki, type PkiOptions } from '../../../../src/platform/pki.ts';
import { createSealer } from '../../../../src/platform/sealing.ts';
import { run } from '../../../support/command.ts';
import { createTempDir } from '../../../support/temp-dir.ts';

const DAY_MS = 86_400_000;
const NOW = Date.UTC(2026, 10, 21);
const BUILT = NOW - 10 * DAY_MS;

const sealer = createSealer(Buffer.alloc(32, 7));
const KEYS = ['ca.key', 'hub.key', 'hub-ecdsa.key'] as const;

function options(dataDirectory: string, more: Partial<PkiOptions> = {}): PkiOptions {
  return {
    dataDirectory,
    sealer,
    hostName: 'hub.example',
    names: ['localhost', '127.0.0.1', '::1', 'hub.example'],
    builtAtMs: BUILT,
    wallMs: NOW,
    ...more,
  };
}

function leaves(dir: { file(...parts: string[]): string }): readonly X509Certificate[] {
  return ['hub', 'hub-ecdsa'].map((name) => new X509Certificate(readFileSync(dir.file('pki', `${name}.pem`))));
}

describe('the certificates of the hub', () => {
  it('are an authority and a pair for RSA and ECDSA that OpenSSL verifies', async () => {
    using dir = createTempDir('pki');
    const pki = await openPki(options(dir.path));
    expect(pki.isChanged).toBe(true);
    for (const name of ['hub', 'hub-ecdsa']) {
      for (const check of [
        ['-verify_hostname', 'hub.example'],
        ['-verify_ip', '127.0.0.1'],
        ['-verify_ip', '::1'],
      ]) {
        await run('openssl', [
          'verify', '-x509_strict', '-purpose', 'sslserver', ...check, '-attime', String((NOW + DAY_MS) / 1000),
          '-CAfile', pki.caPath, dir.file('pki', `${name}.pem`),
        ]); // prettier-ignore
      }
    }
    const [rsa, ecdsa] = leaves(dir);
    expect(rsa?.publicKey.asymmetricKeyDetails?.modulusLength).toBe(2048);
    expect(ecdsa?.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1');
    expect(rsa?.subject).toBe('CN=hub.example');
    expect(rsa?.validFromDate.getTime()).toBe(BUILT);
    expect(pki.expiresAtMs).toBe(NOW + 365 * DAY_MS);
    const authority = new X509Certificate(readFileSync(pki.caPath));
    expect(authority.ca).toBe(true);
    expect(authority.validToDate.getTime()).toBeGreaterThan(NOW + 10 * 365 * DAY_MS);
    for (const name of KEYS) {
      expect(statSync(dir.file('pki', name)).mode & 0o777).toBe(0o600);
    }
  });

  it('stay until two thirds of their time, then are made anew for the same keys', async () => {
    using dir = createTempDir('pki');
    const first = await openPki(options(dir.path));
    const later = await openPki(options(dir.path, { wallMs: NOW + 240 * DAY_MS }));
    expect(later).toEqual({ ...first, isChanged: false });
    const renewed = await openPki(options(dir.path, { wallMs: NOW + 250 * DAY_MS }));
    expect(renewed.isChanged).toBe(true);
    expect(renewed.expiresAtMs).toBe(NOW + 615 * DAY_MS);
    expect(renewed.certificates.map(({ key }) => key)).toEqual(first.certificates.map(({ key }) => key));
    expect(readFileSync(renewed.caPath, 'utf8')).toBe(
      first.certificates[0]?.certificate.slice(-readFileSync(first.caPath).length),
    );
  });

  it('are made anew for another name, under the same authority', async () => {
    using dir = createTempDir('pki');
    const { caPath } = await openPki(options(dir.path));
    const authority = readFileSync(caPath, 'utf8');
    const fewer = await openPki(options(dir.path, { names: ['localhost'] }));
    expect(fewer.isChanged).toBe(false);
    const renamed = await openPki(options(dir.path, { hostName: 'other.example' }));
    expect(renamed.isChanged).toBe(true);
    expect(readFileSync(caPath, 'utf8')).toBe(authority);
    for (const leaf of leaves(dir)) expect(leaf.checkHost('other.example', { subject: 'never' })).toBe('other.example');
  });

  it('do not care for a clock that stands before the build', async () => {
    using dir = createTempDir('pki');
    const { expiresAtMs } = await openPki(options(dir.path, { wallMs: 0 }));
    expect(expiresAtMs).toBe(BUILT + 365 * DAY_MS);
    expect((await openPki(options(dir.path, { wallMs: 0 }))).isChanged).toBe(false);
  });

  it('are made anew where a file is damaged or missing', async () => {
    using dir = createTempDir('pki');
    await openPki(options(dir.path));
    writeFileSync(dir.file('pki', 'hub.pem'), 'not a certificate');
    unlinkSync(dir.file('pki', 'hub-ecdsa.key'));
    expect((await openPki(options(dir.path))).isChanged).toBe(true);
    expect((await openPki(options(dir.path))).isChanged).toBe(false);
  });

  it('go on without the key of their authority until a new one is needed, and say so then', async () => {
    using dir = createTempDir('pki');
    await openPki(options(dir.path));
    unlinkSync(dir.file('pki', 'ca.key'));
    expect((await openPki(options(dir.path))).isChanged).toBe(false);
    await expect(openPki(options(dir.path, { hostName: 'other.example' }))).rejects.toThrow(/ca\.key is gone/);
    writeFileSync(
      dir.file('pki', 'ca.key'),
      sealer.unseal(readFileSync(dir.file('pki', 'hub.key'), 'utf8').trim(), 'pki/hub.key'),
    );
    await expect(openPki(options(dir.path))).rejects.toThrow(/do not belong together/);
  });

  it('keep their keys sealed, and seal those that were put there as PEM', async () => {
    using dir = createTempDir('pki');
    const first = await openPki(options(dir.path));
    const isSealed = (name: string): boolean => /^sealed:1:\S+\n$/.test(readFileSync(dir.file('pki', name), 'utf8'));
    expect(KEYS.filter(isSealed)).toEqual(KEYS);
    for (const name of KEYS) {
      const path = dir.file('pki', name);
      writeFileSync(path, sealer.unseal(readFileSync(path, 'utf8').trim(), `pki/${name}`), { mode: 0o644 });
    }
    expect(await openPki(options(dir.path))).toEqual({ ...first, isChanged: false });
    expect(KEYS.filter(isSealed)).toEqual(KEYS);
    for (const name of KEYS) expect(statSync(dir.file('pki', name)).mode & 0o777).toBe(0o600);
    const other = createSealer(Buffer.alloc(32, 8));
    await expect(openPki(options(dir.path, { sealer: other }))).rejects.toThrow(
      /sealed with the master key.*remove .*pki/,
    );
  });
});
