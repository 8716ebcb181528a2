// What a process costs, from the kernel's own counters (proc(5)).

import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { median } from './bench.ts';

/** USER_HZ, which is 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Seconds of CPU that the process has used in user and kernel mode, all threads. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The second field is the name in brackets and may hold blanks; utime and stime are the 14th and 15th.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** MB (10^6 bytes) resident: VmRSS of proc(5), pages shared with other processes included. */
export function rssMb(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (match === null) throw new Error(`Process ${pid} has no VmRSS.`);
  return (Number(match[1]) * 1024) / 1e6;
}

/** Median of `samples` looks, one a second, after `settleMs` in which it may come to rest. */
export async function idleRssMb(pid: number, settleMs: number, samples = 10): Promise<number> {
  await sleep(settleMs);
  const seen: number[] = [];
  for (let index = 0; index < samples; index += 1) {
    seen.push(rssMb(pid));
    await sleep(1000);
  }
  return median(seen);
}

/** Runs `work` and returns the share of one core that the process used meanwhile, in percent. */
export async function cpuPercentDuring(pid: number, work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  const before = cpuSeconds(pid);
  await work();
  return ((cpuSeconds(pid) - before) / (performance.now() - startedMs)) * 100_000;
}
