// Small writes of one turn of the event loop leave as one. The protocol libraries write a packet in three or four pieces,
// which costs more in system calls and buffers than all the rest of a packet.

import type { Duplex } from 'node:stream';

/** What is gathered is written at once when it reaches this, about what a socket takes in one go. */
const GATHER_BYTES = 64 * 1024;
/** A piece as large as this is not copied. */
const LARGE_BYTES = 16 * 1024;

type WriteCallback = (error?: Error | null) => void;

/**
 * Makes `write` of the stream gather. A callback is called once its bytes are handed to the stream; what waits counts in
 * what `write` returns no more than one turn later. `end` and `destroy` behave as before: `end` writes what waits.
 */
export function coalesceWrites(stream: Duplex): void {
  const write = stream.write.bind(stream) as (chunk: Buffer, callback?: WriteCallback) => boolean;
  const end = stream.end.bind(stream) as (...args: unknown[]) => Duplex;
  let pieces: Buffer[] = [];
  let bytes = 0;
  let callbacks: WriteCallback[] = [];
  let scheduled = false;

  const flush = (): void => {
    scheduled = false;
    if (pieces.length === 0) return;
    const [first] = pieces;
    const chunk = pieces.length === 1 && first !== undefined ? first : Buffer.concat(pieces, bytes);
    const told = callbacks;
    pieces = [];
    bytes = 0;
    callbacks = [];
    if (told.length === 0) write(chunk);
    else {
      write(chunk, (error) => {
        for (const callback of told) callback(error);
      });
    }
  };

  const gather = (data: string | Uint8Array, ...rest: unknown[]): boolean => {
    const encoding = typeof rest[0] === 'string' ? (rest[0] as BufferEncoding) : 'utf8';
    const piece = typeof data === 'string' ? Buffer.from(data, encoding) : (data as Buffer);
    const callback = rest.find((item): item is WriteCallback => typeof item === 'function');
    if (piece.length >= LARGE_BYTES) flush();
    pieces.push(piece);
    bytes += piece.length;
    if (callback !== undefined) callbacks.push(callback);
    if (bytes >= GATHER_BYTES || piece.length >= LARGE_BYTES) flush();
    else if (!scheduled) {
      scheduled = true;
      // After the callbacks of this phase of the loop, before the next one.
      process.nextTick(flush);
    }
    return !stream.writableNeedDrain;
  };

  stream.write = gather as typeof stream.write;
  // What is gathered here needs no corking of the stream's own.
  stream.cork = () => {};
  stream.uncork = () => {};
  stream.end = ((...args: unknown[]) => {
    flush();
    return end(...args);
  }) as typeof stream.end;
}
