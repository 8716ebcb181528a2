// Lines of the log on their way to whoever reads them. A reader that stands still (a collector that hangs, a terminal on hold)
// costs lines, which are counted, and never the gateway's memory.

import { LIMITS } from '../core/limits.ts';

export interface LineWriter {
  write(line: string): void;
  /** Resolves when nothing waits here any more. */
  written(): Promise<void>;
}

export interface LineWriterOptions {
  /** Resolves when more may be written (`writeText`). */
  readonly out: (text: string) => void | Promise<void>;
  /** Called when the reader goes on, with the number of lines that there was no room for; may write. */
  readonly onLost: (lines: number) => void;
}

export function createLineWriter({ out, onLost }: LineWriterOptions): LineWriter {
  let waiting: string[] = [];
  let waitingBytes = 0;
  let lost = 0;
  /** Undefined while the reader keeps up. */
  let blocked: Promise<void> | undefined;

  function send(text: string): void {
    blocked = out(text)?.then(goOn);
  }

  function goOn(): void {
    blocked = undefined;
    const text = waiting.join('');
    waiting = [];
    waitingBytes = 0;
    if (text !== '') send(text);
    const lines = lost;
    lost = 0;
    if (lines > 0) onLost(lines);
  }

  return {
    write(line) {
      const bytes = Buffer.byteLength(line);
      if (blocked === undefined) send(line);
      else if (waitingBytes + bytes > LIMITS.log_waiting_bytes) lost += 1;
      else {
        waiting.push(line);
        waitingBytes += bytes;
      }
    },
    async written() {
      while (blocked !== undefined) await blocked;
    },
  };
}
