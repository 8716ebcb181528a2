// Who is connected, on which head, with which rights and wishes. An identity has one session at most: the last one wins. What is
// sent to a session is handed to its head in order, gathered over one turn of the event loop, so that whoever opens a session knows it before anything comes for it.

import type { Clock } from '../core/clock.ts';
import type { Principal } from '../core/hub/access.ts';
import type { IdentityRef } from '../core/hub/identity.ts';
import type {
  EndReason,
  Interest,
  OpenedSession,
  SessionId,
  SessionRequest,
  Sessions,
  ToSession,
} from '../core/hub/session.ts';
import { LIMITS } from '../core/limits.ts';
import { iotHubError } from '../iothub/errors.ts';
import type { Random } from '../platform/random.ts';
import { createExpiryWheel } from './expiry-wheel.ts';
import type { HubStore } from './hub-store.ts';
import { changeOf } from './hub-store.ts';
import type { Presence } from './identity-record.ts';
import { refText, sessionKey } from './keys.ts';
import type { Wills } from './wills.ts';

/** One session as other parts of the hub see it. */
export interface LiveSession {
  readonly sessionId: SessionId;
  readonly hubId: string;
  readonly head: string;
  /** Undefined for sessions of policies. */
  readonly ref: IdentityRef | undefined;
  readonly request: SessionRequest;
  readonly openedAtMs: number;
  readonly interests: ReadonlySet<Interest>;
  /** Commands that it takes still. */
  readonly commandCredit: number;
  readonly lastActivityMs: number;
}

interface Session extends LiveSession {
  request: SessionRequest;
  interests: ReadonlySet<Interest>;
  commandCredit: number;
  lastActivityMs: number;
  /** What was told of its activity last. */
  toldActivityMs: number;
}

/** What the rest of the hub does when sessions come and go. Must not throw. */
export interface SessionListener {
  opened?(session: LiveSession): void;
  /** It wants something new, or takes more commands. */
  ready?(session: LiveSession): void;
  ended?(session: LiveSession, reason: EndReason): void;
}

export interface HubSessions extends Sessions {
  /** Returns what takes it off; its sessions must have ended by then. */
  attachHead(name: string, deliver: (items: readonly ToSession[]) => void): () => void;
  listen(listener: SessionListener): void;
  /** The session of an identity that wants something, or any. */
  find(hubId: string, ref: IdentityRef, interest?: Interest): LiveSession | undefined;
  presence(hubId: string, ref: IdentityRef): Presence;
  send(sessionId: SessionId, item: ToSession): void;
  /** Takes one of a session's credit for commands. */
  takeCredit(sessionId: SessionId): boolean;
  /** Ends those of a device and its modules whose credential no longer holds. Resolves when they were told. */
  recheckDevice(hubId: string, deviceId: string): Promise<void>;
  /** The same for all of a hub, after a change of policies or authorities. */
  recheckAll(hubId: string): Promise<void>;
  /** Sessions that showed a sign of life since this was asked last. */
  takeActive(): readonly LiveSession[];
  list(hubId: string): readonly LiveSession[];
  connectedDevices(hubId: string): number;
  readonly count: number;
  stop(): void;
}

export interface SessionsOptions {
  readonly storeOf: (hubId: string) => HubStore;
  /** Why a principal may no longer be in; undefined: it may. */
  readonly endReason: (principal: Principal) => Promise<EndReason | undefined>;
  readonly wills: Pick<Wills, 'keep' | 'ended'>;
  readonly clock: Clock;
  readonly random: Random;
}

