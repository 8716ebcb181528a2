// The endpoints at work, one runner each. An endpoint that cannot be built is shown as failed; its queue keeps filling.

import type { EndpointConfig } from '../config/config.ts';
import type { Clock } from '../core/clock.ts';
import type { DeviceId } from '../core/device.ts';
import { errorText } from '../core/errors.ts';
import type { Logger } from '../core/log.ts';
import type { Outbox } from '../core/outbox.ts';
import type { HealthReport } from '../core/service.ts';
import type { Telemetry } from '../observe/events.ts';
import type { Random } from '../platform/random.ts';
import { createEndpointRunner, type EndpointRunner, type EndpointStatus } from '../upstream/endpoint-runner.ts';
import { createEndpoint, type ModuleList } from './modules.ts';

export interface EndpointSetOptions {
  readonly outbox: Outbox;
  readonly gatewayId: DeviceId;
  readonly modules: ModuleList;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly telemetry: Telemetry;
}

export interface EndpointEntryStatus {
  readonly name: string;
  readonly type: string;
  readonly health: HealthReport;
  /** Undefined when it is disabled or could not be built. */
  readonly runner: EndpointStatus | undefined;
}

interface Entry {
  readonly config: EndpointConfig;
  readonly runner: EndpointRunner | undefined;
  readonly failure: string | undefined;
}

export class EndpointSet {
  readonly #options: EndpointSetOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: EndpointSetOptions) {
    this.#options = options;
  }

  /** Builds and starts one; its queue must be open. Never rejects for what the endpoint cannot do. */
  async add(config: EndpointConfig, signal: AbortSignal): Promise<void> {
    const { outbox, gatewayId, modules, clock, random, log, telemetry } = this.#options;
    if (!config.enabled) {
      this.#entries.set(config.name, { config, runner: undefined, failure: undefined });
      return;
    }
    try {
      const endpoint = await createEndpoint(config, modules, {
        endpointName: config.name,
        gatewayId,
        clock,
        log: log.child({ endpoint: config.name }),
      });
      const runner = createEndpointRunner({
        name: config.name,
        endpoint,
        queue: outbox.queue(config.name),
        order: config.order,
        clockOffset: (bootId) => outbox.clockOffset(bootId),
        clock,
        random,
        telemetry,
      });
      this.#entries.set(config.name, { config, runner, failure: undefined });
      await runner.start(signal);
    } catch (error) {
      this.#entries.set(config.name, { config, runner: undefined, failure: errorText(error) });
      telemetry.emit('endpoint_failed', { endpoint: config.name, reason: errorText(error) });
    }
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    await this.#entries.get(name)?.runner?.stop(signal);
    this.#entries.delete(name);
  }

  /** The system saw a network change: what cannot be reached is tried now. */
  networkChanged(): void {
    for (const { runner } of this.#entries.values()) runner?.networkChanged();
  }

  status(): readonly EndpointEntryStatus[] {
    return [...this.#entries.values()].map(({ config, runner, failure }) => ({
      name: config.name,
      type: config.type,
      health:
        failure === undefined ? (runner?.health() ?? { status: 'stopped' }) : { status: 'failed', reason: failure },
      runner: runner?.status(),
    }));
  }

  /** Stops all at the same time: each drains what is in flight until the signal aborts. */
  async stop(signal: AbortSignal): Promise<void> {
    await Promise.all([...this.#entries.values()].map(({ runner }) => runner?.stop(signal)));
  }
}
