import { describe, expect, it } from 'vitest';
import { unsealLines } from '../../../../src/cli/unseal.ts';
import { GatewayError } from '../../../../src/core/errors.ts';
import { LIMITS } from '../../../../src/core/limits.ts';

/** Opens `[text]` and nothing else. */
async function unseal(chunks: readonly string[], signature: 'none' | 'unchecked' = 'none') {
  let out = '';
  let told = '';
  async function* input(): AsyncGenerator<Uint8Array> {
    for (const chunk of chunks) yield Buffer.from(chunk);
  }
  const unopened = await unsealLines(input(), {
    open: (text) => {
      if (!text.startsWith('[')) return Promise.reject(new GatewayError('GW_UNSEAL', 'odd'));
      return Promise.resolve({ body: Buffer.from(text.slice(1, -1)), signature });
    },
    write: (bytes) => void (out += Buffer.from(bytes).toString()),
    err: (text) => void (told += text),
  });
  return { out, told, unopened };
}

describe('unseal', () => {
  it('opens line by line, however the input is cut', async () => {
    for (const size of [1, 2, 3, 5, 100]) {
      const text = '[one]\n[two]\n\n[three]\n';
      const chunks = text.match(new RegExp(`[^]{1,${size}}`, 'g')) ?? [];
      expect(await unseal(chunks)).toEqual({ out: 'one\ntwo\nthree\n', told: '', unopened: 0 });
    }
  });

  it('adds no line end where the input has none', async () => {
    expect((await unseal(['[one]\n[two]'])).out).toBe('one\ntwo');
    expect((await unseal([])).out).toBe('');
  });

  it('tells the line of what it cannot open, and goes on', async () => {
    expect(await unseal(['[one]\nodd\n[two]\n'])).toEqual({
      out: 'one\ntwo\n',
      told: 'fieldpost unseal: line 2: odd\n',
      unopened: 1,
    });
  });

  it('says once that signatures are not checked', async () => {
    expect((await unseal(['[one]\n[two]\n'], 'unchecked')).told.match(/--signer/g)).toHaveLength(1);
  });

  it('passes over a line that is too long', async () => {
    const long = 'x'.repeat(LIMITS.unseal_line_bytes);
    expect(await unseal([`[${long}`, ']\n[two]\n'])).toMatchObject({ out: 'two\n', unopened: 1 });
  });
});
