// The local hub's behaviour, free of protocols: builds its parts over the hub's own state store and joins them. Heads get at them
// as `Hub` (core/hub/hub.ts); the gateway starts and stops them.

import type { Clock } from '../core/clock.ts';
import type { CloudIdentities } from '../core/endpoint.ts';
import type { Principal } from '../core/hub/access.ts';
import type { Hub, HubInfo } from '../core/hub/hub.ts';
import type { IdentityRef } from '../core/hub/identity.ts';
import type { Events, TelemetryIntake } from '../core/hub/messaging.ts';
import type { EndReason, ToSession } from '../core/hub/session.ts';
import { errorText } from '../core/errors.ts';
import { LIMITS } from '../core/limits.ts';
import type { HealthReport } from '../core/service.ts';
import { iotHubError } from '../iothub/errors.ts';
import type { Telemetry } from '../observe/events.ts';
import { randomKey, type Random } from '../platform/random.ts';
import type { Sealer } from '../platform/sealing.ts';
import type { StateLimits, StateStore } from '../store/state/state-store.ts';
import { createAccess, type HubSecrets } from './access.ts';
import { createActivity } from './activity.ts';
import { createAuthorities, type Authorities } from './authorities.ts';
import { createBrake } from './brake.ts';
import { createCloudDevices, type CloudDevices } from './cloud-devices.ts';
import { createCloudTwins, type CloudTwins } from './cloud-twins.ts';
import { createCommands, type CommandSettings, type HubCommands } from './commands.ts';
import { createFeedback, type Feedback, type FeedbackSettings } from './feedback.ts';
import { createGatewayDevices, type FieldSide, type GatewayDevices } from './gateway-devices.ts';
import { createHubStore } from './hub-store.ts';
import { isCloudDevice, type IdentityRecord, type Presence } from './identity-record.ts';
import { createIdentityRegistry } from './identity-registry.ts';
import { refText } from './keys.ts';
import { createMethods } from './methods.ts';
import { createPollers, type Pollers } from './pollers.ts';
import { createPolicies, DEFAULT_POLICIES, type Policies, type PolicySettings } from './policies.ts';
import { createSessions, type LiveSession } from './sessions.ts';
import { createTwins } from './twins.ts';
import { createWills } from './wills.ts';

export interface HubSettings {
  readonly info: HubInfo;
  /** Default: the five of the service. */
  readonly policies?: readonly PolicySettings[];
  /** PEM of the authorities that sign certificates of devices. Default: none. */
  readonly authorities?: readonly string[];
}

/** What `db/hub` is to be opened with: it may hold a million identities. */
export const HUB_STATE_LIMITS: StateLimits = { spaceKeys: LIMITS.hub_state_keys, spaceBytes: LIMITS.hub_state_bytes };

export interface HubOptions {
  /** The first is the gateway's own: devices of adapters belong to it. */
  readonly hubs: readonly HubSettings[];
  /** `db/hub`, opened with HUB_STATE_LIMITS. */
  readonly state: StateStore;
  readonly sealer: Sealer;
  readonly events: Events;
  readonly telemetryIntake: TelemetryIntake;
  /** Absent: a hub without adapters. */
  readonly field?: FieldSide;
  /** Who is known at the hub that the upstream leads to; undefined while it leads to none. Absent: never to one. */
  readonly cloud?: () => CloudIdentities | undefined;
  /** Resolves, soon in any case, when a device of that cloud has the twin here that it has there. Never rejects. */
  readonly caughtUp?: (deviceId: string) => Promise<void>;
  /** A device's session began, ended, or takes something else, or the device has reported something. Must not throw. */
  readonly onSession?: (hubId: string, deviceId: string) => void;
  readonly commands?: Partial<CommandSettings>;
  readonly feedback?: Partial<FeedbackSettings>;
  readonly clock: Clock;
  readonly random: Random;
  readonly telemetry: Telemetry;
}

