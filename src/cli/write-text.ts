// Output of a command that may be long.

import type { Writable } from 'node:stream';

/** Resolves when more may be written, so that a slow reader bounds the memory of a long export. */
export function writeText(stream: Writable, text: string): void | Promise<void> {
  if (stream.write(text) || stream.destroyed) return undefined;
  return new Promise((resolve) => {
    // Whichever comes first takes both away: a long export waits often, and would pile up listeners.
    const done = (): void => {
      stream.off('drain', done).off('close', done);
      resolve();
    };
    stream.on('drain', done).on('close', done);
  });
}

/** Resolves when what was written to the streams has left the process, or never will. */
export async function flushed(...streams: readonly Writable[]): Promise<void> {
  await Promise.all(streams.map((stream) => new Promise<void>((resolve) => void stream.write('', () => resolve()))));
}
