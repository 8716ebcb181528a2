// One local hub from its start to its stop: its own state store, behaviour, certificates, listeners and protocol heads.
// All of it is loaded at the start, so that a gateway without a hub pays nothing.
//
// Start: sealing, store, behaviour, certificates, doors, heads. Stop: doors, heads, behaviour, store.

import { join } from 'node:path';
import type { HubConfig } from '../config/hub-schema.ts';
import type { Clock } from '../core/clock.ts';
import type { CloudIdentities } from '../core/endpoint.ts';
import { errorText } from '../core/errors.ts';
import type { ProtocolHead } from '../core/hub/head.ts';
import type { HubInfo } from '../core/hub/hub.ts';
import type { LimitName } from '../core/limits.ts';
import type { LogFields, Logger } from '../core/log.ts';
import type { HeadDefinition } from '../core/module.ts';
import type { Outbox } from '../core/outbox.ts';
import type { HealthReport } from '../core/service.ts';
import type { DeviceRegistry } from '../devices/device-registry.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import type { HubService } from '../hub/hub.ts';
import type { PolicySettings } from '../hub/policies.ts';
import type { Telemetry } from '../observe/events.ts';
import type { Ingress } from '../pipeline/ingress.ts';
import type { Random } from '../platform/random.ts';
import type { Sealer } from '../platform/sealing.ts';
import type { StateStore } from '../store/state/state-store.ts';
import type { HubDoorsService } from '../wire/hub-doors.ts';
import type { CertificateWatch } from './certificate-watch.ts';
import { certificatesOf, ownNames, watchedOf } from './hub-certificates.ts';

export interface RunningHubOptions {
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
  /** Resolves, soon in any case, when a device of that hub has the twin here that it has there. Never rejects. */
  readonly caughtUp: (deviceId: string) => Promise<void>;
  /** A device's session began, ended, or takes something else, or the device has reported something. */
  readonly onSession: (hubId: string, deviceId: string) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly telemetry: Telemetry;
}

/** How often it is looked whether certificates near their end or addresses of the machine changed. */
const RENEW_MS = 6 * 3_600_000;

export class RunningHub {
  readonly hub: HubService;
  readonly #options: RunningHubOptions;
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
    options: RunningHubOptions,
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
  static async start(config: HubConfig, options: RunningHubOptions, signal: AbortSignal): Promise<RunningHub> {
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
  options: RunningHubOptions,
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
    caughtUp: options.caughtUp,
    onSession: options.onSession,
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
