// The composition root: builds every part in boot order and stops them in reverse. Nothing else constructs parts.
//
// Boot order: the outbox (nothing may come in before it can be stored), the state store, ingress, adapters (values flow), endpoints (values
// leave), then what people look at. Stop order: adapters, ingress, endpoints, state store, outbox.

import type { GatewayConfig } from './config/config.ts';
import type { Adapter } from './core/adapter.ts';
import type { Clock } from './core/clock.ts';
import { UPSTREAM_ENDPOINT } from './core/endpoint.ts';
import { errorText } from './core/errors.ts';
import type { GatewayMethods } from './core/gateway-methods.ts';
import type { Logger } from './core/log.ts';
import type { HeadDefinition } from './core/module.ts';
import type { Outbox } from './core/outbox.ts';
import { AdapterSupervisor, type AdapterStatus } from './devices/adapter-supervisor.ts';
import { createDeviceRegistry, NO_ADAPTER, type DeviceRegistry } from './devices/device-registry.ts';
import { createDispatcher, type Dispatcher } from './devices/dispatcher.ts';
import { createPointCache, type PointCache } from './devices/point-cache.ts';
import { watchClock, type ClockWatch } from './gateway/clock-watch.ts';
import { EndpointSet, type EndpointAtWork } from './gateway/endpoint-set.ts';
import { HubSet } from './gateway/hub-set.ts';
import { createSessionDevices } from './gateway/session-devices.ts';
import { adapterPlan, endpointsOf, keepStreams, routerFor, type ModuleList } from './gateway/modules.ts';
import { createSecretShelves } from './gateway/secret-shelf.ts';
import type { HubService } from './hub/hub.ts';
import type { Telemetry } from './observe/events.ts';
import type { HealthPart } from './observe/health.ts';
import type { FieldMeters } from './observe/metrics.ts';
import { Ingress } from './pipeline/ingress.ts';
import type { Router } from './pipeline/route.ts';
import { createTransform } from './pipeline/transform.ts';
import { removePasswordFiles } from './platform/password-file.ts';
import type { Random } from './platform/random.ts';
import type { StateStore } from './store/state/state-store.ts';

export interface GatewayOptions {
  readonly config: GatewayConfig;
  readonly modules: ModuleList;
  /** Protocols of the local hub. */
  readonly heads: readonly HeadDefinition[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What back ends may call of the gateway itself. */
  readonly methods?: GatewayMethods;
  /** Simulates every configured device. */
  readonly simulate?: boolean;
  /** Opens the outbox with the queues of the routes. */
  readonly openOutbox: (config: GatewayConfig, router: Router) => Promise<Outbox>;
  /** Never rejects: a state store that does not open is shown as such. */
  readonly openState: () => Promise<StateStore>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly telemetry: Telemetry;
  readonly meters: FieldMeters;
  /** Folder for captures of raw bytes. */
  readonly dataDirectory: string;
  readonly captureDirectory: string;
}

/** Parts of a stop, or of a change, share this time; what has not ended then is named in the log. */
const STOP_MS = 10_000;

export class Gateway {
  readonly outbox: Outbox;
  readonly state: StateStore;
  readonly registry: DeviceRegistry;
  readonly points: PointCache;
  readonly dispatcher: Dispatcher;
  readonly #options: GatewayOptions;
  readonly #ingress: Ingress;
  readonly #supervisor: AdapterSupervisor;
  readonly #endpoints: EndpointSet;
  readonly #hubs: HubSet;
  readonly #running = new AbortController();
  #config: GatewayConfig;
  #clockWatch: ClockWatch | undefined;
  #applying: Promise<void> = Promise.resolve();
  #applyDeadline: AbortController | undefined;
  #stopping: Promise<void> | undefined;

