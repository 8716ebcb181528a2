// Puts what the gateway's parts know into one port for the web server, the control socket and the command line. It keeps
// nothing of its own but the count of live subscribers.

import type {
  AdminApi,
  ConfigAdmin,
  DeviceQuery,
  DeviceView,
  GatewayStatus,
  HealthSummary,
  Page,
  WriteRequest,
} from '../core/admin.ts';
import type { Clock } from '../core/clock.ts';
import { isDeviceId, parseDeviceId, type DeviceId, type DeviceState } from '../core/device.ts';
import { GatewayError } from '../core/errors.ts';
import type { HubAdmin } from '../core/hub/admin.ts';
import { LIMITS } from '../core/limits.ts';
import type { Outbox } from '../core/outbox.ts';
import type { PointValue } from '../core/reading.ts';
import type { HealthReport, ServiceStatus } from '../core/service.ts';
import { isoTime } from '../core/time.ts';
import type { AdapterStatus } from '../devices/adapter-supervisor.ts';
import type { DeviceRegistry, RegisteredDevice } from '../devices/device-registry.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import type { PointCache } from '../devices/point-cache.ts';
import { summarizeHealth, type HealthPart } from '../observe/health.ts';
import type { MetricsSnapshot } from '../observe/metric-rows.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { TelemetryHub } from '../observe/telemetry.ts';
import type { EventLoopMeter } from '../platform/event-loop.ts';
import type { HostMonitor } from '../platform/host.ts';
import type { EndpointStatus } from '../upstream/endpoint-runner.ts';
import { createBufferAdmin } from './buffer-admin.ts';
import { deviceView, endpointView, writeView } from './views.ts';

/** One endpoint at work, as the admin port sees it. */
export interface EndpointSource {
  readonly type: string;
  /** What a newcomer may do to see what arrives there. */
  readonly hint?: string;
  status(): EndpointStatus;
  health(): HealthReport;
}

export interface AdminOptions {
  readonly gatewayId: DeviceId;
  readonly version: string;
  readonly clock: Clock;
  readonly outbox: Outbox;
  /** How the outbox is, by its events (observe/outbox-events.ts) and its limits. */
  readonly outboxHealth: () => HealthReport;
  readonly registry: DeviceRegistry;
  readonly points: PointCache;
  readonly dispatcher: Dispatcher;
  readonly adapters: () => readonly AdapterStatus[];
  readonly endpoints: () => readonly EndpointSource[];
  readonly config: ConfigAdmin;
  readonly hub: HubAdmin;
  /** Further parts: the configuration, the web server, the control socket, … */
  readonly parts: () => readonly HealthPart[];
  /** What makes no progress (observe/watchdog.ts). */
  readonly stalled: () => readonly string[];
  readonly started: () => boolean;
  /** Present values of what limits bound, beyond those that the admin port knows itself. */
  readonly inUse?: () => MetricsSnapshot['inUse'];
  readonly metrics: Metrics;
  readonly telemetry: TelemetryHub;
  readonly eventLoop: EventLoopMeter;
  readonly host: HostMonitor;
  readonly scan: AdminApi['scan'];
}

const PAGE_DEVICES = 100;
const PAGE_DEVICES_MAX = 1000;

export function createAdmin(options: AdminOptions): AdminApi {
  const { clock, outbox, points, metrics } = options;
  const startedAtMs = clock.wallMs();
  const startedMonotonicMs = clock.monotonicMs();
  let subscribers = 0;

  function health(): HealthSummary {
    return summarizeHealth({ parts: healthParts(options), started: options.started(), stalled: options.stalled() });
  }

  function status(): GatewayStatus {
    const memory = process.memoryUsage();
    return {
      gatewayId: options.gatewayId,
      version: options.version,
      startedAt: isoTime(startedAtMs),
      uptimeSecs: Math.floor((clock.monotonicMs() - startedMonotonicMs) / 1000),
      time: isoTime(clock.wallMs()),
      clock: clock.quality(),
      health: health(),
      adapters: adapterViews(options),
      endpoints: options.endpoints().map((endpoint) => endpointView(endpoint.type, endpoint.status(), endpoint.hint)),
      outbox: outbox.stats(),
      config: options.config.view(),
      process: {
        pid: process.pid,
        rssBytes: memory.rss,
        heapUsedBytes: memory.heapUsed,
        eventLoopLagMs: Math.round(options.eventLoop.lag().maxMs),
      },
      host: options.host.view(),
      events: options.telemetry.recent(),
    };
  }

  metrics.setSnapshot(() => metricsSnapshot(options, { health: health(), subscribers, startedAtMs }));

  return {
    gatewayId: options.gatewayId,
    version: options.version,
    status,
    health,
    metrics: () => metrics.render(),
    devices: (query = {}) => devicePage(options, query),
    subscribe(listener) {
      if (subscribers >= LIMITS.web_live_clients) {
        throw new GatewayError(
          'GW_THROTTLED',
          `${LIMITS.web_live_clients} subscribers of live values are connected already. Close one and try again.`,
        );
      }
      subscribers += 1;
      const end = points.subscribe(({ deviceId }) => listener({ deviceId }));
      let ended = false;
      return () => {
        if (ended) return;
        ended = true;
        subscribers -= 1;
        end();
      };
    },
    buffer: createBufferAdmin(outbox),
    hub: options.hub,
    config: options.config,
    scan: (request, watch) => options.scan(request, watch),
    identify: async (deviceId) => options.dispatcher.identify(parseDeviceId(deviceId)),
    audit: (page) => options.dispatcher.audit(page),
    async write(request, actor) {
      const write = { deviceId: parseDeviceId(request.deviceId), point: request.point, value: pointValue(request) };
      return writeView(await options.dispatcher.write(write, { actor }));
    },
  };
}

