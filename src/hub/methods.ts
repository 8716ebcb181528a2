// Direct methods: a call waits for the device to appear as long as its caller allows, then for the answer. Nothing is queued or
// repeated (contract/device-semantics.md, section 4; contract/service-05, section 1).

import type { Clock } from '../core/clock.ts';
import type { IdentityRef } from '../core/hub/identity.ts';
import type { MethodAnswer, MethodCall, Methods } from '../core/hub/messaging.ts';
import type { SessionId } from '../core/hub/session.ts';
import { LIMITS } from '../core/limits.ts';
import { iotHubError } from '../iothub/errors.ts';
import { isMethodName } from '../iothub/ids.ts';
import { QUOTAS } from '../iothub/quotas.ts';
import { abortError, throwIfAborted } from '../platform/abort.ts';
import type { HubStore } from './hub-store.ts';
import { notFound } from './identity-rules.ts';
import { refText } from './keys.ts';
import type { HubSessions, LiveSession } from './sessions.ts';
import { nameOf } from '../iothub/twin-record.ts';

const RESPONSE_MS = { min: 5000, max: 300_000 };
const CONNECT_MS = { min: 0, max: 300_000 };
const CALLED_BACK = 'see https://aka.ms/iothub404103';

/** Answers for devices that have no session: those of adapters. Undefined: not one of them. */
export type DirectCall = (
  hubId: string,
  ref: IdentityRef,
  call: MethodCall,
  signal: AbortSignal | undefined,
) => Promise<MethodAnswer> | undefined;

export interface MethodsOptions {
  readonly storeOf: (hubId: string) => HubStore;
  readonly sessions: HubSessions;
  readonly clock: Clock;
  readonly direct: DirectCall;
}

export interface HubMethods extends Methods {
  /** The identity is deleted: nobody needs to wait for it, or for its modules, any longer. */
  identityGone(hubId: string, ref: IdentityRef): void;
  /** Calls that wait for an answer or a device. */
  readonly inFlight: number;
}

/** A call that waits for its device to appear. */
interface Waiter {
  readonly ref: IdentityRef;
  readonly found: (session: LiveSession) => void;
  readonly gone: (error: Error) => void;
}

interface Pending {
  readonly sessionId: SessionId;
  readonly settle: (answer: MethodAnswer | Error) => void;
}

