// Output of a command that may be long.

import type { Writable } from 'node:stream';

/** Resolves when more may be written, so that a slow reader bounds the memory of a long export. */
export function writeText(stream: Writable, text: string | Uint8Array): void | Promise<void> {
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

/** What Node does not show of a stream on a terminal. */
interface StreamOfTerminal {
  readonly _handle?: { readonly setBlocking?: (isBlocking: boolean) => void };
}

/**
 * Node writes to a terminal synchronously (nodejs.org/api/process.html, "A note on process I/O"): one on hold would stop all
 * of the process. From now on it waits as a pipe does.
 */
export function writeAsynchronously(...streams: readonly NodeJS.WriteStream[]): void {
  for (const stream of streams) if (stream.isTTY) (stream as StreamOfTerminal)._handle?.setBlocking?.(false);
}