  private constructor(options: GatewayOptions, outbox: Outbox, state: StateStore) {
    const { clock, random, log, telemetry, meters, modules, config } = options;
    const transform = createTransform({
      onSuppressed(counts) {
        for (const [reason, count] of Object.entries(counts)) {
          if (count > 0) telemetry.emit('readings_suppressed', { reason, count });
        }
      },
    });
    this.#options = options;
    this.#config = config;
    this.outbox = outbox;
    this.state = state;
    this.registry = createDeviceRegistry(clock, telemetry);
    // Events about loss are messages of this device: nobody else may speak in its name.
    this.registry.reserve(NO_ADAPTER, [config.gatewayId]);
    this.points = createPointCache();
    const router = this.#routerFor(config);
    this.#ingress = new Ingress({ outbox, router, transform, messages: config.messages, clock, telemetry });
    this.#supervisor = new AdapterSupervisor({
      gatewayId: config.gatewayId,
      ingress: this.#ingress,
      transform,
      registry: this.registry,
      points: this.points,
      meters,
      clock,
      log,
      telemetry,
      dataDirectory: options.dataDirectory,
      captureDirectory: options.captureDirectory,
      stateOf: (adapterId) => state.space(`adapter/${adapterId}`),
    });
    this.dispatcher = createDispatcher({
      registry: this.registry,
      adapterOf: (deviceId) => this.#supervisor.adapterOf(deviceId),
      commands: state.space('commands'),
      audit: state.space('audit'),
      writeRates: state.space('write-rates'),
      clock,
      telemetry,
    });
    const sessions = createSessionDevices({
      hubId: () => this.#config.hub?.hubId,
      hub: () => this.#hubs.hub,
      registry: this.registry,
    });
    this.#endpoints = new EndpointSet({
      sessions,
      outbox,
      registry: this.registry,
      twins: state.space('upstream-twins'),
      methods: options.methods,
      dispatcher: this.dispatcher,
      gatewayId: config.gatewayId,
      budgets: state.space('byte-budgets'),
      secretsOf: createSecretShelves(state.space('endpoint-secrets'), options),
      modules,
      clock,
      random,
      log,
      telemetry,
    });
    this.#hubs = new HubSet({
      ...options,
      outbox,
      ingress: this.#ingress,
      registry: this.registry,
      dispatcher: this.dispatcher,
      cloud: () => this.#endpoints.cloud,
      caughtUp: (deviceId) => this.#endpoints.caughtUp(deviceId),
      onSession: (hubId, deviceId) => sessions.changed(hubId, deviceId),
    });
  }

  /** @throws GatewayError GW_STORE_OPEN, GW_STORE_FORMAT, GW_STORE_WRITE, GW_DATA_LOCKED, GW_DATA_DIRECTORY from the outbox; nothing else. */
  static async start(options: GatewayOptions): Promise<Gateway> {
    const outbox = await options.openOutbox(options.config, routerFor(options.config));
    await keepStreams(outbox, options.config, options.telemetry);
    const gateway = new Gateway(options, outbox, await options.openState());
    const { clock, telemetry, config } = options;
    gateway.#clockWatch = watchClock({ clock, outbox, telemetry });
    const endpoints = endpointsOf(config).map((one) => gateway.#endpoints.add(one, gateway.#running.signal));
    // Beside all the rest, which never waits for it; it lets in whom the upstream knows.
    void Promise.all(endpoints).then(() => gateway.#hubs.apply(config.hub, gateway.#running.signal));
    await Promise.all([gateway.#addAdapters(config.adapters), ...endpoints]);
    return gateway;
  }

  get config(): GatewayConfig {
    return this.#config;
  }

  adapters(): readonly AdapterStatus[] {
    return this.#supervisor.status();
  }

  /** Adapters of a type that were built. */
  adaptersOf(type: string): readonly Adapter[] {
    return this.#supervisor.adaptersOf(type);
  }

  endpoints(): readonly EndpointAtWork[] {
    return this.#endpoints.atWork();
  }

  /** What could not be built at all. */
  failedParts(): readonly HealthPart[] {
    return this.#endpoints.failed();
  }

  /** How the parts of the local hub are; none when it is off. */
  hubParts(): readonly HealthPart[] {
    return this.#hubs.parts();
  }

  /** What of the limits of the local hub is in use. */
  hubInUse(): ReturnType<HubSet['inUse']> {
    return this.#hubs.inUse();
  }

  /** The local hub; undefined while it is off or not yet built. */
  get hub(): HubService | undefined {
    return this.#hubs.hub;
  }

  ingress(): ReturnType<Ingress['stats']> {
    return this.#ingress.stats();
  }

  /** Commands from upstream that are under way, and those that are remembered. */
  commands(): { readonly taken: number; readonly remembered: number } {
    return { taken: this.#endpoints.commandsTaken, remembered: this.state.use('commands').keys };
  }

  networkChanged(): void {
    this.#endpoints.networkChanged();
  }

  /**
   * Makes the parts follow another configuration; only those whose settings differ are restarted. Changes are applied one
   * after the other. The gateway's id and the web server's settings are not its to change.
   */
  apply(next: GatewayConfig): Promise<void> {
    const applied = this.#applying.then(async () => {
      this.#applyDeadline = new AbortController();
      await this.#withDeadline((deadline) => this.#apply(next, deadline), this.#applyDeadline);
    });
    this.#applying = applied.catch(() => {});
    return applied;
  }

  /** Cuts short what a change under way waits for: it is to be stopped. */
  hurry(): void {
    this.#applyDeadline?.abort();
  }

  /** Idempotent: every caller gets the same promise. Takes at most about 10 s, then closes the outbox all the same. */
  stop(): Promise<void> {
    this.hurry();
    this.#stopping ??= this.#applying.then(() => this.#withDeadline((deadline) => this.#stop(deadline)));
    return this.#stopping;
  }

  #routerFor(config: GatewayConfig): Router {
    return routerFor(config, this.outbox, (message) => this.#hubs.admits(message));
  }

  async #apply(next: GatewayConfig, deadline: AbortSignal): Promise<void> {
    const before = this.#config;
    this.#config = next;
    const signal = AbortSignal.any([this.#running.signal, deadline]);
    const changed = <T>(a: T, b: T): boolean => JSON.stringify(a, bigintText) !== JSON.stringify(b, bigintText);

    this.outbox.setSettings(next.outbox);
    this.#ingress.setMessages(next.messages);
    const [adaptersBefore, adaptersNext] = [byId(before.adapters), byId(next.adapters)];
    const goneAdapters = before.adapters.filter(({ id }) => changed(adaptersBefore.get(id), adaptersNext.get(id)));
    await Promise.all(
      goneAdapters.map(({ id }) =>
        this.#supervisor.remove(id, signal, { keepDevices: adaptersNext.get(id)?.enabled === true }),
      ),
    );
    const [endpointsBefore, endpointsNext] = [byName(endpointsOf(before)), byName(endpointsOf(next))];
    const changedNames = [...new Set([...endpointsBefore.keys(), ...endpointsNext.keys()])].filter((name) =>
      changed(endpointsBefore.get(name), endpointsNext.get(name)),
    );
    await Promise.all(changedNames.map((name) => this.#endpoints.remove(name, signal)));

    const isHubChanged = changed(withoutLiveFields(before.hub), withoutLiveFields(next.hub));
    if (isHubChanged) await this.#hubs.apply(undefined, deadline);
    await keepStreams(this.outbox, next, this.#options.telemetry);
    const router = this.#routerFor(next);
    await this.outbox.setQueues(router.queues);
    this.#ingress.setRouter(router);
    if (isHubChanged) await this.#hubs.apply(next.hub, deadline);
    else if (next.hub !== undefined && changed(before.hub, next.hub)) await this.#hubs.follow(next.hub, deadline);

    for (const name of changedNames) {
      const endpoint = endpointsNext.get(name);
      if (endpoint !== undefined) await this.#endpoints.add(endpoint, this.#running.signal);
    }
    if (!endpointsNext.has(UPSTREAM_ENDPOINT)) this.#endpoints.forgetCloud();
    if (changedNames.includes(UPSTREAM_ENDPOINT)) await this.#hubs.cloudChanged();
    await this.#addAdapters(next.adapters.filter(({ id }) => changed(adaptersBefore.get(id), adaptersNext.get(id))));
  }

  async #addAdapters(adapters: GatewayConfig['adapters']): Promise<void> {
    const { modules, simulate } = this.#options;
    const enabled = adapters.filter(({ enabled: on }) => on);
    await Promise.all(enabled.map((adapter) => this.#supervisor.add(adapterPlan(adapter, modules, simulate))));
    await this.#forgetPasswords();
  }

  /** Of adapters that are gone. */
  async #forgetPasswords(): Promise<void> {
    const { dataDirectory, log } = this.#options;
    try {
      await removePasswordFiles(dataDirectory, new Set(this.#config.adapters.map(({ id }) => id)));
    } catch (error) {
      log.warn({ error: errorText(error) }, 'The hashed passwords of an adapter that is gone could not be removed.');
    }
  }

  async #stop(deadline: AbortSignal): Promise<void> {
    const { log } = this.#options;
    const step = async (part: string, stop: () => Promise<void>): Promise<void> => {
      try {
        await stop();
      } catch (error) {
        log.warn({ part, error: errorText(error) }, 'A part did not stop in an orderly way.');
      }
      if (deadline.aborted) log.warn({ part }, 'The time for stopping was over before this part had ended.');
    };
    this.#clockWatch?.stop();
    await Promise.all([
      step('hub', () => this.#hubs.stop(deadline)),
      step('adapters', () => this.#supervisor.stop(deadline)),
    ]);
    await step('ingress', () => this.#ingress.stop(deadline));
    this.#running.abort();
    await step('endpoints', () => this.#endpoints.stop(deadline));
    await step('state store', () => this.state.close());
    await step('outbox', () => this.outbox.close());
  }

  async #withDeadline(work: (deadline: AbortSignal) => Promise<void>, deadline = new AbortController()): Promise<void> {
    const cancel = this.#options.clock.after(STOP_MS, () => deadline.abort());
    try {
      await work(deadline.signal);
    } finally {
      cancel();
    }
  }
}

function byId<T extends { readonly id: string }>(items: readonly T[]): ReadonlyMap<string, T> {
  return new Map(items.map((item) => [item.id, item]));
}

function byName<T extends { readonly name: string }>(items: readonly T[]): ReadonlyMap<string, T> {
  return new Map(items.map((item) => [item.name, item]));
}

/** Without what the hub takes while it runs. */
function withoutLiveFields(hub: GatewayConfig['hub']): object | undefined {
  return hub === undefined
    ? undefined
    : { ...hub, policies: undefined, authorities: undefined, certificates: undefined };
}

function bigintText(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? `${value}n` : value;
}