export function createMethods({ storeOf, sessions, clock, direct }: MethodsOptions): HubMethods {
  const pending = new Map<string, Pending>();
  /** Calls in flight, by hub and identity. */
  const perIdentity = new Map<string, number>();
  const waitingForDevice = new Map<string, Set<Waiter>>();
  let inFlight = 0;
  let requests = 0;

  const keyOf = (hubId: string, ref: IdentityRef): string => `${hubId}/${refText(ref)}`;

  sessions.listen({
    ready(session) {
      if (session.ref === undefined || !session.interests.has('methods')) return;
      for (const { found } of waitingForDevice.get(keyOf(session.hubId, session.ref)) ?? []) found(session);
    },
    ended({ sessionId }) {
      for (const one of pending.values()) {
        if (one.sessionId !== sessionId) continue;
        one.settle(iotHubError('DeviceConnectionClosedRemotely', 'The device was disconnected before it answered.'));
      }
    },
  });

  /** Resolves with the session of an identity that takes methods. @throws GatewayError GW_IOTHUB DeviceNotOnline, DeviceNotFound. */
  function appearance(hubId: string, ref: IdentityRef, timeoutMs: number, signal?: AbortSignal): Promise<LiveSession> {
    const session = sessions.find(hubId, ref, 'methods');
    if (session !== undefined) return Promise.resolve(session);
    if (timeoutMs === 0) {
      const text = `The operation failed because the requested device isn't online or hasn't registered the direct method callback. To learn more, ${CALLED_BACK}`;
      return Promise.reject(iotHubError('DeviceNotOnline', text));
    }
    const key = keyOf(hubId, ref);
    return new Promise((resolve, reject) => {
      const waiters = waitingForDevice.get(key) ?? new Set();
      waitingForDevice.set(key, waiters);
      const done = (): void => {
        cancel();
        signal?.removeEventListener('abort', onAbort);
        waiters.delete(waiter);
        if (waiters.size === 0) waitingForDevice.delete(key);
      };
      const found = (appeared: LiveSession): void => {
        done();
        resolve(appeared);
      };
      const gone = (error: Error): void => {
        done();
        reject(error);
      };
      const waiter = { ref, found, gone };
      const onAbort = (): void => gone(abortError(signal as AbortSignal));
      const cancel = clock.after(timeoutMs, () => {
        gone(iotHubError('DeviceNotOnline', `Timed out waiting for device to connect; ${CALLED_BACK}`));
      });
      waiters.add(waiter);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  function answerOf(session: LiveSession, call: MethodCall, signal?: AbortSignal): Promise<MethodAnswer> {
    const { sessionId } = session;
    requests += 1;
    // The service's request ids are short hexadecimal numbers; the SDKs give back any text.
    const requestId = requests.toString(16);
    return new Promise((resolve, reject) => {
      const settle = (answer: MethodAnswer | Error): void => {
        pending.delete(requestId);
        cancel();
        signal?.removeEventListener('abort', onAbort);
        if (answer instanceof Error) reject(answer);
        else resolve(answer);
      };
      const onAbort = (): void => settle(abortError(signal as AbortSignal));
      const cancel = clock.after(call.responseTimeoutMs, () => {
        settle(iotHubError('GatewayTimeout', `The device did not answer within ${call.responseTimeoutMs / 1000} s.`));
      });
      signal?.addEventListener('abort', onAbort, { once: true });
      pending.set(requestId, { sessionId, settle });
      sessions.send(sessionId, { kind: 'method', sessionId, requestId, name: call.name, payload: call.payload });
    });
  }

  function enter(key: string): void {
    const count = perIdentity.get(key) ?? 0;
    if (count >= LIMITS.hub_identity_methods) {
      const text = `${count} calls already wait for the device; that is the most.`;
      throw iotHubError('DeviceMaximumInflightMethodExceeded', text);
    }
    if (inFlight >= LIMITS.hub_methods) {
      throw iotHubError('ThrottlingException', `${inFlight} calls already wait for devices; that is the most.`);
    }
    perIdentity.set(key, count + 1);
    inFlight += 1;
  }

  function leave(key: string): void {
    const count = (perIdentity.get(key) ?? 1) - 1;
    if (count === 0) perIdentity.delete(key);
    else perIdentity.set(key, count);
    inFlight -= 1;
  }

  return {
    get inFlight() {
      return inFlight;
    },
    async invoke(hubId, ref, call, signal) {
      checkCall(call);
      if ((await storeOf(hubId).identity(ref)) === undefined) throw notFound(ref);
      throwIfAborted(signal);
      const key = keyOf(hubId, ref);
      enter(key);
      try {
        const answer = await (direct(hubId, ref, call, signal) ??
          appearance(hubId, ref, call.connectTimeoutMs, signal).then((session) => answerOf(session, call, signal)));
        if (answer.payload.byteLength <= QUOTAS.method_bytes) return answer;
        throw iotHubError('MessageTooLarge', `${nameOf(ref)} answered with more than ${QUOTAS.method_bytes} bytes.`);
      } finally {
        leave(key);
      }
    },
    identityGone(hubId, gone) {
      const own = keyOf(hubId, gone);
      for (const [key, waiters] of waitingForDevice) {
        if (key !== own && !key.startsWith(`${own}/`)) continue;
        for (const waiter of waiters) waiter.gone(notFound(waiter.ref));
      }
    },
    answer(sessionId, requestId, answer) {
      const call = pending.get(requestId);
      // Another session's call is not its to answer.
      if (call?.sessionId === sessionId) call.settle(answer);
    },
  };
}

/** @throws GatewayError GW_IOTHUB ArgumentInvalid, MessageTooLarge. */
function checkCall({ name, payload, responseTimeoutMs, connectTimeoutMs }: MethodCall): void {
  if (!isMethodName(name)) {
    throw iotHubError('ArgumentInvalid', `"${name.slice(0, 140)}" is not a method name.`);
  }
  if (payload.byteLength > QUOTAS.method_bytes) {
    throw iotHubError('MessageTooLarge', `The payload of a method has at most ${QUOTAS.method_bytes} bytes.`);
  }
  if (!(responseTimeoutMs >= RESPONSE_MS.min && responseTimeoutMs <= RESPONSE_MS.max)) {
    throw iotHubError('ArgumentInvalid', 'responseTimeoutInSeconds is 5 to 300.');
  }
  if (!(connectTimeoutMs >= CONNECT_MS.min && connectTimeoutMs <= CONNECT_MS.max)) {
    throw iotHubError('ArgumentInvalid', 'connectTimeoutInSeconds is 0 to 300.');
  }
}