/** @throws GatewayError GW_USAGE when the text of an integer is none. */
function pointValue({ value, integer }: WriteRequest): PointValue {
  if (integer !== true) return value;
  if (typeof value === 'string' && /^-?\d{1,20}$/.test(value)) return BigInt(value);
  throw new GatewayError('GW_USAGE', `"${value}" is not an integer of at most 64 bits.`);
}

function healthParts(options: AdminOptions): readonly HealthPart[] {
  const part = (name: string, report: HealthReport): HealthPart => ({ part: name, report, essential: false });
  return [
    { part: 'outbox', report: options.outboxHealth(), essential: true },
    ...options.adapters().map(({ adapterId, health }) => part(`adapter ${adapterId}`, health)),
    ...options.endpoints().map((endpoint) => part(`endpoint ${endpoint.status().name}`, endpoint.health())),
    ...options.parts(),
  ];
}

type StateCounts = Record<DeviceState, number>;
const noDevices = (): StateCounts => ({ unknown: 0, good: 0, degraded: 0, offline: 0 });

function adapterViews({ adapters, registry }: AdminOptions): GatewayStatus['adapters'] {
  const counts = new Map<string, StateCounts>();
  for (const { adapterId, state } of registry.list()) {
    const count = counts.get(adapterId) ?? noDevices();
    count[state] += 1;
    counts.set(adapterId, count);
  }
  return adapters().map(({ adapterId, type, health }) => ({
    adapterId,
    type,
    health,
    devices: counts.get(adapterId) ?? noDevices(),
  }));
}

/** @throws GatewayError GW_USAGE for a limit out of range. */
function devicePage({ registry, points, clock }: AdminOptions, query: DeviceQuery): Page<DeviceView> {
  const limit = query.limit ?? PAGE_DEVICES;
  if (!Number.isInteger(limit) || limit < 1 || limit > PAGE_DEVICES_MAX) {
    throw new GatewayError('GW_USAGE', `A page has 1 to ${PAGE_DEVICES_MAX} devices, not ${limit}.`);
  }
  const { state, after = '', withPoints = true } = query;
  const found = candidates(registry, query)
    .filter((device) => device.deviceId > after && (state === undefined || device.state === state))
    .sort((a, b) => (a.deviceId < b.deviceId ? -1 : 1));
  const items = found
    .slice(0, limit)
    .map((device) => deviceView(device, withPoints ? points.points(device.deviceId) : [], clock));
  const last = items.at(-1);
  return { items, ...(found.length > limit && last !== undefined ? { next: last.deviceId } : {}) };
}

function candidates(registry: DeviceRegistry, { deviceId, adapterId }: DeviceQuery): RegisteredDevice[] {
  if (deviceId === undefined) return [...registry.list(adapterId)];
  const device = isDeviceId(deviceId) ? registry.get(deviceId) : undefined;
  return device === undefined || (adapterId !== undefined && device.adapterId !== adapterId) ? [] : [device];
}

interface SnapshotFacts {
  readonly health: HealthSummary;
  readonly subscribers: number;
  readonly startedAtMs: number;
}

function metricsSnapshot(options: AdminOptions, facts: SnapshotFacts): MetricsSnapshot {
  const adapters: Partial<Record<ServiceStatus, number>> = {};
  for (const { health } of options.adapters()) adapters[health.status] = (adapters[health.status] ?? 0) + 1;
  const devices = noDevices();
  for (const { state } of options.registry.list()) devices[state] += 1;
  const outbox = options.outbox.stats();
  const memory = process.memoryUsage();
  const cpu = process.cpuUsage();
  return {
    version: options.version,
    outbox,
    health: facts.health,
    endpoints: options.endpoints().map((endpoint) => {
      const { name, state, bytes, budget } = endpoint.status();
      return { name, connected: state === 'connected', bytes, budget };
    }),
    adapters,
    devices,
    clock: options.clock.quality(),
    eventLoop: options.eventLoop.lag(),
    memory: { rssBytes: memory.rss, heapUsedBytes: memory.heapUsed },
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
    startedAtSecs: facts.startedAtMs / 1000,
    inUse: {
      outbox_waiting_messages: outbox.waitingAppends,
      outbox_untold_losses: outbox.untoldLosses,
      quarantine_messages: outbox.quarantined,
      points: options.points.size,
      devices: options.registry.list().length,
      adapters: options.adapters().length,
      endpoints: options.endpoints().length,
      recent_events: options.telemetry.recent().length,
      web_live_clients: facts.subscribers,
      ...options.inUse?.(),
    },
  };
}
