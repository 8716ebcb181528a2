import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { writeText } from '../../../../src/cli/write-text.ts';

/** Takes one text at a time, each when it is told to. */
function slowReader(): { stream: Writable; take: () => void } {
  const waiting: (() => void)[] = [];
  const stream = new Writable({ highWaterMark: 1, write: (_chunk, _encoding, done) => void waiting.push(done) });
  return { stream, take: () => waiting.shift()?.() };
}

describe('writeText', () => {
  it('waits for a slow reader, and leaves no listener behind however often it waits', async () => {
    const { stream, take } = slowReader();
    for (let count = 0; count < 20; count += 1) {
      const written = writeText(stream, 'line\n');
      expect([stream.listenerCount('drain'), stream.listenerCount('close')]).toEqual([1, 1]);
      take();
      await written;
    }
    expect([stream.listenerCount('drain'), stream.listenerCount('close')]).toEqual([0, 0]);
  });

  it('goes on when the reader has gone', async () => {
    const { stream } = slowReader();
    const written = writeText(stream, 'line\n');
    stream.destroy();
    await written;
    expect([stream.listenerCount('drain'), stream.listenerCount('close')]).toEqual([0, 0]);
    stream.on('error', () => {});
    expect(writeText(stream, 'more\n')).toBeUndefined();
  });
});
