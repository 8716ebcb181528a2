import { describe, expect, it } from 'vitest';
import { createLineWriter } from '../../../../src/cli/line-writer.ts';
import { LIMITS } from '../../../../src/core/limits.ts';

/** Takes what is written at once, until it stands still. */
function reader() {
  const taken: string[] = [];
  let goOn: (() => void) | undefined;
  return {
    taken,
    standStill: false,
    out(text: string): void | Promise<void> {
      taken.push(text);
      if (this.standStill) return new Promise((resolve) => (goOn = resolve));
    },
    async goOn(): Promise<void> {
      this.standStill = false;
      goOn?.();
      await Promise.resolve();
      await Promise.resolve();
    },
  };
}

describe('createLineWriter', () => {
  it('passes lines on while the reader keeps up', async () => {
    const slow = reader();
    const lines = createLineWriter({ out: (text) => slow.out(text), onLost: () => expect.unreachable() });
    lines.write('a\n');
    lines.write('b\n');
    expect(slow.taken).toEqual(['a\n', 'b\n']);
    await lines.written();
  });

  it('keeps a bounded number of bytes while it stands still, in order, and says how many lines were lost', async () => {
    const slow = reader();
    slow.standStill = true;
    const lines = createLineWriter({
      out: (text) => slow.out(text),
      onLost: (count) => lines.write(`${count} lost\n`),
    });
    const line = `${'x'.repeat(1023)}\n`;
    const room = LIMITS.log_waiting_bytes / 1024;
    for (let count = 0; count < 1 + room + 7; count += 1) lines.write(line);
    // Nothing more is given to a stream that is full.
    expect(slow.taken).toEqual([line]);
    await slow.goOn();
    await lines.written();
    expect(slow.taken).toEqual([line, line.repeat(room), '7 lost\n']);
    lines.write('after\n');
    expect(slow.taken.at(-1)).toBe('after\n');
  });
});
