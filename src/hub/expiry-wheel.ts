// Calls back when the wall clock reaches a moment: one timer for all, in steps of a second. Many sessions end with their tokens.

import type { Clock } from '../core/clock.ts';

const STEP_MS = 1000;

export interface ExpiryWheel {
  /** Replaces what was set for the same id; undefined: never. Wall clock in ms. */
  set(id: string, atMs: number | undefined): void;
  readonly size: number;
  stop(): void;
}

/** @param onDue told at most a step late, also when the clock was set forward. */
export function createExpiryWheel(clock: Clock, onDue: (id: string) => void): ExpiryWheel {
  /** Ids by the step in which they are due. */
  const steps = new Map<number, Set<string>>();
  const stepOf = new Map<string, number>();
  let cancel: (() => void) | undefined;
  let isStopped = false;

  function remove(id: string): void {
    const step = stepOf.get(id);
    if (step === undefined) return;
    stepOf.delete(id);
    const ids = steps.get(step);
    ids?.delete(id);
    if (ids?.size === 0) steps.delete(step);
  }

  function turn(): void {
    cancel = undefined;
    const now = Math.floor(clock.wallMs() / STEP_MS);
    const due = [...steps].filter(([step]) => step <= now).flatMap(([, ids]) => [...ids]);
    for (const id of due) {
      remove(id);
      onDue(id);
    }
    arm();
  }

  function arm(): void {
    if (cancel !== undefined || stepOf.size === 0 || isStopped) return;
    cancel = clock.after(STEP_MS, turn);
  }

  return {
    get size() {
      return stepOf.size;
    },
    set(id, atMs) {
      remove(id);
      if (atMs === undefined) return;
      const step = Math.ceil(atMs / STEP_MS);
      stepOf.set(id, step);
      const ids = steps.get(step);
      if (ids === undefined) steps.set(step, new Set([id]));
      else ids.add(id);
      arm();
    },
    stop() {
      isStopped = true;
      cancel?.();
    },
  };
}
