// The endpoints at work, one runner each. An endpoint that cannot be built is shown as failed; its queue keeps filling.

import type { EndpointConfig } from '../config/config.ts';
import type { Clock } from '../core/clock.ts';
import { isDeviceId, type DeviceId } from '../core/device.ts';
import { UPSTREAM_ENDPOINT, type CloudIdentities, type Endpoint, type UpstreamTransport } from '../core/endpoint.ts';
import { errorText } from '../core/errors.ts';
import type { GatewayMethods } from '../core/gateway-methods.ts';
import type { Logger } from '../core/log.ts';
import type { Outbox } from '../core/outbox.ts';
import type { SessionDevices } from '../core/session-devices.ts';
import type { SecretShelf } from '../core/secret-shelf.ts';
import type { StateSpace } from '../core/state.ts';
import type { HealthReport } from '../core/service.ts';
import type { DeviceRegistry } from '../devices/device-registry.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import type { Telemetry } from '../observe/events.ts';
import type { HealthPart } from '../observe/health.ts';
import type { Random } from '../platform/random.ts';
import { compileCondition } from '../pipeline/condition.ts';
import { Budget } from '../upstream/budget.ts';
import { attachDownlink, type Downlink } from '../upstream/downlink.ts';
import { DrainRate } from '../upstream/drain-rate.ts';
import { createMeter } from '../upstream/meter.ts';
import { createSeal } from '../upstream/seal.ts';
import { createEndpointRunner, type EndpointRunner, type EndpointStatus } from '../upstream/endpoint-runner.ts';
import { attachTwins, type UpstreamTwins } from '../upstream/twins.ts';
import { createEndpoint, type ModuleList } from './modules.ts';

export interface EndpointSetOptions {
  readonly outbox: Outbox;
  readonly registry: DeviceRegistry;
  readonly dispatcher: Dispatcher;
  /** Where the twins of the upstream transport are kept. */
  readonly twins: StateSpace;
  /** Devices with sessions at the local hub. */
  readonly sessions: SessionDevices;
  readonly gatewayId: DeviceId;
  /** What back ends may call of the gateway itself. */
  readonly methods: GatewayMethods | undefined;
  /** Where an endpoint of that name keeps secrets that it was given. */
  readonly secretsOf: (name: string) => SecretShelf;
  /** Keeps what endpoints have used of their byte budgets. */
  readonly budgets: StateSpace;
  readonly modules: ModuleList;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly telemetry: Telemetry;
}

/** One endpoint at work. */
export interface EndpointAtWork {
  readonly type: string;
  readonly hint?: string;
  status(): EndpointStatus;
  health(): HealthReport;
}

/** A device that asks for its twin waits no longer for the cloud's. */
const CATCH_UP_MS = 5000;

interface Entry {
  readonly config: EndpointConfig;
  /** Undefined when it is disabled or could not be built. */
  readonly runner: EndpointRunner | undefined;
  readonly hint: string | undefined;
  readonly failure: string | undefined;
}

export class EndpointSet {
  readonly #options: EndpointSetOptions;
  readonly #entries = new Map<string, Entry>();
  #downlink: Downlink | undefined;
  #cloud: CloudIdentities | undefined;
  #twins: UpstreamTwins | undefined;

  constructor(options: EndpointSetOptions) {
    this.#options = options;
  }

