// What a sync costs on the disk of a bench, and whether figures from it count.

import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { quantile } from './bench.ts';

const PROBE_SYNCS = 200;
const PROBE_BYTES = 4096;
/** A device that answers sooner than this does not sync to anything. */
const TRUSTED_SYNC_MS = 0.1;

export interface SyncProbe {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** "bare sync p50 … p99 …" */
  readonly text: string;
  /** Why figures from this disk do not count, if they do not. */
  readonly doesNotCount: string | undefined;
}

/** Appends 4 KB and syncs, again and again, to a file below `directory`. */
export function probeSync(directory: string): SyncProbe {
  const file = join(directory, 'sync-probe');
  const bytes = Buffer.alloc(PROBE_BYTES, 0x5a);
  const descriptor = openSync(file, 'w');
  const elapsedMs: number[] = [];
  try {
    for (let index = 0; index < PROBE_SYNCS; index += 1) {
      const startedMs = performance.now();
      writeSync(descriptor, bytes);
      fdatasyncSync(descriptor);
      elapsedMs.push(performance.now() - startedMs);
    }
  } finally {
    closeSync(descriptor);
    rmSync(file);
  }
  const p50Ms = quantile(elapsedMs, 0.5);
  const p99Ms = quantile(elapsedMs, 0.99);
  return {
    p50Ms,
    p99Ms,
    text: `bare sync p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms`,
    doesNotCount:
      p50Ms < TRUSTED_SYNC_MS ? `a bare sync takes ${p50Ms.toFixed(3)} ms: this disk does not sync` : undefined,
  };
}
