// Waiting for a condition, never for a time.

import { setTimeout as sleep } from 'node:timers/promises';

export interface WaitOptions {
  /** Default 10 000. */
  readonly timeoutMs?: number;
  /** Pause between two looks. Default 10. */
  readonly everyMs?: number;
  /** What is waited for, named in the error. */
  readonly what?: string;
}

/** Resolves with the first value of `condition` that is neither undefined, null nor false. Rejects after `timeoutMs`. */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: WaitOptions = {},
): Promise<Exclude<T, undefined | null | false>> {
  const { timeoutMs = 10_000, everyMs = 10 } = options;
  const endAtMs = performance.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value !== undefined && value !== null && value !== false) return value as Exclude<T, undefined | null | false>;
    if (performance.now() >= endAtMs) {
      throw new Error(`Waited ${timeoutMs} ms for ${options.what ?? condition.toString().slice(0, 200)}.`);
    }
    await sleep(everyMs);
  }
}
