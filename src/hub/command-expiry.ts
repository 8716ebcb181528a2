// Finds commands whose time is over, also of devices that never come: the store has them in the order of expiry.

import type { Clock } from '../core/clock.ts';
import type { HubStore } from './hub-store.ts';
import { commandKey, EXPIRIES } from './keys.ts';

export interface ExpiryWatch {
  /** A command was stored that expires then; wall clock in ms. */
  added(expiresAtMs: number): void;
  stop(): void;
}

/** The wall clock may be set, so it is looked at now and then. */
const LONGEST_MS = 60_000;
const SHORTEST_MS = 1000;
/** A command may be locked past its expiry, and the store may be away. */
const AGAIN_MS = 10_000;
/** Commands looked at in one go. */
const AT_ONCE = 1000;

export function watchExpiries(options: {
  readonly store: HubStore;
  readonly clock: Clock;
  /** Ends what of a device has expired. */
  readonly expire: (deviceId: string) => Promise<void>;
}): ExpiryWatch {
  const { store, clock, expire } = options;
  /** Wall clock in ms; undefined: nothing is known to wait. Looked up in the store first. */
  let nextMs: number | undefined = clock.wallMs();
  let cancel: (() => void) | undefined;
  let isStopped = false;

  function arm(): void {
    cancel?.();
    cancel = undefined;
    if (isStopped || nextMs === undefined) return;
    const ms = Math.min(Math.max(nextMs - clock.wallMs(), SHORTEST_MS), LONGEST_MS);
    cancel = clock.after(ms, () => {
      cancel = undefined;
      void look().finally(arm);
    });
  }

  async function look(): Promise<void> {
    const now = clock.wallMs();
    if (nextMs === undefined || nextMs > now) return;
    // What is added meanwhile sets it again.
    nextMs = undefined;
    let laterMs: number | undefined;
    try {
      const due: { readonly key: string; readonly deviceId: string; readonly number: number }[] = [];
      for await (const [key] of store.entries(EXPIRIES)) {
        const [expiry, deviceId = '', number] = key.slice(EXPIRIES.length).split('/');
        laterMs = due.length < AT_ONCE ? Number(expiry) : now;
        if (laterMs > now || due.length >= AT_ONCE) break;
        due.push({ key, deviceId, number: Number(number) });
        laterMs = undefined;
      }
      for (const deviceId of new Set(due.map((one) => one.deviceId))) await expire(deviceId);
      for (const { key, deviceId, number } of due) {
        // Damage took the command and left its place in the order.
        const isThere = (await store.json(commandKey(deviceId, number))) !== undefined;
        if (isThere) laterMs = Math.min(laterMs ?? Number.POSITIVE_INFINITY, now + AGAIN_MS);
        else if ((await store.json(key)) !== undefined) await store.write({ changes: [{ key }] });
      }
    } catch {
      laterMs = now + AGAIN_MS;
    }
    if (laterMs !== undefined) nextMs = Math.min(nextMs ?? laterMs, laterMs);
  }

  arm();
  return {
    added(expiresAtMs) {
      if (nextMs !== undefined && nextMs <= expiresAtMs) return;
      nextMs = expiresAtMs;
      arm();
    },
    stop() {
      isStopped = true;
      cancel?.();
    },
  };
}
