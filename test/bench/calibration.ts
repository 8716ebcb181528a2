// A fixed piece of CPU work, so that figures of different runs and machines can be put beside each other.

import { crc32 } from 'node:zlib';
import { median } from './bench.ts';

const ROUNDS = 5;
const MESSAGES = 40_000;

export interface Calibration {
  /** Median of the rounds, in ms on one core. */
  readonly ms: number;
  /** Slowest over fastest round: how much else the machine did. */
  readonly spread: number;
}

/** About 100 ms on a server's core of 2023: JSON, UTF-8, checksums and sorting, which is what a gateway does. */
export function calibrate(): Calibration {
  work();
  const rounds = Array.from({ length: ROUNDS }, () => {
    const startedMs = performance.now();
    work();
    return performance.now() - startedMs;
  });
  return { ms: median(rounds), spread: Math.max(...rounds) / Math.min(...rounds) };
}

function work(): number {
  let sum = 0;
  const sums: number[] = [];
  for (let index = 0; index < MESSAGES; index += 1) {
    const text = JSON.stringify({
      device: `meter-${index % 500}`,
      seq: index,
      values: { voltage: 230 + index / 1e5, power: index * 1.5 },
    });
    const parsed = JSON.parse(text) as { seq: number };
    sum = crc32(Buffer.from(text), sum) + parsed.seq;
    sums.push(sum);
  }
  sums.sort((a, b) => a - b);
  return sum;
}
