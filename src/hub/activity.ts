// Connection state and last activity of identities, kept lazily: they are worth no sync of their own. What is not yet written
// is known to live sessions; a crash loses a few minutes of it at most.

import type { Clock } from '../core/clock.ts';
import type { IdentityRef } from '../core/hub/identity.ts';
import { LIMITS } from '../core/limits.ts';
import type { HubStore } from './hub-store.ts';
import type { Presence } from './identity-record.ts';
import { refText } from './keys.ts';
import type { HubSessions } from './sessions.ts';

const FLUSH_MS = 5000;
const SWEEP_MS = 300_000;
/** Records written at once; a hub whose devices all reconnect writes for a while. */
const AT_ONCE = 256;

interface Change {
  readonly hubId: string;
  readonly ref: IdentityRef;
  connectionChangedMs?: number;
  activityMs: number;
  modelId?: string;
}

export interface Activity {
  /** What is known beside the record, of identities with and without a session. */
  presence(hubId: string, ref: IdentityRef): Presence;
  /** Any sign of life without a session: HTTPS. */
  touch(hubId: string, ref: IdentityRef): void;
  /** The identity is a new one: what is known was of an earlier one. */
  forget(hubId: string, ref: IdentityRef): void;
  /** Writes what waits. */
  flush(): Promise<void>;
  stop(): void;
}

export function createActivity(options: {
  readonly sessions: HubSessions;
  readonly storeOf: (hubId: string) => HubStore;
  readonly clock: Clock;
}): Activity {
  const { sessions, storeOf, clock } = options;
  const waiting = new Map<string, Change>();
  /** Without a session; written with the next sweep, as a device may send every second. */
  const touched = new Map<string, Change>();
  let cancel: (() => void) | undefined;
  let sweptAtMs = clock.monotonicMs();
  let isStopped = false;

  function note(hubId: string, ref: IdentityRef, what: Omit<Change, 'hubId' | 'ref'>): void {
    const key = keyOf(hubId, ref);
    touched.delete(key);
    const known = waiting.get(key);
    if (known !== undefined) Object.assign(known, what);
    else if (waiting.size < LIMITS.hub_waiting_activity) waiting.set(key, { hubId, ref, ...what });
    arm();
  }

  function arm(): void {
    if (cancel !== undefined || isStopped || waiting.size + touched.size + sessions.count === 0) return;
    cancel = clock.after(FLUSH_MS, () => {
      cancel = undefined;
      if (clock.monotonicMs() - sweptAtMs >= SWEEP_MS) {
        sweptAtMs = clock.monotonicMs();
        for (const { hubId, ref, lastActivityMs } of sessions.takeActive()) {
          if (ref !== undefined) note(hubId, ref, { activityMs: lastActivityMs });
        }
        noteTouched();
      }
      void writeSome()
        .catch(() => {})
        .finally(arm);
    });
  }

  function noteTouched(): void {
    for (const { hubId, ref, activityMs } of touched.values()) note(hubId, ref, { activityMs });
  }

  async function writeSome(): Promise<void> {
    const changes = [...waiting].slice(0, AT_ONCE);
    for (const [key] of changes) waiting.delete(key);
    await Promise.all(changes.map(([, change]) => write(change)));
  }

  async function write({ hubId, ref, ...what }: Change): Promise<void> {
    const store = storeOf(hubId);
    await store.turn(ref.deviceId, async () => {
      const record = await store.identity(ref);
      if (record !== undefined) await store.write({ identities: [{ ref, record: { ...record, ...what } }] });
    });
  }

  sessions.listen({
    opened({ hubId, ref, openedAtMs, request }) {
      if (ref === undefined) return;
      const modelId = request.modelId === undefined ? {} : { modelId: request.modelId };
      note(hubId, ref, { connectionChangedMs: openedAtMs, activityMs: openedAtMs, ...modelId });
    },
    ended({ hubId, ref, lastActivityMs }) {
      if (ref !== undefined) note(hubId, ref, { connectionChangedMs: clock.wallMs(), activityMs: lastActivityMs });
    },
  });

  return {
    presence(hubId, ref) {
      const live = sessions.presence(hubId, ref);
      const key = keyOf(hubId, ref);
      const change = waiting.get(key);
      const activityMs = touched.get(key)?.activityMs ?? change?.activityMs;
      if (live.isConnected || activityMs === undefined) return live;
      return { isConnected: false, connectionChangedMs: change?.connectionChangedMs, activityMs };
    },
    touch(hubId, ref) {
      const key = keyOf(hubId, ref);
      const known = touched.get(key);
      const activityMs = clock.wallMs();
      if (known !== undefined) known.activityMs = activityMs;
      else if (touched.size < LIMITS.hub_waiting_activity) touched.set(key, { hubId, ref, activityMs });
      arm();
    },
    forget(hubId, ref) {
      const key = keyOf(hubId, ref);
      waiting.delete(key);
      touched.delete(key);
    },
    async flush() {
      noteTouched();
      while (waiting.size > 0) await writeSome();
    },
    stop() {
      isStopped = true;
      cancel?.();
    },
  };
}

function keyOf(hubId: string, ref: IdentityRef): string {
  return `${hubId}/${refText(ref)}`;
}
