// What devices settled of the cloud's messages without the cloud hearing of it: its link was gone, or went before what was said on
// it can have arrived for certain. The cloud gives them again once it is back, and is told then; the device is not asked twice.
// In memory alone: a crash has them delivered again, as the service does.

import type { Clock } from '../core/clock.ts';
import type { CommandOutcome } from '../core/hub/session.ts';
import { LIMITS } from '../core/limits.ts';

/** A link that is dead is known to be so by then (upstream-iothub, `keepalive_secs`). */
const TOLD_MS = 120_000;
/** As for commands of devices of adapters. */
const KEPT_MS = 24 * 3_600_000;

export interface SettledCommands {
  /** @param link aborts when the link ends that brought the message. */
  note(key: string, outcome: CommandOutcome, link: AbortSignal): void;
  /** What the cloud has not heard of a message. */
  find(key: string): CommandOutcome | undefined;
  stop(): void;
}

export function createSettledCommands(clock: Clock): SettledCommands {
  /** The one settled longest ago first. */
  const unheard = new Map<string, { readonly outcome: CommandOutcome; readonly atMs: number }>();
  /** Those that the cloud hears of if their link holds. */
  const hopeful = new Set<() => void>();

  function keep(key: string, outcome: CommandOutcome): void {
    unheard.delete(key);
    unheard.set(key, { outcome, atMs: clock.monotonicMs() });
    for (const [oldest, { atMs }] of unheard) {
      const isOver = clock.monotonicMs() - atMs > KEPT_MS;
      if (!isOver && unheard.size <= LIMITS.hub_settled_commands) break;
      unheard.delete(oldest);
    }
  }

  return {
    note(key, outcome, link) {
      if (link.aborted || hopeful.size >= LIMITS.hub_settled_commands) {
        keep(key, outcome);
        return;
      }
      const forget = (): void => {
        hopeful.delete(forget);
        cancel();
        link.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => {
        forget();
        keep(key, outcome);
      };
      const cancel = clock.after(TOLD_MS, forget);
      hopeful.add(forget);
      link.addEventListener('abort', onAbort, { once: true });
    },
    find: (key) => unheard.get(key)?.outcome,
    stop() {
      for (const forget of hopeful) forget();
    },
  };
}