export interface HubService extends Hub {
  /** Waits for nothing that the store may withhold. */
  start(): void;
  /** Ends all sessions, writes what waits. The state store is the caller's to close. */
  stop(): Promise<void>;
  health(): HealthReport;
  /** Takes what the hub sends to sessions that a head opened. Returns what takes it off again. */
  attachHead(name: string, deliver: (items: readonly ToSession[]) => void): () => void;
  authoritiesOf(hubId: string): Authorities;
  policiesOf(hubId: string): Policies;
  sessionsOf(hubId: string): readonly LiveSession[];
  /** The session of a device, if it has one. */
  sessionOf(hubId: string, deviceId: string): LiveSession | undefined;
  /** Hands on what the cloud behind the hub sends to a device, and keeps. */
  readonly offerCommand: HubCommands['offer'];
  /** Twins of devices of the cloud behind the hub. Absent: never to one. */
  readonly cloudTwins: CloudTwins | undefined;
  /** Devices that ask for their messages over HTTPS. */
  readonly pollers: Pick<Pollers, 'isListening' | 'listening'>;
  /** There is another upstream: sessions of devices whose keys it does not have end. */
  cloudChanged(): Promise<void>;
  /** Of a device of an adapter, as far as it is known: its messages do not carry it themselves. */
  generationOf(hubId: string, deviceId: string): string | undefined;
  /** A device of an adapter sent a message: whether it goes to the events. */
  admits(deviceId: string): boolean;
  /** What bounded tables hold at the moment. */
  stats(): HubStats;
}

export interface HubStats {
  readonly sessions: number;
  readonly cachedIdentities: number;
  readonly commandQueues: number;
  readonly feedbackRecords: number;
  readonly methodsInFlight: number;
  readonly rememberedGuesses: number;
  readonly delayedRefusals: number;
}

const COMMANDS: CommandSettings = { defaultTtlMs: 3_600_000, maxDeliveryCount: 10 };
const FEEDBACK: FeedbackSettings = { ttlMs: 3_600_000, lockMs: 60_000, maxDeliveryCount: 10 };

interface OneHub extends HubSecrets {
  readonly info: HubInfo;
  readonly feedback: Feedback;
}

