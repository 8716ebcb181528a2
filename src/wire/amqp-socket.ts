// A byte stream as the `rhea` library sees it.

import type { Duplex } from 'node:stream';

/**
 * @param admits whether the library may have these bytes; where not, whoever says so deals with it.
 * @param onWrite told of everything that the library writes.
 */
export function librarySocket(
  stream: Duplex,
  admits: (chunk: Buffer) => boolean,
  onWrite: () => void = () => {},
): object {
  stream.on('error', () => {});
  return {
    get_id_string: () => 'peer',
    on: (event: string, listener: (chunk?: Buffer) => void) => {
      if (event === 'data') {
        stream.on('data', (chunk: Buffer) => {
          if (admits(chunk)) listener(chunk);
        });
      } else if (event === 'end') {
        stream.on('end', () => {
          listener();
          stream.end();
        });
      }
    },
    write: (bytes: Buffer) => {
      onWrite();
      return stream.write(bytes);
    },
    // The library ends it right after an error, before the CLOSE that says why is written.
    end: () => setImmediate(() => stream.end()),
    removeAllListeners: () => {},
    destroy: () => stream.destroy(),
  };
}
