// What the daemon is made of before it exists: the data directory, the means to observe, the gateway on its store.

import { join } from 'node:path';
import type { GatewayConfig } from '../config/config.ts';
import { errorText, GatewayError, isGatewayError, systemCode } from '../core/errors.ts';
import type { GatewayMethods } from '../core/gateway-methods.ts';
import type { HealthReport } from '../core/service.ts';
import { Gateway } from '../gateway.ts';
import { createFieldMeters, createMetrics } from '../observe/metrics.ts';
import { createOutboxObserver } from '../observe/outbox-events.ts';
import { createTelemetry } from '../observe/telemetry.ts';
import { startEventLoopMeter } from '../platform/event-loop.ts';
import { makeDirectory } from '../platform/files.ts';
import { createHostMonitor } from '../platform/host.ts';
import { systemRandom } from '../platform/random.ts';
import { openOutbox } from '../store/open.ts';
import { openStateStore } from '../store/state/open.ts';
import type { DaemonOptions } from './options.ts';

export type Observed = ReturnType<typeof observe>;

/** Metrics, events and meters, which outlive a gateway that is built anew. */
export function observe({ clock, log, dataDirectory }: DaemonOptions) {
  const metrics = createMetrics();
  const telemetry = createTelemetry({ log, clock, counters: metrics.counters });
  return {
    metrics,
    telemetry,
    observer: createOutboxObserver(telemetry, metrics),
    meters: createFieldMeters(metrics, telemetry),
    eventLoop: startEventLoopMeter(clock),
    host: createHostMonitor(clock, dataDirectory),
  };
}

/** The gateway on the store of the data directory. @throws GatewayError as `openOutbox` does. */
export function startGateway(
  options: DaemonOptions,
  observed: Observed,
  config: GatewayConfig,
  methods: GatewayMethods,
): Promise<Gateway> {
  const { clock, log, modules, heads, env, dataDirectory } = options;
  return Gateway.start({
    config,
    methods,
    modules,
    heads,
    env,
    simulate: options.simulate ?? false,
    clock,
    random: systemRandom,
    log,
    telemetry: observed.telemetry,
    meters: observed.meters,
    dataDirectory,
    captureDirectory: join(dataDirectory, 'files', 'captures'),
    openState: () =>
      openStateStore({ directory: join(dataDirectory, 'db', 'state'), clock, telemetry: observed.telemetry }),
    openOutbox: ({ gatewayId, outbox }, { queues }) =>
      openOutbox({
        directory: join(dataDirectory, 'db', 'log'),
        gatewayId,
        clock,
        random: systemRandom,
        settings: outbox,
        queues,
        onEvent: observed.observer.onEvent,
        log: log.child({ part: 'outbox' }),
      }),
  });
}

/** What the outbox tells of its writes, and whether it is full. */
export function outboxHealth(health: HealthReport, gateway: Gateway): HealthReport {
  if (health.status !== 'running' || !gateway.outbox.stats().full) return health;
  const reason = 'The outbox reached a limit of `outbox:`; see whether its endpoints take messages.';
  return { status: 'degraded', reason };
}

/** @throws GatewayError GW_DATA_DIRECTORY. */
export async function prepareDirectory(path: string): Promise<void> {
  try {
    await makeDirectory(path);
  } catch (error) {
    if (isGatewayError(error)) throw error;
    throw new GatewayError(
      'GW_DATA_DIRECTORY',
      `The data directory ${path} cannot be made: ${errorText(error)} (${systemCode(error) ?? 'no system code'}). Name another with --data, or give this user the right to write there.`,
      { cause: error },
    );
  }
}