export function createHub(options: HubOptions): HubService {
  const { hubs: settings, state, sealer, clock, random, telemetry, field } = options;
  const byId = new Map<string, OneHub>();
  const first = settings[0]?.info;
  if (first === undefined) throw new Error('A hub service without a hub.');

  const hubById = (hubId: string): OneHub => {
    const hub = byId.get(hubId);
    if (hub !== undefined) return hub;
    throw iotHubError('IotHubNotFound', `There is no hub "${hubId.slice(0, 64)}".`);
  };
  const storeOf = (hubId: string) => hubById(hubId).store;
  function hubOf(hostName: string): HubInfo {
    const name = hostName.toLowerCase();
    const found = [...byId.values()].find(({ info }) =>
      [info.hostName, ...info.alternateNames].some((known) => known.toLowerCase() === name),
    );
    if (found !== undefined) return found.info;
    if (byId.size === 1) return first as HubInfo;
    throw iotHubError('IotHubNotFound', `There is no hub "${hostName.slice(0, 200)}".`);
  }

  const { cloud } = options;
  const cloudDevices: CloudDevices | undefined =
    cloud === undefined
      ? undefined
      : createCloudDevices({
          hubId: first.hubId,
          cloud,
          storeOf,
          identities: () => identities,
          sessions: { list: (hubId) => sessions.list(hubId) },
          sealer,
        });
  const cloudTwins: CloudTwins | undefined =
    cloud === undefined
      ? undefined
      : createCloudTwins({
          hubId: first.hubId,
          storeOf,
          cloud,
          twins: () => twins,
          clock,
          onUnsent: (deviceId) => options.onSession?.(first.hubId, deviceId),
          onUnread: (error) => telemetry.emit('hub_twins_unread', { key: first.hubId, hub: first.hubId, error }),
        });
  const brake = createBrake(clock);
  const access = createAccess({
    hubOf,
    secretsOf: hubById,
    sealer,
    cloud: cloudDevices,
    brake,
    clock,
    onPassed({ protocol }, { hubId, identity }) {
      // The only sign of life over HTTPS: elsewhere there is a session.
      if (protocol === 'https' && identity !== undefined) activity.touch(hubId, identity);
    },
    onRefused: ({ protocol, remoteAddress }, identity, reason) =>
      telemetry.emit('hub_login_refused', { key: reason, protocol, reason, identity, remoteAddress }),
  });
  const endReason = (principal: Principal): Promise<EndReason | undefined> => access.endReason(principal);
  const wills = createWills({
    storeOf,
    hubIds: settings.map(({ info }) => info.hubId),
    telemetry: options.telemetryIntake,
    endReason,
    clock,
    onLost(ref, reason) {
      const identity = refText(ref);
      telemetry.emit('hub_will_lost', { key: identity, identity, reason });
    },
  });
  const sessions = createSessions({ storeOf, endReason, wills, clock, random });
  for (const { info, policies, authorities = [] } of settings) {
    const recheck = (): Promise<void> => sessions.recheckAll(info.hubId);
    const store = createHubStore(info.hubId, state.space(`hub/${info.hubId}`));
    byId.set(info.hubId, {
      info,
      store,
      policies: createPolicies({
        store,
        settings: policies ?? DEFAULT_POLICIES,
        sealer,
        newKey: randomKey,
        onChanged: recheck,
      }),
      authorities: createAuthorities(authorities, recheck),
      feedback: createFeedback({
        store,
        settings: { ...FEEDBACK, ...options.feedback },
        clock,
        onDropped: (count, reason) => telemetry.emit('hub_feedback_dropped', { key: reason, count, reason }),
      }),
    });
  }
  const tellSession = ({ hubId, ref }: LiveSession): void => {
    if (ref !== undefined && ref.moduleId === undefined) options.onSession?.(hubId, ref.deviceId);
  };
  sessions.listen({ opened: tellSession, ready: tellSession, ended: tellSession });
  const activity = createActivity({ sessions, storeOf, clock });
  const gatewayDevices: GatewayDevices | undefined =
    field === undefined
      ? undefined
      : createGatewayDevices({
          hubId: first.hubId,
          field,
          identities: () => identities,
          twins: () => twins,
          commands: () => commands,
          clock,
          telemetry,
        });
  const presence = (hubId: string, ref: IdentityRef): Presence =>
    gatewayDevices?.presence(hubId, ref) ?? activity.presence(hubId, ref);
  const isOfCloud = (hubId: string, identity: IdentityRecord): boolean =>
    hubId === first.hubId && isCloudDevice(identity) && cloud?.() !== undefined;
  const caughtUp = async (deviceId: string): Promise<void> => options.caughtUp?.(deviceId);
  const twins = createTwins({
    storeOf,
    sessions,
    presence,
    isOfCloud,
    writeAtCloud: async (...write) => cloudTwins?.write(...write),
    caughtUp,
    clock,
    onChanged(change) {
      gatewayDevices?.twinChanged(change);
      cloudTwins?.changed(change);
    },
  });
  const identities = createIdentityRegistry({
    storeOf,
    twins,
    presence,
    connectedDevices(hubId) {
      const ofAdapters = hubId === first.hubId ? (gatewayDevices?.connectedCount ?? 0) : 0;
      return sessions.connectedDevices(hubId) + ofAdapters;
    },
    async onChanged({ hubId, ref, kind }) {
      if (kind === 'created') activity.forget(hubId, ref);
      if (kind === 'deleted') methods.identityGone(hubId, ref);
      if (kind === 'deleted' && ref.moduleId === undefined) cloudTwins?.deleted(hubId, ref.deviceId);
      if (ref.moduleId === undefined) await gatewayDevices?.identityChanged(hubId, ref.deviceId, kind);
      if (kind !== 'created') await sessions.recheckDevice(hubId, ref.deviceId);
    },
    onUnreadable(hubId, ref, error) {
      const identity = refText(ref);
      telemetry.emit('hub_keys_unreadable', { key: identity, hub: hubId, identity, error: errorText(error) });
    },
    sealer,
    newKey: randomKey,
    clock,
    random,
  });
  const commands = createCommands({
    storeOf,
    feedbackOf: (hubId) => hubById(hubId).feedback,
    hubIds: [...byId.keys()],
    sessions,
    settings: { ...COMMANDS, ...options.commands },
    clock,
    onWaiting: (hubId, deviceId) => gatewayDevices?.commandsWait(hubId, deviceId),
  });
  const methods = createMethods({
    storeOf,
    sessions,
    clock,
    direct: (...call) => gatewayDevices?.direct(...call),
  });
  const pollers = createPollers({
    hubId: first.hubId,
    receive: (hubId, deviceId) => commands.receive(hubId, deviceId),
    async isOfCloud(deviceId) {
      const identity = await storeOf(first.hubId).identity({ deviceId });
      return identity !== undefined && isOfCloud(first.hubId, identity);
    },
    reached: caughtUp,
    onListening: (deviceId) => options.onSession?.(first.hubId, deviceId),
    clock,
  });
  return {
    hubOf,
    hubs: settings.map(({ info }) => info),
    access,
    identities,
    sessions,
    twins,
    telemetry: options.telemetryIntake,
    commands: { ...commands, receive: (hubId, deviceId) => pollers.receive(hubId, deviceId) },
    methods,
    events: options.events,
    attachHead: (name, deliver) => sessions.attachHead(name, deliver),
    authoritiesOf: (hubId) => hubById(hubId).authorities,
    policiesOf: (hubId) => hubById(hubId).policies,
    sessionsOf: (hubId) => sessions.list(hubId),
    sessionOf: (hubId, deviceId) => sessions.find(hubId, { deviceId }),
    offerCommand(hubId, deviceId, ...message) {
      const settled = commands.offer(hubId, deviceId, ...message);
      if (hubId === first.hubId) pollers.arrived(deviceId);
      return settled;
    },
    pollers,
    cloudTwins,
    cloudChanged: async () => cloudDevices?.changed(),
    generationOf: (hubId, deviceId) => gatewayDevices?.generationOf(hubId, deviceId),
    admits: (deviceId) => gatewayDevices?.admits(deviceId) ?? true,
    start() {
      // Draws the keys of policies at the first start; later ones, and a store that is away, read them when they are needed.
      for (const { info, policies } of byId.values()) {
        policies.all().catch((error: unknown) => {
          telemetry.emit('hub_policies_unread', { key: info.hubId, hub: info.hubId, error: errorText(error) });
        });
      }
      gatewayDevices?.start();
      cloudTwins?.start();
      wills.start();
    },
    async stop() {
      cloudTwins?.stop();
      commands.stop();
      sessions.stop();
      await wills.stop();
      await gatewayDevices?.stop();
      await activity.flush().catch(() => {});
      activity.stop();
    },
    health: () => state.health(),
    stats() {
      const all = [...byId.values()];
      return {
        sessions: sessions.count,
        cachedIdentities: all.reduce((sum, { store }) => sum + store.cached, 0),
        commandQueues: commands.loaded,
        feedbackRecords: all.reduce((sum, { feedback }) => sum + feedback.waiting, 0),
        methodsInFlight: methods.inFlight,
        rememberedGuesses: brake.remembered,
        delayedRefusals: brake.waiting,
      };
    },
  };
}