export function createSessions({ storeOf, endReason, wills, clock, random }: SessionsOptions): HubSessions {
  const sessions = new Map<SessionId, Session>();
  /** By hub and device: the device's own under '', its modules' under their ids. */
  const byDevice = new Map<string, Map<string, Session>>();
  const connected = new Map<string, number>();
  const heads = new Map<string, (items: readonly ToSession[]) => void>();
  const outgoing = new Map<string, ToSession[]>();
  const listeners: SessionListener[] = [];
  const run = random.id(6);
  let opened = 0;
  const wheel = createExpiryWheel(clock, (sessionId) => end(sessionId, 'expired'));

  function flush(): void {
    const batches = [...outgoing];
    outgoing.clear();
    for (const [head, items] of batches) heads.get(head)?.(items);
  }

  function send(sessionId: SessionId, head: string, item: ToSession): void {
    const waiting = outgoing.get(head);
    if (waiting !== undefined) waiting.push(item);
    else {
      if (outgoing.size === 0) setImmediate(flush);
      outgoing.set(head, [item]);
    }
  }

  function family(hubId: string, deviceId: string): Map<string, Session> | undefined {
    return byDevice.get(`${hubId}/${deviceId}`);
  }

  function countDevice(session: Session, change: 1 | -1): void {
    if (session.ref === undefined || session.ref.moduleId !== undefined) return;
    connected.set(session.hubId, (connected.get(session.hubId) ?? 0) + change);
  }

  function add(session: Session): void {
    sessions.set(session.sessionId, session);
    wheel.set(session.sessionId, session.request.principal.expiresAtMs);
    const { ref, hubId } = session;
    if (ref === undefined) return;
    const own = family(hubId, ref.deviceId) ?? new Map<string, Session>();
    byDevice.set(`${hubId}/${ref.deviceId}`, own);
    const earlier = own.get(ref.moduleId ?? '');
    if (earlier !== undefined) end(earlier.sessionId, 'displaced');
    // Ending the last one of a device has dropped its table.
    byDevice.set(`${hubId}/${ref.deviceId}`, own.set(ref.moduleId ?? '', session));
    countDevice(session, 1);
  }

  function remove(sessionId: SessionId, reason: EndReason): Session | undefined {
    const session = sessions.get(sessionId);
    if (session === undefined) return undefined;
    sessions.delete(sessionId);
    wheel.set(sessionId, undefined);
    const { ref, hubId } = session;
    if (ref !== undefined) {
      const own = family(hubId, ref.deviceId);
      own?.delete(ref.moduleId ?? '');
      if (own?.size === 0) byDevice.delete(`${hubId}/${ref.deviceId}`);
      countDevice(session, -1);
    }
    wills.ended(sessionId, session.request.principal, reason);
    for (const listener of listeners) listener.ended?.(session, reason);
    return session;
  }

  /** The hub ends it and tells the head. */
  function end(sessionId: SessionId, reason: EndReason): void {
    const session = remove(sessionId, reason);
    if (session !== undefined) send(sessionId, session.head, { kind: 'end', sessionId, reason });
  }

  async function recheck(candidates: readonly Session[]): Promise<void> {
    for (const { sessionId, request } of candidates) {
      const reason = await endReason(request.principal);
      if (reason !== undefined) end(sessionId, reason);
    }
  }

  /** Of a session of MQTT: what an earlier one kept; one that begins anew forgets it. */
  async function keptOf(store: HubStore, ref: IdentityRef, request: SessionRequest): Promise<unknown> {
    if (!request.protocol.startsWith('mqtt')) return undefined;
    const key = sessionKey(ref);
    const kept = await store.json(key);
    if (request.persistent || kept === undefined) return kept;
    await store.turn(ref.deviceId, () => store.write({ changes: [{ key }] }));
    return undefined;
  }

  function known(sessionId: SessionId): Session {
    const session = sessions.get(sessionId);
    if (session !== undefined) return session;
    throw iotHubError('DeviceConnectionClosedRemotely', 'The session is over.');
  }

  async function demandValid(principal: Principal): Promise<void> {
    const reason = await endReason(principal);
    if (reason === undefined) return;
    if (reason === 'disabled') throw iotHubError('DeviceDisabled', 'The device is disabled.');
    throw iotHubError('IotHubUnauthorizedAccess', 'The credential is no longer valid.');
  }

  return {
    attachHead(name, deliver) {
      heads.set(name, deliver);
      return () => {
        if (heads.get(name) === deliver) heads.delete(name);
      };
    },
    listen: (listener) => void listeners.push(listener),
    async open(head, request): Promise<OpenedSession> {
      const { principal } = request;
      const { hubId, identity: ref } = principal;
      if (sessions.size >= LIMITS.hub_sessions) {
        throw iotHubError('ThrottlingException', `${LIMITS.hub_sessions} sessions are open; that is the most.`);
      }
      await demandValid(principal);
      const kept = ref === undefined ? undefined : await keptOf(storeOf(hubId), ref, request);
      opened += 1;
      const sessionId = `${run}-${opened.toString(36)}`;
      const now = clock.wallMs();
      const session: Session = {
        sessionId,
        hubId,
        head,
        ref,
        request,
        openedAtMs: now,
        interests: new Set(),
        commandCredit: 0,
        lastActivityMs: now,
        toldActivityMs: now,
      };
      add(session);
      try {
        // The credential may have gone while this one was not yet in the table.
        await demandValid(principal);
        if (request.will !== undefined) await wills.keep(sessionId, principal, request.will);
      } catch (error) {
        remove(sessionId, 'credential_revoked');
        throw error;
      }
      for (const listener of listeners) listener.opened?.(session);
      return kept === undefined ? { sessionId } : { sessionId, kept };
    },
    renew(sessionId, principal) {
      const session = known(sessionId);
      const { principal: before } = session.request;
      if (principal.hubId !== before.hubId || nameOf(principal) !== nameOf(before)) {
        throw iotHubError('IotHubUnauthorizedAccess', 'The token is for another identity than the session.');
      }
      session.request = { ...session.request, principal };
      session.lastActivityMs = clock.wallMs();
      wheel.set(sessionId, principal.expiresAtMs);
      // Like `open`: what let it in may have gone since.
      void recheck([session]).catch(() => {});
    },
    async keep(sessionId, state) {
      const { ref, hubId, request } = known(sessionId);
      if (ref === undefined || !request.persistent) return;
      const store = storeOf(hubId);
      await store.turn(ref.deviceId, async () => {
        // A deleted device keeps nothing.
        if (sessions.has(sessionId)) await store.write({ changes: [changeOf(sessionKey(ref), state)] });
      });
    },
    setInterests(sessionId, interests) {
      const session = sessions.get(sessionId);
      if (session === undefined) return;
      session.interests = new Set(interests);
      for (const listener of listeners) listener.ready?.(session);
    },
    grantCommands(sessionId, credit) {
      const session = sessions.get(sessionId);
      if (session === undefined) return;
      session.commandCredit = Math.min(Math.max(0, session.commandCredit + credit), LIMITS.hub_device_commands);
      for (const listener of listeners) listener.ready?.(session);
    },
    touch(sessionId) {
      const session = sessions.get(sessionId);
      if (session !== undefined) session.lastActivityMs = clock.wallMs();
    },
    close(sessionId, reason) {
      remove(sessionId, reason);
    },
    find(hubId, ref, interest) {
      const session = family(hubId, ref.deviceId)?.get(ref.moduleId ?? '');
      return interest === undefined || session?.interests.has(interest) === true ? session : undefined;
    },
    presence(hubId, ref) {
      const session = family(hubId, ref.deviceId)?.get(ref.moduleId ?? '');
      if (session === undefined) return { isConnected: false };
      return { isConnected: true, connectionChangedMs: session.openedAtMs, activityMs: session.lastActivityMs };
    },
    send(sessionId, item) {
      const session = sessions.get(sessionId);
      if (session !== undefined) send(sessionId, session.head, item);
    },
    takeCredit(sessionId) {
      const session = sessions.get(sessionId);
      if (session === undefined || session.commandCredit < 1) return false;
      session.commandCredit -= 1;
      return true;
    },
    recheckDevice: (hubId, deviceId) => recheck([...(family(hubId, deviceId)?.values() ?? [])]),
    recheckAll: (hubId) => recheck([...sessions.values()].filter((session) => session.hubId === hubId)),
    takeActive() {
      const active: LiveSession[] = [];
      for (const session of sessions.values()) {
        if (session.ref === undefined || session.lastActivityMs === session.toldActivityMs) continue;
        session.toldActivityMs = session.lastActivityMs;
        active.push(session);
      }
      return active;
    },
    list: (hubId) => [...sessions.values()].filter((session) => session.hubId === hubId),
    connectedDevices: (hubId) => connected.get(hubId) ?? 0,
    get count() {
      return sessions.size;
    },
    stop() {
      for (const sessionId of sessions.keys()) end(sessionId, 'stopping');
      wheel.stop();
    },
  };
}

function nameOf({ identity, policy }: Principal): string {
  return identity === undefined ? `policy:${policy ?? ''}` : refText(identity);
}
