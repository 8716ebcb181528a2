// Wills of clients of MQTT: what is to be sent in a client's name when it is lost. Each is kept with its session before the client
// is told that it is connected, so that a hub that is killed sends them at its next start (MQTT 3.1.1, 3.1.2-8).
//
// Invariants
// - A will goes from the store once it is stored as telemetry, or once nobody may speak in the client's name any more. So after
//   a crash it may be sent twice, and is never lost.

import type { Clock } from '../core/clock.ts';
import type { Principal } from '../core/hub/access.ts';
import type { IdentityRef } from '../core/hub/identity.ts';
import type { TelemetryIntake } from '../core/hub/messaging.ts';
import type { TelemetryMessage } from '../core/hub/telemetry-message.ts';
import type { EndReason, SessionId } from '../core/hub/session.ts';
import { LIMITS } from '../core/limits.ts';
import { iotHubErrorOf } from '../iothub/errors.ts';
import { changeOf, type HubStore } from './hub-store.ts';
import { WILLS, willKey } from './keys.ts';

/** Ends after which nobody speaks in the client's name any more. */
const NO_WILL: ReadonlySet<EndReason> = new Set(['closed', 'disabled', 'deleted', 'credential_revoked', 'stopping']);
const RETRY_MS = 15_000;

export interface WillsOptions {
  readonly storeOf: (hubId: string) => HubStore;
  readonly hubIds: readonly string[];
  readonly telemetry: TelemetryIntake;
  /** Why a principal may no longer be in; undefined: it may. @throws GatewayError as the store. */
  readonly endReason: (principal: Principal) => Promise<EndReason | undefined>;
  readonly clock: Clock;
  /** A will was given up. Must not throw. */
  readonly onLost: (ref: IdentityRef, reason: string) => void;
}

export interface Wills {
  /** Durable when it resolves. @throws GatewayError as the store. */
  keep(sessionId: SessionId, principal: Principal, message: TelemetryMessage): Promise<void>;
  /** Sends or forgets the will of a session, if it had one. Never throws. */
  ended(sessionId: SessionId, principal: Principal, reason: EndReason): void;
  /** Sends what an earlier run of the hub left; tries again until the store takes it. */
  start(): void;
  /** Resolves when those of the sessions that ended are sent or forgotten, or the store has failed at it. */
  stop(): Promise<void>;
}

/** As it is kept. */
interface KeptWill {
  readonly principal: Principal;
  readonly message: Omit<TelemetryMessage, 'body'>;
  /** Base64. */
  readonly body: string;
}

export function createWills({ storeOf, hubIds, telemetry, endReason, clock, onLost }: WillsOptions): Wills {
  /** Of sessions that are open: when they are in the store. */
  const open = new Map<SessionId, { readonly message: TelemetryMessage; readonly kept: Promise<void> }>();
  const work = new Set<Promise<void>>();
  /** Left in the store because they could not be sent. */
  let left = 0;
  let cancelRetry: (() => void) | undefined;
  let isStopped = false;

  async function forget(hubId: string, sessionId: SessionId): Promise<void> {
    await storeOf(hubId).write({ changes: [{ key: willKey(sessionId) }] });
  }

  /** Whether it is over with: sent, or never to be. What the log does not take now stays in the store. */
  async function send(principal: Principal, message: TelemetryMessage): Promise<boolean> {
    const { identity } = principal;
    if (identity === undefined) return true;
    try {
      await telemetry.send(principal, identity, [message]);
      return true;
    } catch (error) {
      const { httpStatus, name } = iotHubErrorOf(error);
      if (httpStatus >= 500 || httpStatus === 429) return false;
      onLost(identity, name);
      return true;
    }
  }

  async function end(sessionId: SessionId, principal: Principal, reason: EndReason): Promise<void> {
    const will = open.get(sessionId);
    if (will === undefined) return;
    try {
      const isKept = await will.kept.then(
        () => true,
        () => false,
      );
      // The client was never told that it is connected.
      if (!isKept) return;
      if (NO_WILL.has(reason) || (await send(principal, will.message))) await forget(principal.hubId, sessionId);
      else if (left < LIMITS.hub_waiting_wills) later();
      else {
        await forget(principal.hubId, sessionId);
        if (principal.identity !== undefined) onLost(principal.identity, 'too_many_wills');
      }
    } finally {
      open.delete(sessionId);
    }
  }

  function later(): void {
    left += 1;
    if (isStopped) return;
    cancelRetry ??= clock.after(RETRY_MS, () => {
      cancelRetry = undefined;
      sweep();
    });
  }

  /** What is in the store of sessions that are over. */
  async function sendLeft(hubId: string): Promise<void> {
    left = 0;
    const store = storeOf(hubId);
    for await (const [key] of store.entries(WILLS)) {
      const sessionId = key.slice(WILLS.length);
      if (isStopped) return;
      if (open.has(sessionId)) continue;
      // Its session may have ended, with a goodbye, since the list was begun.
      const will = (await store.json(key)) as KeptWill | undefined;
      if (will === undefined) continue;
      const { principal, message, body } = will;
      const mayNot = await endReason(principal);
      const isOver = mayNot !== undefined || (await send(principal, { ...message, body: Buffer.from(body, 'base64') }));
      if (isOver) await forget(hubId, sessionId);
      else later();
    }
  }

  function sweep(): void {
    for (const hubId of hubIds) track(sendLeft(hubId).catch(later));
  }

  function track(done: Promise<void>): void {
    work.add(done);
    void done.finally(() => work.delete(done));
  }

  return {
    async keep(sessionId, principal, message) {
      const { body, ...rest } = message;
      const { expiresAtMs: _, ...lasting } = principal;
      const base64 = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('base64');
      const will: KeptWill = { principal: lasting, message: rest, body: base64 };
      const kept = storeOf(principal.hubId).write({ changes: [changeOf(willKey(sessionId), will)] });
      open.set(sessionId, { message, kept });
      await kept;
    },
    ended(sessionId, principal, reason) {
      // The store is away: what it has is sent at the next start, or forgotten then.
      if (open.has(sessionId)) track(end(sessionId, principal, reason).catch(later));
    },
    start: sweep,
    async stop() {
      isStopped = true;
      cancelRetry?.();
      await Promise.all(work);
    },
  };
}
