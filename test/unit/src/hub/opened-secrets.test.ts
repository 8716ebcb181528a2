// Secrets that stay open: none passes for another's or for an earlier one, and there are no more than allowed.

import { describe, expect, it } from 'vitest';
import { rememberOpened } from '../../../../src/hub/opened-secrets.ts';
import { createSealer, type Sealer } from '../../../../src/platform/sealing.ts';

function rig(most: number): { readonly sealer: Sealer; readonly opened: string[] } {
  const opened: string[] = [];
  const strict = createSealer(Buffer.alloc(32, 3));
  const counting: Sealer = {
    ...strict,
    unseal(sealed, context) {
      opened.push(context);
      return strict.unseal(sealed, context);
    },
  };
  return { sealer: rememberOpened(counting, most), opened };
}

describe('remembered secrets', () => {
  it('are opened once', () => {
    const { sealer, opened } = rig(2);
    const sealed = sealer.seal('key', 'd/a');
    expect([sealer.unseal(sealed, 'd/a'), sealer.unseal(sealed, 'd/a')]).toEqual(['key', 'key']);
    expect(opened).toEqual(['d/a']);
  });

  it('are opened anew when another was sealed for the same context', () => {
    const { sealer } = rig(2);
    const first = sealer.seal('old', 'd/a');
    const second = sealer.seal('new', 'd/a');
    expect(sealer.unseal(first, 'd/a')).toBe('old');
    expect(sealer.unseal(second, 'd/a')).toBe('new');
  });

  it('do not open what was moved to another context', () => {
    const { sealer } = rig(2);
    const sealed = sealer.seal('key', 'd/a');
    sealer.unseal(sealed, 'd/a');
    expect(() => sealer.unseal(sealed, 'd/b')).toThrow(expect.objectContaining({ code: 'GW_SEALED' }));
  });

  it('are as many as allowed: the oldest goes', () => {
    const { sealer, opened } = rig(2);
    const sealed = ['d/a', 'd/b', 'd/c'].map((context) => [sealer.seal(context, context), context] as const);
    for (const [text, context] of sealed) sealer.unseal(text, context);
    for (const [text, context] of [...sealed].reverse()) sealer.unseal(text, context);
    expect(opened).toEqual(['d/a', 'd/b', 'd/c', 'd/a']);
  });
});