  /** Builds and starts one; its queue must be open. Never rejects for what the endpoint cannot do. */
  async add(config: EndpointConfig, signal: AbortSignal): Promise<void> {
    const { outbox, dispatcher, gatewayId, methods, modules, clock, random, log, telemetry } = this.#options;
    if (!config.enabled) {
      this.#entries.set(config.name, { config, runner: undefined, hint: undefined, failure: undefined });
      return;
    }
    try {
      const endpoint = await createEndpoint(config, modules, {
        endpointName: config.name,
        gatewayId,
        clock,
        log: log.child({ endpoint: config.name }),
        secrets: this.#options.secretsOf(config.name),
      });
      const { name, maxBytesPerSec, monthlyBudget, urgent } = config;
      const budget =
        monthlyBudget === undefined
          ? undefined
          : new Budget({ name, ...monthlyBudget, state: this.#options.budgets, clock, telemetry });
      const meter = createMeter(budget);
      if (config.name === UPSTREAM_ENDPOINT) {
        this.#cloud = identitiesOf(endpoint);
        const twins = attachTwins(endpoint, { ...this.#options, name, space: this.#options.twins });
        this.#twins = twins;
        this.#downlink = attachDownlink(endpoint, {
          name,
          gatewayId,
          dispatcher,
          ...(methods !== undefined && { methods }),
          sessions: this.#options.sessions,
          telemetry,
          meter,
          onWritten: (deviceId, values) => twins?.confirmed(deviceId, values),
        });
      }
      const runner = createEndpointRunner({
        name: config.name,
        endpoint,
        queue: outbox.queue(config.name),
        order: config.order,
        seal: config.seal === undefined ? undefined : await createSeal(config.seal),
        meter,
        budget,
        drainRate: maxBytesPerSec === undefined ? undefined : new DrainRate(maxBytesPerSec, clock),
        isUrgent: urgent === undefined ? undefined : compileCondition(urgent),
        clockOffset: (bootId) => outbox.clockOffset(bootId),
        clock,
        random,
        telemetry,
      });
      this.#entries.set(config.name, { config, runner, hint: endpoint.hint, failure: undefined });
      await runner.start(signal);
    } catch (error) {
      this.#entries.set(config.name, { config, runner: undefined, hint: undefined, failure: errorText(error) });
      telemetry.emit('endpoint_failed', { endpoint: config.name, reason: errorText(error) });
    }
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    if (name === UPSTREAM_ENDPOINT) this.#twins?.stop();
    await this.#entries.get(name)?.runner?.stop(signal);
    this.#entries.delete(name);
  }

  /** Who is known at the hub that the upstream leads to; undefined where it leads to none. */
  get cloud(): CloudIdentities | undefined {
    return this.#cloud;
  }

  /** There is no upstream any more. Until then, or until another is there, the earlier one's identities hold. */
  forgetCloud(): void {
    this.#cloud = undefined;
  }

  /**
   * Resolves when a device at the local hub has the twin there that it has at the hub of the upstream; without a connection, or
   * without an answer for a while, at once: local operation does not depend on the cloud. Never rejects.
   */
  async caughtUp(deviceId: string): Promise<void> {
    const { clock } = this.#options;
    const upstream = this.#entries.get(UPSTREAM_ENDPOINT)?.runner;
    if (!isDeviceId(deviceId) || upstream?.status().state !== 'connected') return;
    const patience = new AbortController();
    const cancel = clock.after(CATCH_UP_MS, () => patience.abort());
    await this.#twins?.fetched(deviceId, patience.signal);
    cancel();
  }

  /** Commands from upstream that are under way. */
  get commandsTaken(): number {
    return this.#downlink?.taken ?? 0;
  }

  /** The system saw a network change: what cannot be reached is tried now. */
  networkChanged(): void {
    for (const { runner } of this.#entries.values()) runner?.networkChanged();
  }

  atWork(): readonly EndpointAtWork[] {
    return [...this.#entries.values()].flatMap(({ config, runner, hint }) =>
      runner === undefined
        ? []
        : [
            {
              type: config.type,
              ...(hint === undefined ? {} : { hint }),
              status: () => runner.status(),
              health: () => runner.health(),
            },
          ],
    );
  }

  /** The endpoints that could not be built. */
  failed(): readonly HealthPart[] {
    return [...this.#entries.values()].flatMap(({ config, failure }) =>
      failure === undefined
        ? []
        : [
            {
              part: `endpoint ${config.name}`,
              essential: false,
              report: { status: 'failed', reason: failure } as const,
            },
          ],
    );
  }

  /** Stops all at the same time: each drains what is in flight until the signal aborts. */
  async stop(signal: AbortSignal): Promise<void> {
    await Promise.all([...this.#entries.keys()].map((name) => this.remove(name, signal)));
  }
}

function identitiesOf(endpoint: Endpoint | UpstreamTransport): CloudIdentities | undefined {
  return 'identities' in endpoint ? endpoint.identities : undefined;
}
