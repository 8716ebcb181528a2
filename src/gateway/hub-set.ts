// The local hub and what it needs, built when it is switched on: its own state store, certificates, listeners, protocol heads.
// All of it is loaded then, so that a gateway without a hub pays nothing. It is built beside the gateway's start, which never
// waits for it; what it lacks (a port, a key, a store) is shown in its health, and tried again.
//
// Start: sealing, store, behaviour, certificates, doors, heads. Stop: doors, heads, behaviour, store.

import { statSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import type { HubConfig } from '../config/hub-schema.ts';
import type { Clock } from '../core/clock.ts';
import type { CloudIdentities } from '../core/endpoint.ts';
import { errorText } from '../core/errors.ts';
import type { ProtocolHead } from '../core/hub/head.ts';
import type { HubInfo } from '../core/hub/hub.ts';
import type { LimitName } from '../core/limits.ts';
import type { LogFields, Logger } from '../core/log.ts';
import type { Message } from '../core/message.ts';
import type { HeadDefinition } from '../core/module.ts';
import type { Outbox } from '../core/outbox.ts';
import type { HealthReport } from '../core/service.ts';
import type { DeviceRegistry } from '../devices/device-registry.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import type { HubService } from '../hub/hub.ts';
import type { PolicySettings } from '../hub/policies.ts';
import type { Telemetry } from '../observe/events.ts';
import type { HealthPart } from '../observe/health.ts';
import type { Ingress } from '../pipeline/ingress.ts';
import type { Random } from '../platform/random.ts';
import type { Sealer } from '../platform/sealing.ts';
import type { StateStore } from '../store/state/state-store.ts';
import type { HubDoorsService, ServerCertificate } from '../wire/hub-doors.ts';
import type { CertificateWatch, WatchedCertificates } from './certificate-watch.ts';

export interface HubSetOptions {
  readonly dataDirectory: string;
  /** For the credentials of systemd. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly heads: readonly HeadDefinition[];
  readonly outbox: Outbox;
  readonly ingress: Pick<Ingress, 'messages'>;
  readonly registry: DeviceRegistry;
  readonly dispatcher: Dispatcher;
  /** Who is known at the hub that the upstream leads to. */
  readonly cloud: () => CloudIdentities | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly telemetry: Telemetry;
}

/** Pause before what could not be built is tried again. */
const RETRY_MS = 15_000;
/** How often it is looked whether certificates near their end or addresses of the machine changed. */
const RENEW_MS = 6 * 3_600_000;

/** The hub that runs, if any. Changes are applied one after the other. */
export class HubSet {
  readonly #options: HubSetOptions;
  #config: HubConfig | undefined;
  #running: RunningHub | undefined;
  #failure: string | undefined;
  #cancelRetry: (() => void) | undefined;
  #turn: Promise<void> = Promise.resolve();
  readonly #life = new AbortController();

  constructor(options: HubSetOptions) {
    this.#options = options;
  }

  /** The behaviour, for the command line and the UI; undefined while there is none. */
  get hub(): HubService | undefined {
    return this.#running?.hub;
  }

  /**
   * Makes the hub follow another configuration. Resolves when the earlier one has ended, in an orderly way until `deadline`
   * aborts; the new one is built after that.
   */
  apply(config: HubConfig | undefined, deadline: AbortSignal): Promise<void> {
    this.#config = config;
    const ended = this.#turn.then(() => this.#end(deadline));
    this.#turn = ended.then(() => this.#build());
    return ended;
  }

  /**
   * Makes the hub that runs follow other policies, authorities of devices and certificates of its own: sessions that lost what
   * let them in end, nobody else notices. Resolves when they were told. Where that fails the hub is built anew.
   */
  follow(config: HubConfig, deadline: AbortSignal): Promise<void> {
    this.#config = config;
    this.#turn = this.#turn.then(async () => {
      try {
        await this.#running?.follow(config);
      } catch (error) {
        this.#options.log.warn(
          { error: errorText(error) },
          'The local hub could not be changed in place and is built anew.',
        );
        await this.#end(deadline);
        await this.#build();
      }
    });
    return this.#turn;
  }

  stop(deadline: AbortSignal): Promise<void> {
    this.#life.abort();
    return this.apply(undefined, deadline);
  }

  /** There is another upstream. */
  async cloudChanged(): Promise<void> {
    try {
      await this.hub?.cloudChanged();
    } catch (error) {
      // Looked at again when they connect.
      this.#options.log.warn({ error: errorText(error) }, 'Sessions of devices of the cloud could not be looked at.');
    }
  }

  /** A message came in: whether it goes to the hub's events. Those of sessions were let in with their sender. */
  admits({ hub, deviceId }: Message): boolean {
    return hub !== undefined || (this.#running?.hub.admits(deviceId) ?? true);
  }

  /** Against the limits of its name. */
  inUse(): Readonly<Partial<Record<LimitName, number>>> | undefined {
    return this.#running?.inUse();
  }

  parts(): readonly HealthPart[] {
    if (this.#config === undefined) return [];
    if (this.#failure !== undefined) {
      return [{ part: 'hub', essential: false, report: { status: 'failed', reason: this.#failure } }];
    }
    const reports = this.#running?.health() ?? [['hub', { status: 'starting' }] as const];
    return reports.map(([part, report]) => ({ part, essential: false, report }));
  }

  async #build(): Promise<void> {
    const config = this.#config;
    const { signal } = this.#life;
    if (config === undefined || signal.aborted) return;
    try {
      this.#running = await RunningHub.start(config, this.#options, signal);
      this.#failure = undefined;
    } catch (error) {
      const { log, clock } = this.#options;
      if (this.#failure === undefined) log.error({ error: errorText(error) }, 'The local hub could not be started.');
      this.#failure = errorText(error);
      this.#cancelRetry = clock.after(RETRY_MS, () => {
        this.#turn = this.#turn.then(() => this.#build());
      });
    }
  }

  async #end(deadline: AbortSignal): Promise<void> {
    this.#cancelRetry?.();
    this.#failure = undefined;
    const running = this.#running;
    this.#running = undefined;
    await running?.stop(deadline);
  }
}

class RunningHub {
  readonly hub: HubService;
  readonly #options: HubSetOptions;
  #config: HubConfig;
  readonly #state: StateStore;
  readonly #doors: HubDoorsService;
  readonly #sealer: Sealer;
  readonly #certificates: CertificateWatch;
  readonly #heads = new Map<string, ProtocolHead>();
  #certificateFault: string | undefined;
  #cancelRenewal: (() => void) | undefined;

  private constructor(
    config: HubConfig,
    options: HubSetOptions,
    parts: {
      readonly hub: HubService;
      readonly state: StateStore;
      readonly doors: HubDoorsService;
      readonly sealer: Sealer;
      readonly certificates: CertificateWatch;
    },
  ) {
    this.#config = config;
    this.#options = options;
    this.hub = parts.hub;
    this.#state = parts.state;
    this.#doors = parts.doors;
    this.#sealer = parts.sealer;
    this.#certificates = parts.certificates;
  }

  /** @throws GatewayError GW_SEALED, GW_TLS; Error of the file system. Nothing is held then. */
  static async start(config: HubConfig, options: HubSetOptions, signal: AbortSignal): Promise<RunningHub> {
    const { dataDirectory, clock, telemetry, log } = options;
    const { openSealer } = await import('../platform/sealing.ts');
    const { openStateStore } = await import('../store/state/open.ts');
    const { HUB_STATE_LIMITS: limits } = await import('../hub/hub.ts');
    const { createHubDoors } = await import('../wire/hub-listeners.ts');
    const { createCertificateWatch } = await import('./certificate-watch.ts');
    const sealer = await openSealer({ dataDirectory, env: options.env });
    const certificates = await certificatesOf(config, options, sealer);
    const doors = createHubDoors({
      ...config,
      certificates,
      areCertificatesProven: config.certificates === undefined,
      clock,
      log: log.child({ part: 'hub doors' }),
      reportRefusal: (reason, fields) => telemetry.emit('hub_refused', { ...fields, key: reason, reason }),
    });
    const state = await openStateStore({ directory: join(dataDirectory, 'db', 'hub'), limits, clock, telemetry });
    try {
      const hub = await buildHub(config, options, state, sealer);
      const watch = createCertificateWatch(clock, telemetry);
      const running = new RunningHub(config, options, { hub, state, doors, sealer, certificates: watch });
      hub.start();
      for (const definition of options.heads) await running.#addHead(definition, signal);
      watch.watch(watchedOf(config, certificates));
      running.#scheduleRenewal();
      return running;
    } catch (error) {
      await doors.close();
      await state.close();
      throw error;
    }
  }

  inUse(): Readonly<Partial<Record<LimitName, number>>> {
    const { connections, waiting } = this.#doors.counts();
    const stats = this.hub.stats();
    return {
      hub_connections: connections,
      hub_waiting_handshakes: waiting,
      hub_sessions: stats.sessions,
      hub_cached_identities: stats.cachedIdentities,
      hub_command_queues: stats.commandQueues,
      hub_feedback_records: stats.feedbackRecords,
      hub_methods: stats.methodsInFlight,
      hub_remembered_guesses: stats.rememberedGuesses,
      hub_delayed_refusals: stats.delayedRefusals,
    };
  }

  health(): readonly (readonly [part: string, report: HealthReport])[] {
    const certificates: HealthReport =
      this.#certificateFault === undefined
        ? this.#certificates.health()
        : { status: 'degraded', reason: this.#certificateFault };
    const hub: HealthReport =
      this.#heads.size > 0
        ? this.hub.health()
        : { status: 'degraded', reason: 'This build speaks no protocol of a hub.' };
    return [
      ['hub', hub],
      ['hub certificates', certificates],
      ...Array.from(this.#heads, ([type, head]) => [`hub ${type}`, head.health()] as const),
    ];
  }

  /** Takes the fields that apply live. */
  async follow(config: HubConfig): Promise<void> {
    const before = this.#config;
    const isOther = (field: 'policies' | 'authorities' | 'certificates'): boolean =>
      JSON.stringify(before[field]) !== JSON.stringify(config[field]);
    this.#config = config;
    if (isOther('authorities')) await this.hub.authoritiesOf(config.hubId).set(config.authorities);
    if (isOther('policies')) {
      const { DEFAULT_POLICIES } = await import('../hub/policies.ts');
      await this.hub.policiesOf(config.hubId).set(policiesOf(config, DEFAULT_POLICIES));
    }
    if (isOther('certificates') || isOther('authorities')) await this.#renew();
  }

  async stop(signal: AbortSignal): Promise<void> {
    this.#cancelRenewal?.();
    this.#certificates.stop();
    const { log } = this.#options;
    const step = async (part: string, stop: () => Promise<void>): Promise<void> => {
      try {
        await stop();
      } catch (error) {
        log.warn({ part, error: errorText(error) }, 'A part of the local hub did not stop in an orderly way.');
      }
    };
    await step('doors', () => this.#doors.stopAccepting());
    await Promise.all(Array.from(this.#heads, ([type, head]) => step(type, () => head.stop(signal))));
    await step('doors', () => this.#doors.close());
    await step('behaviour', () => this.hub.stop());
    await step('store', () => this.#state.close());
  }

  async #addHead(definition: HeadDefinition, signal: AbortSignal): Promise<void> {
    const { clock, log, telemetry } = this.#options;
    const { type } = definition;
    const context = {
      hub: this.hub,
      doors: this.#doors,
      clock,
      log: log.child({ part: `hub ${type}` }),
      reportRefusal: (reason: string, fields?: LogFields) =>
        telemetry.emit('hub_refused', { ...fields, head: type, key: reason, reason }),
    };
    const { WaitingHead } = await import('./waiting-head.ts');
    const head = new WaitingHead(definition, context, this.#doors);
    this.hub.attachHead(type, (items) => head.deliver(items));
    this.#heads.set(type, head);
    await head.start(signal);
  }

  #scheduleRenewal(): void {
    this.#cancelRenewal = this.#options.clock.after(RENEW_MS, () => {
      void this.#renewOwn().finally(() => this.#scheduleRenewal());
    });
  }

  /** Certificates that a person gave are that person's to renew. */
  async #renewOwn(): Promise<void> {
    if (this.#config.certificates === undefined) await this.#renew();
  }

  async #renew(): Promise<void> {
    const config = this.#config;
    try {
      const certificates = await certificatesOf(config, this.#options, this.#sealer);
      // Others were configured meanwhile.
      if (this.#config.certificates !== config.certificates) return;
      this.#doors.replaceCertificates(certificates);
      this.#certificates.watch(watchedOf(config, certificates));
      this.#certificateFault = undefined;
    } catch (error) {
      this.#certificateFault = errorText(error);
      this.#options.log.error({ error: errorText(error) }, 'The certificates of the local hub could not be replaced.');
    }
  }
}

async function buildHub(
  config: HubConfig,
  options: HubSetOptions,
  state: StateStore,
  sealer: Sealer,
): Promise<HubService> {
  const { outbox, ingress, registry, dispatcher, clock, random, telemetry } = options;
  const { createHub } = await import('../hub/hub.ts');
  const { DEFAULT_POLICIES } = await import('../hub/policies.ts');
  const { createEvents } = await import('../hub/events.ts');
  const { createTelemetryIntake } = await import('../hub/telemetry-intake.ts');
  const hub: HubService = createHub({
    hubs: [{ info: infoOf(config), policies: policiesOf(config, DEFAULT_POLICIES), authorities: config.authorities }],
    state,
    sealer,
    events: createEvents({ outbox, generationOf: (...asked) => hub.generationOf(...asked) }),
    telemetryIntake: createTelemetryIntake({
      ingress,
      identities: {
        device: (...asked) => hub.identities.device(...asked),
        module: (...asked) => hub.identities.module(...asked),
      },
      clock,
    }),
    field: { registry, dispatcher, autoRegister: config.autoRegister },
    cloud: options.cloud,
    commands: config.commands,
    feedback: config.feedback,
    clock,
    random,
    telemetry,
  });
  return hub;
}

function policiesOf(config: HubConfig, defaults: readonly PolicySettings[]): readonly PolicySettings[] {
  const named = new Set(config.policies.map(({ name }) => name));
  return [...defaults.filter(({ name }) => !named.has(name)), ...config.policies];
}

function infoOf(config: HubConfig): HubInfo {
  return {
    hubId: config.hubId,
    hostName: config.hostName,
    alternateNames: [...ownNames(config), ...config.acceptedHostNames].filter((name) => name !== config.hostName),
    eventHubName: config.hubId,
    consumerGroups: config.events.consumerGroups,
    faultInjection: config.faultInjection,
  };
}

async function certificatesOf(
  config: HubConfig,
  options: HubSetOptions,
  sealer: Sealer,
): Promise<readonly ServerCertificate[]> {
  if (config.certificates !== undefined) return config.certificates;
  const { openPki } = await import('../platform/pki.ts');
  const { certificates } = await openPki({
    dataDirectory: options.dataDirectory,
    sealer,
    hostName: config.hostName,
    names: ownNames(config),
    builtAtMs: builtAtMs(),
    wallMs: options.clock.wallMs(),
  });
  return certificates;
}

function watchedOf(config: HubConfig, certificates: readonly ServerCertificate[]): readonly WatchedCertificates[] {
  return [
    {
      from: config.certificates === undefined ? 'pki' : 'hub.certificates',
      pems: certificates.map(({ certificate }) => certificate),
    },
    { from: 'hub.authorities', pems: config.authorities },
  ];
}

/** A file system without a clock gives times of 1970. */
const EARLIEST_BUILD_MS = Date.UTC(2026, 0, 1);

/** When this program was put here: no file of it is newer than its build. */
function builtAtMs(): number {
  return Math.max(Math.trunc(statSync(import.meta.filename).mtimeMs), EARLIEST_BUILD_MS);
}

/** Names and addresses by which clients may reach the hub. */
function ownNames({ address, hostName }: HubConfig): readonly string[] {
  const everywhere = address === '0.0.0.0' || address === '::';
  const interfaces = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  // A link-local address of IPv6 means another machine on each link.
  const addresses = interfaces.map((entry) => entry.address).filter((text) => !/^fe80:/i.test(text));
  return [...new Set([hostName, 'localhost', hostname(), '127.0.0.1', ...(everywhere ? addresses : [address])])];
}
