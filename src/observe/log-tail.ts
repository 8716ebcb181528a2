// The last lines of the log, for whoever asks for them from afar.

import { LIMITS } from '../core/limits.ts';

export interface LogTail {
  add(line: string): void;
  /** The last of them without their ends, the oldest first. */
  last(lines: number): readonly string[];
}

/** Keeps up to LIMITS.log_tail_lines, each cut off at LIMITS.log_tail_line_chars. */
export function createLogTail(): LogTail {
  /** A ring: the next line replaces the oldest. */
  const kept: string[] = [];
  let next = 0;
  return {
    add(line) {
      kept[next] = line.trimEnd().slice(0, LIMITS.log_tail_line_chars);
      next = (next + 1) % LIMITS.log_tail_lines;
    },
    last: (lines) => [...kept.slice(next), ...kept.slice(0, next)].slice(-lines),
  };
}
