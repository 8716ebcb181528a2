// A hub over a state store in memory, with a clock that the test moves, and a head that keeps what it is sent.

import { createHmac } from 'node:crypto';
import type { Principal } from '../../src/core/hub/access.ts';
import type { Events } from '../../src/core/hub/messaging.ts';
import type { TelemetryMessage } from '../../src/core/hub/telemetry-message.ts';
import type { IdentityRef } from '../../src/core/hub/identity.ts';
import type { Interest, OpenedSession, ToSession } from '../../src/core/hub/session.ts';
import { createHub, type HubOptions, type HubService } from '../../src/hub/hub.ts';
import { makeSasToken } from '../../src/iothub/sas-token.ts';
import { hmacSha256 } from '../../src/platform/hmac.ts';
import { systemRandom } from '../../src/platform/random.ts';
import { createSealer } from '../../src/platform/sealing.ts';
import { createMemoryStateStore } from '../../src/store/state/memory-state-store.ts';
import type { StateStore } from '../../src/store/state/state-store.ts';
import { ManualClock } from './manual-clock.ts';

export const HUB = 'hub';
export const HOST = 'hub.local.test';

export const hubInfo = {
  hubId: HUB,
  hostName: HOST,
  alternateNames: ['gateway.local'],
  eventHubName: 'hub',
  consumerGroups: ['$Default'],
  faultInjection: false,
};

const masterKey = createHmac('sha256', 'test').update('master').digest();

export interface HubRig {
  readonly hub: HubService;
  readonly clock: ManualClock;
  readonly state: StateStore;
  /** What the head `test` was sent and was not taken yet. */
  readonly sent: ToSession[];
  /** A session of a device or module, as the head `test` opens it. */
  connect(ref: IdentityRef, options?: ConnectOptions): Promise<OpenedSession & { readonly principal: Principal }>;
  /** A token signed with a key of the identity. */
  token(ref: IdentityRef, options?: { readonly secondary?: boolean; readonly lifeMs?: number }): Promise<string>;
  login(ref: IdentityRef, token?: string): Promise<Principal>;
}

interface ConnectOptions {
  readonly interests?: readonly Interest[];
  readonly credit?: number;
  readonly persistent?: boolean;
  readonly token?: string;
  readonly will?: TelemetryMessage;
}

export async function hubRig(options: Partial<HubOptions> & { readonly clock?: ManualClock } = {}): Promise<HubRig> {
  const clock = options.clock ?? new ManualClock();
  const state = options.state ?? (await createMemoryStateStore({ clock, telemetry: { emit: () => {} } }));
  const sent: ToSession[] = [];
  const hub = createHub({
    hubs: [{ info: hubInfo }],
    sealer: createSealer(masterKey),
    events: {} as Events,
    telemetryIntake: { send: () => Promise.resolve() },
    random: systemRandom,
    telemetry: { emit: () => {} },
    ...options,
    state,
    clock,
  });
  hub.attachHead('test', (items) => sent.push(...items));
  hub.start();

  async function token(
    ref: IdentityRef,
    { secondary = false, lifeMs = 3_600_000 }: { readonly secondary?: boolean; readonly lifeMs?: number } = {},
  ): Promise<string> {
    const { deviceId, moduleId } = ref;
    const { authentication } =
      moduleId === undefined
        ? await hub.identities.device(HUB, deviceId)
        : await hub.identities.module(HUB, { deviceId, moduleId });
    if (authentication.type !== 'sas') throw new Error(`${deviceId} has no keys.`);
    const { primaryKey, secondaryKey } = authentication.symmetricKey;
    const path = moduleId === undefined ? `devices/${deviceId}` : `devices/${deviceId}/modules/${moduleId}`;
    return makeSasToken(
      {
        resource: `${HOST}/${path}`,
        key: secondary ? secondaryKey : primaryKey,
        expiresAtMs: clock.wallMs() + lifeMs,
      },
      { hmacSha256 },
    );
  }

  const login = async (ref: IdentityRef, text?: string): Promise<Principal> =>
    hub.access.login({
      hostName: HOST,
      remoteAddress: '127.0.0.1',
      protocol: 'mqtt',
      credential: { kind: 'sas', token: text ?? (await token(ref)) },
      claimed: ref,
    });

  return {
    hub,
    clock,
    state,
    sent,
    token,
    login,
    async connect(ref, { interests = [], credit = 0, persistent = false, token: text, will } = {}) {
      const principal = await login(ref, text);
      const opened = await hub.sessions.open('test', {
        principal,
        protocol: 'mqtt',
        remoteAddress: '127.0.0.1',
        persistent,
        ...(will !== undefined && { will }),
      });
      hub.sessions.setInterests(opened.sessionId, interests);
      if (credit > 0) hub.sessions.grantCommands(opened.sessionId, credit);
      return { ...opened, principal };
    },
  };
}

/** The name of the service's error that a promise is rejected with. */
export async function refusalOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return (error as { readonly details?: Readonly<Record<string, unknown>> }).details?.['iotHubError'] ?? error;
  }
}
